"""
What a dead io process had put into a ring, committed or not: the bytes of a record stay until another overwrites them.

Nobody writes meanwhile: the one is dead, and its successor looks before it begins.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import structlog

from rig.errors import RemoteProtocolError
from rig.records import Kind, decode_events, decode_names
from rig.ring import Consumer, RingMemory
from rig.ring.layout import TAIL

log = structlog.get_logger()


def readable_bytes(memory: RingMemory) -> int:
    """Return how far back behind the tail records are whole: one that was begun and not published may have spoilt the rest."""
    return memory.capacity - 2 * memory.max_payload


def published(memory: RingMemory, position: int) -> Iterator[tuple[str, str, Any]]:
    """
    Yield topic, event and payload of what was put into a ring from a position on.

    What is too far back is left out, and what cannot be read, with a line in the log.

    Args:
        memory: The ring.
        position: Where a record ended.
    """
    if memory.words[TAIL] - position > readable_bytes(memory):
        log.warning("too much was handed on since the last mark to look through: events may repeat")
        return
    consumer = Consumer(memory, start=position)
    try:
        while records := consumer.poll():
            for record in records:
                if record.kind == Kind.EVENTS:
                    yield from events_of(record.payload)
    except RemoteProtocolError as exc:
        log.error("what a dead io process had handed on cannot be read: events may repeat", reason=str(exc))


def events_of(record: bytes, kind: int = Kind.EVENTS) -> list[tuple[str, str, Any]]:
    """
    Return topic, event and payload of each event in the payload of a record.

    Args:
        record: The payload.
        kind: EVENTS or EVENTS_BINARY.

    Raises:
        RemoteProtocolError: If it is not what the io process puts into a record.
    """
    raw, numbers, payloads = decode_events(kind, record)
    try:
        names = decode_names(raw)
        return [(names[2 * number], names[2 * number + 1], payload) for number, payload in zip(numbers, payloads, strict=True)]
    except (msgspec.DecodeError, IndexError, ValueError) as exc:
        raise RemoteProtocolError(f"a record of events that cannot be read: {exc}") from exc
