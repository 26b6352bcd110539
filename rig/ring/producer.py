"""
The writing end of a ring.

What must stay true: nothing that the consumer has not freed is overwritten, and nothing is visible to it before the one store
of the tail in `publish` or `put`. The tail is kept nowhere but in the shared memory, so a producer that is killed or interrupted
at any point leaves a ring that its successor continues; what was claimed and not published has never been there.

Source: Aeron, `SpscRingBuffer`; Lamport, "Specifying Concurrent Program Modules" (1983), for the two cursors.
"""

import struct

from rig.errors import LocalProtocolError, RingFull
from rig.ring.layout import (
    ALIGNMENT,
    HEAD,
    HEADER_SIZE,
    NOTE,
    NOTE_NEXT,
    NOTE_TAIL,
    ORDERED_BY_PROCESSOR,
    PADDING,
    RECORD,
    TAIL,
    RingMemory,
    fence,
)

_OVERHEAD = HEADER_SIZE + ALIGNMENT - 1
"""A record takes `(size + _OVERHEAD) & -ALIGNMENT`: `layout.record_size` spelled out, as every record pays for the call."""


class Producer:
    """The one writer of a ring. Two at a time would destroy it."""

    __slots__ = ("_base", "_capacity", "_claimed", "_data", "_limit", "_max_payload", "_words")

    def __init__(self, memory: RingMemory) -> None:
        """
        Continue at the stored tail.

        Args:
            memory: The ring. It must stay open as long as the producer is used.

        Raises:
            ValueError: If `memory` is closed.
        """
        self._data = memory.data
        self._words = memory.words
        self._base = memory.data_offset
        self._capacity = memory.capacity
        self._max_payload = memory.max_payload
        self._limit: int = memory.words[HEAD] + memory.capacity
        self._claimed: tuple[int, int] | None = None
        memory.words[NOTE_NEXT] = self.note  # that of a record which a predecessor could not publish any more is void

    @property
    def head(self) -> int:
        """Where what is committed ends."""
        return int(self._words[HEAD])

    @property
    def note(self) -> int:
        """The note of the newest published record that has one, a predecessor's included; 0 if there was none."""
        words = self._words
        return int(words[NOTE] if words[NOTE_TAIL] == words[TAIL] else words[NOTE_NEXT])

    @property
    def tail(self) -> int:
        """Where what is published ends: the position after the latest record."""
        return int(self._words[TAIL])

    @property
    def used_bytes(self) -> int:
        """Bytes between head and tail, headers and padding included. A record may need more room than its own size; ask `fits`."""
        return int(self._words[TAIL]) - int(self._words[HEAD])

    def fits(self, size: int) -> bool:
        """
        Say whether a record could be claimed now.

        There is no doorbell from the consumer back to the producer: one that found the ring full asks this every
        millisecond for as long as it is paused. Once it is true it stays true until the next record.

        Args:
            size: Payload bytes, header not included.

        Raises:
            ValueError: If `size` is negative or exceeds an eighth of the capacity: such a record never fits.
        """
        return self._find_room(size) is not None

    def claim(self, size: int) -> int:
        """
        Reserve room for one record and return where its payload goes in `memory.data`.

        The record is invisible to the consumer until `publish`. A record never wraps: where the end of the buffer
        is too short, it is padded and the record starts over. A claim that is not published is forgotten by the next.

        Args:
            size: Payload bytes, header not included.

        Raises:
            RingFull: If the consumer has not freed enough room.
            ValueError: If `size` is negative or exceeds an eighth of the capacity.

        Source: Aeron, SPSC ring buffer.
        """
        start = self._reserve(size)
        self._claimed = (start, size)
        return self._base + start % self._capacity + HEADER_SIZE

    def publish(self, *, kind: int, count: int = 1, time_ns: int = 0) -> None:
        """
        Make the claimed record visible, with the padding before it if there is any.

        Args:
            kind: What the payload is, 1 to 65535.
            count: Events in the payload.
            time_ns: CLOCK_MONOTONIC in nanoseconds when the payload was received.

        Raises:
            LocalProtocolError: If nothing is claimed.
            ValueError: If `kind`, `count` or `time_ns` does not fit its field. The claim stays.
        """
        if self._claimed is None:
            raise LocalProtocolError("there is nothing to publish: claim room for a record first")
        start, size = self._claimed
        self._write_header(self._base + start % self._capacity, size, kind=kind, count=count, time_ns=time_ns)
        self._claimed = None
        if not ORDERED_BY_PROCESSOR:
            fence()
        self._words[TAIL] = start + ((size + _OVERHEAD) & -ALIGNMENT)

    def put(self, payload: bytes | bytearray, *, kind: int, count: int = 1, time_ns: int = 0, note: int = 0) -> None:
        """
        Claim, fill and publish in one call, with one copy of the payload. A claim not yet published is forgotten.

        Args:
            payload: At most an eighth of the capacity.
            kind: What the payload is, 1 to 65535.
            count: Events in the payload.
            time_ns: CLOCK_MONOTONIC in nanoseconds when the payload was received.
            note: For a successor: see `note`. 0 leaves the one that there is.

        Raises:
            RingFull: If the consumer has not freed enough room. Nothing has happened then.
            ValueError: If the payload is too large, or `kind`, `count` or `time_ns` does not fit its field.
        """
        size = len(payload)
        start = self._reserve(size)
        at = self._base + start % self._capacity
        self._write_header(at, size, kind=kind, count=count, time_ns=time_ns)
        at += HEADER_SIZE
        self._data[at : at + size] = payload
        if note:
            self._write_note(note)
        if not ORDERED_BY_PROCESSOR:
            fence()
        self._words[TAIL] = start + ((size + _OVERHEAD) & -ALIGNMENT)

    def _reserve(self, size: int) -> int:
        """Return the position of the next record, once there is room and the padding before it is written."""
        self._claimed = None
        start = self._find_room(size)
        if start is None:
            raise RingFull(f"a record of {size} bytes does not fit until the consumer commits: wait until `fits({size})` is true")
        tail = self._words[TAIL]
        if start - tail >= HEADER_SIZE:
            at = self._base + tail % self._capacity
            RECORD.pack_into(self._data, at, start - tail - HEADER_SIZE, PADDING, 0, 0, 0, 0)
        return start

    def _find_room(self, size: int) -> int | None:
        """
        Return where a record would start, or None if there is no room for it yet.

        The consumer's cache line is looked at only where the head seen last is not enough.
        """
        if not 0 <= size <= self._max_payload:
            raise ValueError(f"a payload of {size} bytes cannot go through this ring: it takes at most {self._max_payload}")
        start: int = self._words[TAIL]
        needed = (size + _OVERHEAD) & -ALIGNMENT
        rest = self._capacity - start % self._capacity
        if needed > rest:
            start += rest
        if start + needed > self._limit:
            self._limit = self._words[HEAD] + self._capacity
            if not ORDERED_BY_PROCESSOR:
                fence()
            if start + needed > self._limit:
                return None
        return start

    def _write_note(self, note: int) -> None:
        """Say what the note will be once the tail has moved; wherever this is interrupted, the old one holds."""
        words = self._words
        words[NOTE] = self.note
        words[NOTE_TAIL] = words[TAIL]
        words[NOTE_NEXT] = note

    def _write_header(self, at: int, size: int, *, kind: int, count: int, time_ns: int) -> None:
        if kind == PADDING:
            raise ValueError("kind 0 is padding: use 1 to 65535")
        try:
            RECORD.pack_into(self._data, at, size, kind, 0, count, 0, time_ns)
        except struct.error as exc:
            raise ValueError(f"kind {kind}, count {count} or time_ns {time_ns} does not fit its field: {exc}") from exc
