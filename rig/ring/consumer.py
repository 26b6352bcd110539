"""
The reading end of a ring.

A consumer reads ahead of what it commits: `poll` moves a position of its own, `commit` moves the head in the shared memory, and
only the latter frees room. Its successor starts at the head. What must stay true: whatever the bytes are, `poll` ends, reads
nothing outside what was published, and either returns whole records or raises.

Source: Aeron, `SpscRingBuffer.read`.
"""

import msgspec

from rig.errors import LocalProtocolError, RemoteProtocolError
from rig.ring.layout import (
    HEAD,
    HEADER_SIZE,
    ORDERED_BY_PROCESSOR,
    PADDING,
    POLL_LIMIT,
    RECORD,
    TAIL,
    RingMemory,
    fence,
    record_size,
)


class Record(msgspec.Struct, frozen=True, gc=False):
    """
    One record, copied out of the ring.

    Attributes:
        position: Where it starts: its name for as long as the ring exists.
        end: Where it ends; `Consumer.commit` moves the head there.
        kind: What the payload is, 1 to 65535.
        count: Events in the payload.
        time_ns: CLOCK_MONOTONIC in nanoseconds when the payload was received.
        payload: The bytes.
    """

    position: int
    end: int
    kind: int
    count: int
    time_ns: int
    payload: bytes


class Consumer:
    """The one reader of a ring. Two at a time would read everything twice and free what the other still needs."""

    __slots__ = ("_base", "_data", "_mask", "_memory", "_position", "_words")

    def __init__(self, memory: RingMemory, *, start: int | None = None) -> None:
        """
        Start at the committed head: what a predecessor polled and did not commit comes again.

        Args:
            memory: The ring. It must stay open as long as the consumer is used.
            start: Where to start instead, for one that only looks: where a record ends that nothing has overwritten since.

        Raises:
            ValueError: If `memory` is closed.
        """
        self._memory = memory
        self._data = memory.data
        self._words = memory.words
        self._base = memory.data_offset
        self._mask = memory.capacity - 1
        self._position: int = memory.words[HEAD] if start is None else start

    @property
    def position(self) -> int:
        """Where `poll` goes on reading."""
        return self._position

    @property
    def pending(self) -> bool:
        """True if `poll` has something to return or to raise."""
        return bool(self._words[TAIL] != self._position)

    def poll(self, limit: int = POLL_LIMIT) -> list[Record]:
        """
        Return the records published since the last poll, oldest first, and read on after them next time.

        Args:
            limit: At most this many. A caller that keeps progress passes READ_AHEAD less what it has not committed.

        Raises:
            RemoteProtocolError: If the next record cannot be one. The good records before it are returned first; after that
                every poll raises, because there is no way to find the next record.
        """
        position, tail = self._position, self._words[TAIL]
        records: list[Record] = []
        if position == tail:
            return records
        if not 0 < tail - position <= self._mask + 1:
            raise RemoteProtocolError(f"the ring is damaged: its tail is {tail}, which cannot be with {position} read")
        if not ORDERED_BY_PROCESSOR:
            fence()
        while position < tail and len(records) < limit:
            offset = position & self._mask
            rest = self._mask + 1 - offset
            if rest < HEADER_SIZE:
                position += rest
                continue
            at = self._base + offset
            length, kind, flags, count, _, time_ns = RECORD.unpack_from(self._data, at)
            end = position + record_size(length)
            if kind == PADDING and flags == 0 and length == rest - HEADER_SIZE:
                position += rest
                continue
            if self._is_impossible(length, kind, flags=flags, end=end, limit=min(tail, position + rest)):
                if records:
                    break
                raise RemoteProtocolError(f"the ring is damaged at {position}: length {length}, kind {kind}, flags {flags}")
            at += HEADER_SIZE
            records.append(Record(position, end, kind, count, time_ns, self._data[at : at + length]))
            position = end
        self._position = position
        return records

    def commit(self, record: Record) -> None:
        """
        Free everything up to the end of a record, the records before it included.

        So for several finished records in a row one commit of the last is enough, and the caller must not commit a record
        while one before it is unfinished.

        Args:
            record: One that this consumer polled.

        Raises:
            LocalProtocolError: If it, or one after it, is committed already, or if this consumer has not polled it.
        """
        if not self._words[HEAD] < record.end <= self._position:
            raise LocalProtocolError(
                f"the record that ends at {record.end} cannot be committed: "
                f"committed is up to {self._words[HEAD]}, polled up to {self._position}"
            )
        if not ORDERED_BY_PROCESSOR:
            fence()
        self._words[HEAD] = record.end

    def _is_impossible(self, length: int, kind: int, *, flags: int, end: int, limit: int) -> bool:
        return kind == PADDING or flags != 0 or length > self._memory.max_payload or end > limit
