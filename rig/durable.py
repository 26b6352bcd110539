"""
What makes a push durable: its idempotency key, the place of that in the payload, and `rig.enqueue`.

The key is what the server can tell a repeated push by: it stays the same over every retry, reconnect and restart. What must stay
true: whoever stores a push, a worker or a command, makes key and payload here.

Source: RFC 9562, section 5.7 (UUIDv7), with the clock's finer digits in `rand_a` (section 6.2, method 3): keys of one process
grow, so that an index of them is appended to.
"""

import asyncio
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import msgspec

from rig.errors import LocalProtocolError

_LONGEST_KEY = 255
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Outbox(Protocol):
    """Where `enqueue` stores: the context of a worker, for one."""

    async def enqueue(self, topic: str, event: str, payload: Any, *, key: str | None, ttl: float | None) -> str:
        """Store a push, and return its key once it is stored."""


class _Host(NamedTuple):
    outbox: Outbox
    loop: asyncio.AbstractEventLoop


_hosts: list[_Host] = []


async def enqueue(topic: str, event: str, payload: Any = None, *, key: str | None = None, ttl: float | None = None) -> str:
    """
    Store a push, and return its idempotency key as soon as it cannot be lost any more.

    It is sent when there is a connection, after those that were stored for the same topic before, and as often as it takes until
    the server has answered `ok`; the server sees the same key each time. For all code of a worker: handlers, the lifespan, tasks.
    A plain `def` handler has no loop, and writes `asyncio.run(rig.enqueue(…))`.

    Args:
        topic: The channel's topic. One that no handler joins is joined for this.
        event: The event's name.
        payload: Plain objects, structs or dataclasses that make a JSON object, since the key goes into it; with an empty
            `--idempotency-field` anything that can be pushed. None pushes `{}`.
        key: The idempotency key, up to 255 characters; None makes one. A push whose key is still waiting is not stored twice,
            so an event that is handled twice stores one push if the key is made of the event.
        ttl: Seconds after which it is not sent any more, but put with the dead letters; None takes `--outbox-ttl`.

    Raises:
        LocalProtocolError: If an argument cannot be sent, or no worker runs this code.
        OutboxFull: If the outbox holds `--outbox-max-bytes`.
        StoreFailed: If it could not be stored: the disk is full, for one. Whoever wants may try again.
    """
    if not _hosts:
        raise LocalProtocolError(
            "rig.enqueue stores by way of a worker, and this process is none: "
            "call it in code that rig run runs, or store with rig push --durable"
        )
    host = _hosts[-1]
    call = host.outbox.enqueue(topic, event, {} if payload is None else payload, key=key, ttl=ttl)
    if asyncio.get_running_loop() is host.loop:
        return await call
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, host.loop))


@contextmanager
def enqueueing_by(outbox: Outbox) -> Iterator[None]:
    """Let `enqueue` store by this outbox, which belongs to the running loop, for as long as the block takes."""
    host = _Host(outbox, asyncio.get_running_loop())
    _hosts.append(host)
    try:
        yield
    finally:
        _hosts.remove(host)


def make_key() -> str:
    """Return a new idempotency key."""
    millis, rest = divmod(time.time_ns(), 1_000_000)
    number = millis << 80 | 7 << 76 | (rest * 4096 // 1_000_000) << 64 | 2 << 62 | int.from_bytes(os.urandom(8)) >> 2
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_key(key: str) -> None:
    """
    Insist that a key can be one.

    Raises:
        LocalProtocolError: If it is no text of 1 to 255 characters, or cannot be encoded.
    """
    try:
        fits = bool(key.encode()) and len(key) <= _LONGEST_KEY
    except (AttributeError, UnicodeEncodeError):
        fits = False
    if not fits:
        raise LocalProtocolError(f"key={key!r:.80}: write a text of 1 to {_LONGEST_KEY} characters, or leave it out")


def expiry(ttl: float | None, default: float) -> float | None:
    """
    Return the unix time at which a push expires, None for never.

    Args:
        ttl: Seconds as the caller says; None takes the default.
        default: Seconds, 0 for never.

    Raises:
        LocalProtocolError: If the time to live is not a positive number.
    """
    if ttl is None:
        return time.time() + default if default else None
    if not isinstance(ttl, int | float) or not 0 < ttl < math.inf:
        raise LocalProtocolError(f"ttl={ttl!r}: write seconds, more than 0, or leave it out")
    return time.time() + ttl


def with_key(payload: bytes, field: str, key: str) -> bytes:
    """
    Return a JSON object with the key as its first field.

    Args:
        payload: JSON text.
        field: The field's name; empty returns the payload as it is.
        key: The idempotency key.

    Raises:
        LocalProtocolError: If the payload is no object, or has a field of that name.
    """
    if not field:
        return payload
    try:
        fields = _fields(payload)
    except (msgspec.DecodeError, RecursionError):
        raise LocalProtocolError(
            f"the payload is no JSON object, so the idempotency key cannot travel in it as {field!r}: "
            "push an object, or send no key with an empty --idempotency-field"
        ) from None
    if field in fields:
        raise LocalProtocolError(
            f"the payload has a field {field!r} of its own: give the key as key=, or choose another --idempotency-field"
        )
    return msgspec.json.encode({field: key, **fields})
