"""
What is inside a record: how events, pushes and their results travel between the io process and a worker.

    kind            payload                                                          ring
    EVENTS          JSON [[topic, event, …], [number, …], [payload, …]]              events
    EVENTS_BINARY   u32 length of a header, JSON [[topic, event, …], [number, …],    events
                    [length, …]], then the payloads' bytes
    PUSHES          MessagePack list of PushRequest                                  pushes
    RESULTS         MessagePack list of PushResult                                   replies
    RESET           MessagePack integer, see `encode_reset`                          replies
    ENQUEUE         MessagePack list of EnqueueRequest                               storage
    DEAD_LETTERS    MessagePack list of DeadLetter                                   storage
    GAP             JSON of a `rig.gap.Gap`; it counts no event                      events
    STATE           MessagePack `rig.State`                                          replies
    STORED          MessagePack list of two integers, see `encode_stored`            events

A record of events says each (topic, event) once; the number of an event counts these pairs. The io process keeps the pairs
from one record to the next, so that the names are mostly the same bytes, which the worker has seen. Payloads travel as the JSON
text that came: the io process has parsed it, so a record always can be read, and it is decoded once more only, into the
handler's own type. Leaving the envelopes out saves the worker a third of its work, and hides the protocol's version.

What becomes of an ENQUEUE travels as RESULTS, too: its outcome is STORED, STORE_FAILED or OUTBOX_FULL.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, TypeAlias

import msgspec

from rig.app import State
from rig.errors import RemoteProtocolError
from rig.gap import Gap

_LENGTH = struct.Struct("<I")
_NUMBER = struct.Struct("<Q")


class Kind(IntEnum):
    """The `kind` of a record."""

    EVENTS = 1
    EVENTS_BINARY = 2
    PUSHES = 3
    RESULTS = 4
    RESET = 5
    ENQUEUE = 6
    DEAD_LETTERS = 7
    GAP = 8
    STATE = 9
    STORED = 10


class Outcome(IntEnum):
    """What became of a push; from STORED on, of one that is to be stored."""

    REPLIED = 0
    TIMED_OUT = 1
    INTERRUPTED = 2
    REJECTED = 3
    STORED = 4
    STORE_FAILED = 5
    """The response is a JSON list of what `StoreFailed` takes."""
    OUTBOX_FULL = 6
    """The response is a JSON list of what `OutboxFull` takes."""


class PushRequest(msgspec.Struct, array_like=True, gc=False):
    """
    A worker's wish to push.

    Attributes:
        id: The worker's own number for it.
        topic: The channel's topic.
        event: The event's name.
        payload: JSON text, or the bytes of a binary push.
        binary: Which of the two.
        timeout: Seconds.
        reply: False if no result is wanted.
    """

    id: int
    topic: str
    event: str
    payload: bytes
    binary: bool
    timeout: float
    reply: bool


class PushResult(msgspec.Struct, array_like=True, gc=False):
    """
    What became of a push.

    Attributes:
        id: That of the request.
        outcome: See `Outcome`.
        text: The reply's status, or the reason where there is no reply.
        response: JSON text, or the bytes of a binary reply.
        binary: Which of the two.
    """

    id: int
    outcome: int
    text: str
    response: bytes
    binary: bool


class EnqueueRequest(msgspec.Struct, array_like=True, gc=False):
    """
    A worker's wish to have a push stored.

    Attributes:
        id: The worker's own number for it.
        key: The idempotency key.
        topic: The channel's topic.
        event: The event's name.
        payload: JSON text with the key in it, or the bytes of a binary push.
        binary: Which of the two.
        expires_at: Unix seconds after which it is not sent any more; None: never.
    """

    id: int
    key: str
    topic: str
    event: str
    payload: bytes
    binary: bool
    expires_at: float | None


class DeadLetter(msgspec.Struct, array_like=True, gc=False):
    """
    An event that a handler was given up on.

    Attributes:
        topic: Where it came from.
        event: Its name.
        handler: Which handler it was, as `module.function`.
        reason: One sentence.
        traceback: Of the handler's last failure; empty if it never ran.
        payload: As it came: JSON text, or bytes if binary.
        binary: Which of the two.
        worker: The number of the worker.
        received_at: Unix seconds at which the io process had it.
    """

    topic: str
    event: str
    handler: str
    reason: str
    traceback: str
    payload: bytes
    binary: bool
    worker: int
    received_at: float


Events: TypeAlias = tuple[msgspec.Raw, list[int], Sequence[Any]]
"""The names for `decode_names`, the number of each event, and its payload: `msgspec.Raw`, or bytes if binary."""

_json = msgspec.json.Encoder().encode
_names = msgspec.json.Decoder(list[str]).decode
_events = msgspec.json.Decoder(tuple[msgspec.Raw, list[int], list[msgspec.Raw]]).decode
_header = msgspec.json.Decoder(tuple[msgspec.Raw, list[int], list[int]]).decode
_pack = msgspec.msgpack.Encoder().encode
_requests = msgspec.msgpack.Decoder(list[PushRequest]).decode
_results = msgspec.msgpack.Decoder(list[PushResult]).decode
_reset = msgspec.msgpack.Decoder(int).decode
_state = msgspec.msgpack.Decoder(State).decode
_stored = msgspec.msgpack.Decoder(tuple[int, int]).decode
_enqueues = msgspec.msgpack.Decoder(list[EnqueueRequest]).decode
_letters = msgspec.msgpack.Decoder(list[DeadLetter]).decode
_gap = msgspec.json.Decoder(Gap).decode


def encode_names(names: Sequence[str]) -> bytes:
    """Return topics and events, in turn, as `encode_events` wants them."""
    return _json(names)


def decode_names(names: msgspec.Raw) -> list[str]:
    """Return topics and events, in turn."""
    return _names(names)


def encode_events(names: bytes, numbers: Sequence[int], payloads: Sequence[Any], *, binary: bool) -> bytes:
    """
    Return the payload of a record of events.

    Args:
        names: From `encode_names`.
        numbers: For each event, which pair of names is its own.
        payloads: For each event, all `msgspec.Raw`, or all bytes if `binary`.
        binary: Which of the two.
    """
    if not binary:
        return b"[%b,%b,[%b]]" % (names, _json(numbers), b",".join(payloads))
    header = b"[%b,%b,%b]" % (names, _json(numbers), _json([len(payload) for payload in payloads]))
    return b"".join((_LENGTH.pack(len(header)), header, *payloads))


def decode_events(kind: int, payload: bytes) -> Events:
    """
    Return what `encode_events` was given.

    Raises:
        RemoteProtocolError: If the payload is not what the io process puts into a record.
    """
    try:
        if kind == Kind.EVENTS:
            return _events(payload)
        if kind == Kind.EVENTS_BINARY:
            return _split_binary(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, struct.error) as exc:
        raise RemoteProtocolError(f"a record of events that cannot be read: {exc}") from exc
    raise RemoteProtocolError(f"a record of kind {kind} in the events ring")


def encode_requests(requests: Sequence[PushRequest]) -> bytes:
    """Return the payload of a PUSHES record."""
    return _pack(requests)


def decode_requests(payload: bytes) -> list[PushRequest]:
    """Return the pushes of a PUSHES record."""
    return _requests(payload)


def encode_results(results: Sequence[PushResult]) -> bytes:
    """Return the payload of a RESULTS record."""
    return _pack(results)


def decode_results(payload: bytes) -> list[PushResult]:
    """Return the results of a RESULTS record."""
    return _results(payload)


def encode_reset(position: int) -> bytes:
    """
    Return the payload of a RESET record: a new io process has taken over the pushes ring at this position.

    What was pushed before it went to the predecessor, and no result will come.
    """
    return _pack(position)


def decode_reset(payload: bytes) -> int:
    """Return the position of a RESET record."""
    return _reset(payload)


def encode_state(state: State) -> bytes:
    """Return the payload of a STATE record."""
    return _pack(state)


def decode_state(payload: bytes) -> State:
    """Return the state of a STATE record."""
    return _state(payload)


def encode_gap(gap: Gap) -> bytes:
    """Return the payload of a GAP record."""
    return _json(gap)


def decode_gap(payload: bytes) -> Gap:
    """
    Return the gap of a GAP record.

    Raises:
        RemoteProtocolError: If the payload is not what the io process puts into a record.
    """
    try:
        return _gap(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RemoteProtocolError(f"a record of a gap that cannot be read: {exc}") from exc


def encode_stored(row: int, index: int) -> bytes:
    """Return the payload of a STORED record: one event, too large for the ring, that is to be read from a row of spill.db."""
    return _pack((row, index))


def decode_stored(payload: bytes) -> tuple[int, int]:
    """
    Return the row of a STORED record, and the place of its event there.

    Raises:
        RemoteProtocolError: If the payload is not what the io process puts into a record.
    """
    try:
        return _stored(payload)
    except msgspec.DecodeError as exc:
        raise RemoteProtocolError(f"a record that names no row: {exc}") from exc


def encode_spilled(number: int, payload: bytes) -> bytes:
    """Return what a row of spill.db holds: a record's payload, after the number that its outlet has given it."""
    return _NUMBER.pack(number) + payload


