"""
The records for one worker that must not be lost, while they wait for room: the oldest in spill.db, the newest in memory.

    loaded      read from spill.db, or of an earlier run: the next to go
    unread      in spill.db
    storing     on their way to spill.db
    waiting     in memory, the newest

What must stay true: they leave in this order, whatever moves between the parts and whatever fails; and only what is loaded, or
waits with nothing before it, may leave. No I/O here: `rig.io.spiller` does it.
"""

from collections import deque
from collections.abc import Sequence
from enum import IntEnum

import msgspec

from rig.errors import RemoteProtocolError
from rig.records import decode_spilled
from rig.store import SpillRow

PAGE_BYTES = 256 * 1024
"""What is read from spill.db ahead of its turn; a larger record is read alone."""
TAKE_BYTES = 4 * 1024 * 1024
"""What is written to it at once."""
WHOLE = (1 << 20) - 1
"""More events than any record has."""


class Pause(IntEnum):
    """Whether reading is to pause while a record waits."""

    NEVER = 0
    FOR_A_WHILE = 1
    UNTIL_ROOM = 2


class Waiting(msgspec.Struct, gc=False):
    """
    A record that waits.

    Attributes:
        number: Its place among all that its outlet was given; 0 for those of an earlier life.
        payload: For the ring.
        kind: Likewise.
        count: Events in it.
        time_ns: When they were received.
        pause: Whether reading is to pause meanwhile.
        row: Its id in spill.db; 0 if it is not there.
        index: The place of its first event in that row.
        end: The place after its last one.
        last: False if another record of the same row follows.
        own: False if it is of an earlier run: what it was spilled for, and when its row may go, is not this outlet's alone.
    """

    number: int
    payload: bytes
    kind: int
    count: int
    time_ns: int
    pause: Pause = Pause.FOR_A_WHILE
    row: int = 0
    index: int = 0
    end: int = WHOLE
    last: bool = True
    own: bool = True


class Backlog:
    """
    A queue with its middle on disk.

    Attributes:
        behind: True while records of an earlier run may still come, before everything else.
        stored_id: The newest row that spill.db has for this worker.
        read_id: The newest that was read from there.
        unstored_bytes: What is only in memory.
        loaded_bytes: What is loaded.
    """

    def __init__(self, largest: int) -> None:
        """Start empty; a record of more than `largest` bytes leaves by way of spill.db only."""
        self._largest = largest
        self._loaded: deque[Waiting] = deque()
        self._storing: list[Waiting] = []
        self._waiting: deque[Waiting] = deque()
        self._first_id = 0
        self._pauses = [0, 0, 0]
        """How many of those that wait ask for each pause."""
        self.behind = False
        self.stored_id = self.read_id = 0
        self.unstored_bytes = self.loaded_bytes = 0

    @property
    def empty(self) -> bool:
        """True if nothing waits anywhere."""
        return not (self._loaded or self._waiting or self._storing or self.unread or self.behind)

    @property
    def unread(self) -> bool:
        """True if spill.db has more."""
        return self.read_id < self.stored_id

    @property
    def loaded(self) -> bool:
        """True if something was read and is not in the ring."""
        return bool(self._loaded)

    @property
    def for_the_store(self) -> bool:
        """True if the next record is too large for the ring, and not stored yet."""
        return bool(self._storing) or (bool(self._waiting) and len(self._waiting[0].payload) > self._largest)

    @property
    def waiting_events(self) -> int:
        """Events that are in memory, and nobody stores."""
        return sum(record.count for record in self._waiting)

    @property
    def presses(self) -> bool:
        """True if something waits in memory for which reading is to pause."""
        return self._pauses[Pause.FOR_A_WHILE] > 0 or self.blocks

    @property
    def blocks(self) -> bool:
        """True if something waits in memory for which reading is to pause as long as it takes."""
        return self._pauses[Pause.UNTIL_ROOM] > 0

    @property
    def first_unsafe(self) -> int | None:
        """The smallest number of a record that is only in memory."""
        if self._storing:
            return self._storing[0].number
        return self._waiting[0].number if self._waiting else None

    def add(self, record: Waiting) -> None:
        """Queue a record that has just come."""
        self._waiting.append(record)
        self._pauses[record.pause] += 1
        self.unstored_bytes += len(record.payload)

    def add_left(self, record: Waiting) -> None:
        """Queue a record of an earlier run, which goes before everything else."""
        self._loaded.append(record)
        self.loaded_bytes += len(record.payload)

    def head(self) -> Waiting | None:
        """Return the record whose turn it is; None if there is none, or it has to be read or stored first."""
        if self._loaded:
            return self._loaded[0]
        if self.behind or self.unread or self.for_the_store or not self._waiting:
            return None
        return self._waiting[0]

    def pop(self) -> None:
        """Take the record out whose turn it is."""
        if self._loaded:
            self.loaded_bytes -= len(self._loaded.popleft().payload)
        else:
            record = self._take_first()
            self.unstored_bytes -= len(record.payload)

    # What the store does.

    def take(self, *, everything: bool, blocking: bool) -> Sequence[Waiting]:
        """
        Return the records to be stored now, oldest first; `stored` or `not_stored` follows.

        Args:
            everything: False takes only such as are too large for the ring.
            blocking: True takes those, too, for which reading is to pause instead.
        """
        size = 0
        while self._waiting and size < TAKE_BYTES:
            record = self._waiting[0]
            if len(record.payload) <= self._largest and (not everything or (record.pause is Pause.UNTIL_ROOM and not blocking)):
                break
            self._storing.append(self._take_first())
            size += len(record.payload)
        return self._storing

    def stored(self, ids: Sequence[int]) -> None:
        """Note that what was taken is in spill.db; the beginning of a queue stays in memory, so that it need not be read back."""
        keep = not self.unread and not self.behind
        self._first_id = self._first_id or ids[0]
        for record, row in zip(self._storing, ids, strict=True):
            self.unstored_bytes -= len(record.payload)
            keep = keep and (self.loaded_bytes < PAGE_BYTES)
            if keep:
                record.row = self.read_id = row
                self._loaded.append(record)
                self.loaded_bytes += len(record.payload)
        self.stored_id = ids[-1]
        self._storing = []

    def not_stored(self) -> None:
        """Note that the store took nothing of it."""
        self._waiting.extendleft(reversed(self._storing))
        for record in self._storing:
            self._pauses[record.pause] += 1
        self._storing = []

    def load(self, rows: Sequence[SpillRow]) -> int:
        """
        Take the next rows of spill.db; none if it has no more, whatever was thought.

        Return how many events are in rows that cannot be read, and are passed over.
        """
        unreadable = 0
        if not rows:
            self.read_id = self.stored_id
        for row in rows:
            self.read_id = row.id
            try:
                number, payload = decode_spilled(row.record)
            except RemoteProtocolError:
                unreadable += row.count
                continue
            number = number if 0 < self._first_id <= row.id else 0
            self._loaded.append(Waiting(number, payload, row.kind, row.count, row.time_ns, row=row.id))
            self.loaded_bytes += len(payload)
        return unreadable

    def give_up(self) -> int:
        """Drop the records at the head that only the store could take, and return how many events that are."""
        events = 0
        while not self._storing and self.for_the_store:
            record = self._take_first()
            self.unstored_bytes -= len(record.payload)
            events += record.count
        return events

    def _take_first(self) -> Waiting:
        record = self._waiting.popleft()
        self._pauses[record.pause] -= 1
        return record