def decode_spilled(row: bytes) -> tuple[int, bytes]:
    """
    Return what `encode_spilled` was given.

    Raises:
        RemoteProtocolError: If the row is too short to be one.
    """
    if len(row) < _NUMBER.size:
        raise RemoteProtocolError(f"a spilled record of {len(row)} bytes, which cannot be one")
    return _NUMBER.unpack_from(row)[0], row[_NUMBER.size :]


def encode_enqueues(requests: Sequence[EnqueueRequest]) -> bytes:
    """Return the payload of an ENQUEUE record."""
    return _pack(requests)


def decode_enqueues(payload: bytes) -> list[EnqueueRequest]:
    """Return the pushes of an ENQUEUE record."""
    return _enqueues(payload)


def encode_letters(letters: Sequence[DeadLetter]) -> bytes:
    """Return the payload of a DEAD_LETTERS record."""
    return _pack(letters)


def decode_letters(payload: bytes) -> list[DeadLetter]:
    """Return the letters of a DEAD_LETTERS record."""
    return _letters(payload)


def _split_binary(payload: bytes) -> Events:
    (length,) = _LENGTH.unpack_from(payload)
    position = _LENGTH.size + length
    names, numbers, lengths = _header(payload[_LENGTH.size : position])
    payloads = []
    for size in lengths:
        payloads.append(payload[position : position + size])
        position += size
    return names, numbers, payloads
