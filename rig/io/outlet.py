"""
The way to one worker: its ring, its doorbell, and what waits for room.

A batch goes straight into the ring for as long as nothing waits and there is room. Else what must not be lost goes to the backlog,
what may be dropped to a bounded queue. All that an outlet is given is numbered in the order in which it came, and leaves in that
order, from whichever of the two: so events of one key stay in order, even if their policies differ.
"""

from collections import Counter, deque
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from rig.errors import RingFull
from rig.io.backlog import WHOLE, Backlog, Pause, Waiting
from rig.io.held import Held, HeldEvent
from rig.io.names import NAMES_KEPT, Names
from rig.io.router import DROPPING, Slot
from rig.records import Kind, encode_events, encode_stored
from rig.ring import Doorbell, Producer, RingMemory

_ENDS_KEPT = 256
"""Records in the ring whose commits are looked for only when somebody asks."""
_RUN = 256
"""Held events that make one record."""
_BRIEF_BYTES = 1024 * 1024
"""What may wait for the disk while the worker is not slow, before events are dropped."""


class Delivered(NamedTuple):
    """A row of spill.db whose record is in the ring: where that ends, what the row counts for, and whether it is this run's."""

    end: int
    row: int
    events: int = 0
    size_bytes: int = 0
    own: bool = True


class Committed(NamedTuple):
    """Rows that the worker is done with: the newest of this run's, 0 if none is new, its events, and those of earlier runs."""

    row: int
    events: int
    left: list[int]


class Outlet:
    """
    One worker's.

    Attributes:
        names: What its records refer to.
        numbers: For each event gathered for the next record, the number of its names.
        payloads: For each, its payload.
        queued: How many records and held events it was ever given.
        backlog: What waits and must not be lost.
        held: What waits and may be dropped.
        waits: True if there is any of either.
        delivered: The rows of spill.db that were put into the ring, and are not known to be committed.
    """

    def __init__(self, memory: RingMemory, bell: Doorbell) -> None:
        self._producer, self._bell = Producer(memory), bell
        self._capacity, self._half, self._largest = memory.capacity, memory.capacity // 2, memory.max_payload
        self._ends: deque[tuple[int, int]] = deque()
        self._committed = 0
        self._stored_bytes = 0
        self._dropped: Counter[str] = Counter()
        self._recovered = 0
        self.names = Names()
        self.numbers: list[int] = []
        self.payloads: list[Any] = []
        self.queued = 0
        self.backlog = Backlog(self._largest)
        self.held = Held()
        self.waits = False
        self.delivered: deque[Delivered] = deque()
        bell.ring()  # for what a predecessor published and died before it rang

    # What the dispatcher does.

    def publish(self, time_ns: int, *, binary: bool, keep: bool = False) -> bool:
        """
        Make records of what was gathered, ring the doorbell, and say whether something waits for room.

        Args:
            time_ns: Of now.
            binary: True if all payloads are bytes.
            keep: True drops none of them, whatever their policies are.
        """
        numbers, self.numbers = self.numbers, []
        payloads, self.payloads = self.payloads, []
        kind = Kind.EVENTS_BINARY if binary else Kind.EVENTS
        if keep:
            self._queue_run(numbers, payloads, kind, time_ns)
        else:
            self._take(numbers, payloads, kind, time_ns)
        if self.waits:
            self.flush()
        else:
            if len(self.names) > NAMES_KEPT:
                self.names = Names()
            self._bell.ring()
        return self.waits or bool(self._dropped)

    def send(self, payload: bytes, kind: Kind, *, time_ns: int, count: int = 0) -> bool:
        """
        Put a record that is no batch of events in line, behind all that was published, and say whether something waits.

        Args:
            payload: At most an eighth of the ring.
            kind: Of which the worker knows what it is.
            time_ns: Of now.
            count: Events in it.
        """
        self.queued += 1
        if self.waits or not self._put(payload, kind, count, time_ns, number=self.queued):
            self._queue(Waiting(self.queued, payload, kind, count, time_ns))
        self.flush()
        return self.waits

    def recover(self, events: Sequence[tuple[int, Slot, Any]], *, row: int, binary: bool, time_ns: int) -> None:
        """
        Queue events of an earlier run, before all else.

        Args:
            events: Each with its place in the row.
            row: Where they come from.
            binary: As in `publish`.
            time_ns: Of now.
        """
        kind = Kind.EVENTS_BINARY if binary else Kind.EVENTS
        numbers = [self.number(slot) for _, slot, _ in events]
        for start, stop, record in self._cut(numbers, [payload for _, _, payload in events], kind):
            index, end = events[start][0], events[stop - 1][0] + 1
            last = stop == len(events)
            self.backlog.add_left(
                Waiting(0, record, kind, stop - start, time_ns, row=row, index=index, end=end, last=last, own=False)
            )
        self.waits = True

    def flush(self) -> None:
        """Put what waits into the ring, in order and as far as there is room, and ring the doorbell."""
        backlog, held = self.backlog, self.held
        while True:
            head, first = backlog.head(), held.first
            if first is not None and (backlog.empty or (head is not None and first < head.number)):
                if not self._put_held(None if head is None else head.number):
                    break
            elif head is None or not self._put_waiting(head):
                break
            else:
                backlog.pop()
        self.waits = bool(held) or not backlog.empty
        if len(self.names) > NAMES_KEPT:
            self.names = Names()
        self._bell.ring()

    # Where it stands.

    @property
    def full(self) -> bool:
        """True if something waits in memory for room in the ring, for which reading is to pause."""
        return self.backlog.presses and not self.backlog.for_the_store

    @property
    def roomy(self) -> bool:
        """True if the ring is at most half full, with what is to be read from the disk."""
        return self._producer.used_bytes + self._stored_bytes <= self._half

    @property
    def note(self) -> tuple[int, int]:
        """The newest row of spill.db of which something was put into the ring, by whomever, and how many of its events."""
        return divmod(self._producer.note, WHOLE + 1)

    @property
    def head(self) -> int:
        """Where what the worker has committed ends."""
        return self._producer.head

    @property
    def tail(self) -> int:
        """Where what is in the ring ends."""
        return self._producer.tail

    @property
    def safe(self) -> int:
        """How many of `queued`, from the first on, are in the ring, in spill.db, or dropped."""
        unsafe = [number for number in (self.backlog.first_unsafe, self.held.first) if number is not None]
        return min(unsafe) - 1 if unsafe else self.queued

    @property
    def committed(self) -> int:
        """How many of `queued`, from the first on, the worker has committed, or were dropped."""
        head, ends = self._producer.head, self._ends
        while ends and ends[0][0] <= head:
            self._committed = max(self._committed, ends.popleft()[1])
        if not ends and not self.waits:
            self._committed = self.queued
        return self._committed

    def take_dropped(self) -> Counter[str]:
        """Return how many events were dropped since the last call, by policy."""
        dropped, self._dropped = self._dropped + self.held.dropped, Counter()
        self.held.dropped.clear()
        return dropped

    def take_recovered(self) -> int:
        """Return how many events of an earlier run were put into the ring since the last call."""
        recovered, self._recovered = self._recovered, 0
        return recovered

    def take_committed(self) -> Committed:
        """Return the rows of spill.db that the worker is done with since the last call."""
        head, row, events = self.head, 0, 0
        left: list[int] = []
        while self.delivered and self.delivered[0].end <= head:
            done = self.delivered.popleft()
            self._stored_bytes -= done.size_bytes
            if done.own:
                row, events = done.row, events + done.events
            else:
                left.append(done.row)
        return Committed(row, events, left)

    def give_up(self) -> None:
        """Drop what is too large for the ring, because no store takes it."""
        self._dropped["large"] += self.backlog.give_up()
        self.flush()

    # Inside.

    def _take(self, numbers: list[int], payloads: list[Any], kind: Kind, time_ns: int) -> None:
        if self.waits and self.names.dropping:
            self._sift(numbers, payloads, kind, time_ns)
            return
        names, own = self.names.encode(numbers)
        record = encode_events(names, own, payloads, binary=kind is Kind.EVENTS_BINARY)
        if len(record) > self._largest and len(numbers) > 1:
            half = len(numbers) // 2
            self._take(numbers[:half], payloads[:half], kind, time_ns)
            self._take(numbers[half:], payloads[half:], kind, time_ns)
            return
        number = self.queued + 1
        if not self.waits and len(record) <= self._largest and self._put(record, kind, len(numbers), time_ns, number=number):
            self.queued = number
        elif self.names.dropping and not self._waits_for_the_disk(record):
            self._sift(numbers, payloads, kind, time_ns)
        else:
            self.queued = number
            self._queue(Waiting(number, record, kind, len(numbers), time_ns, self._pause(numbers)))

    def _waits_for_the_disk(self, record: bytes) -> bool:
        return len(record) > self._largest and not self.waits

    def _sift(self, numbers: list[int], payloads: list[Any], kind: Kind, time_ns: int) -> None:
        """Queue each run of events that must not be lost as a record, and hold, or drop, each that may be."""
        slots, binary = self.names.slots, kind is Kind.EVENTS_BINARY
        brief = self.roomy and self.backlog.unstored_bytes < _BRIEF_BYTES and not self.held  # the disk is slow, not the worker

        def droppable(item: tuple[int, Any]) -> bool:
            return not brief and slots[item[0]].overflow in DROPPING

        for dropping, run in groupby(zip(numbers, payloads, strict=True), droppable):
            items = list(run)
            if not dropping:
                self._queue_run([number for number, _ in items], [payload for _, payload in items], kind, time_ns)
                continue
            for number, payload in items:
                self._hold(slots[number], payload, binary=binary, time_ns=time_ns)

    def _hold(self, slot: Slot, payload: Any, *, binary: bool, time_ns: int) -> None:
        if slot.overflow == "drop_newest":
            self._dropped["drop_newest"] += 1
            return
        if self.held.add(HeldEvent(self.queued + 1, slot, payload, binary, time_ns)):
            self.queued += 1
        self.waits = True

    def _queue_run(self, numbers: list[int], payloads: list[Any], kind: Kind, time_ns: int) -> None:
        for start, stop, record in self._cut(numbers, payloads, kind):
            self.queued += 1
            self._queue(Waiting(self.queued, record, kind, stop - start, time_ns, self._pause(numbers[start:stop])))

    def _queue(self, record: Waiting) -> None:
        self.backlog.add(record)
        self.held.note_other(record.number)
        self.waits = True

    def _pause(self, numbers: Sequence[int]) -> Pause:
        """Return what a record of these events asks for: the most that one of them does."""
        names = self.names
        if names.blocking and any(names.slots[number].overflow == "block" for number in numbers):
            return Pause.UNTIL_ROOM
        if names.dropping and all(names.slots[number].overflow in DROPPING for number in numbers):
            return Pause.NEVER
        return Pause.FOR_A_WHILE

    def _cut(self, numbers: list[int], payloads: list[Any], kind: Kind, start: int = 0) -> list[tuple[int, int, bytes]]:
        """Return records with the range of events in each: they fit the ring, but for one of a single event that never does."""
        names, own = self.names.encode(numbers)
        record = encode_events(names, own, payloads, binary=kind is Kind.EVENTS_BINARY)
        if len(record) <= self._largest or len(numbers) == 1:
            return [(start, start + len(numbers), record)]
        half = len(numbers) // 2
        return [
            *self._cut(numbers[:half], payloads[:half], kind, start),
            *self._cut(numbers[half:], payloads[half:], kind, start + half),
        ]

    def number(self, slot: Slot) -> int:
        """Return the number of a slot among the names of the next record; it is given one if it has none."""
        if slot.names is not self.names:
            self.names.enter(slot)
        return slot.number

    def _put(self, payload: bytes, kind: int, count: int, time_ns: int, *, number: int, note: int = 0) -> bool:
        """Put a record into the ring, if there is room."""
        producer, ends = self._producer, self._ends
        try:
            producer.put(payload, kind=kind, count=count, time_ns=time_ns, note=note)
        except RingFull:
            return False
        ends.append((producer.tail, number))
        if len(ends) > _ENDS_KEPT:
            self.committed  # noqa: B018 - forgets those that are
        return True

    def _put_waiting(self, record: Waiting) -> bool:
        note, size = record.row * (WHOLE + 1) + record.end if record.row else 0, len(record.payload)
        if size <= self._largest:
            put = self._put(record.payload, record.kind, record.count, record.time_ns, number=record.number, note=note)
            size = 0
        elif self._stored_bytes and self._stored_bytes + size > self._capacity:
            return False  # what is read from the disk counts as if it lay in the ring
        else:
            payload = encode_stored(record.row, record.index)
            put = self._put(payload, Kind.STORED, record.count, record.time_ns, number=record.number, note=note)
        if put and not record.own:
            self._recovered += record.count
        if put and record.row and record.last:
            self.delivered.append(Delivered(self.tail, record.row, record.count, size, record.own))
            self._stored_bytes += size
        return put

    def _put_held(self, before: int | None) -> bool:
        """Put the first of the held events into the ring, as one record; False if there is no room."""
        run: list[HeldEvent] = []
        size = 0
        for event in self.held:
            size += len(event.payload)
            if run and (len(run) == _RUN or size > self._half // 8 or event.binary != run[0].binary):
                break
            if before is not None and event.number > before:
                break
            run.append(event)
        kind = Kind.EVENTS_BINARY if run[0].binary else Kind.EVENTS
        numbers = [self.number(event.slot) for event in run]
        _, stop, record = self._cut(numbers, [event.payload for event in run], kind)[0]
        if len(record) > self._largest:
            return self._promote(record, kind)
        if not self._put(record, kind, stop, run[0].time_ns, number=run[stop - 1].number):
            return False
        for _ in range(stop):
            self.held.pop()
        return True

    def _promote(self, record: bytes, kind: Kind) -> bool:
        """Let the store have the first held event, which is too large for the ring; drop it if the store has newer ones already."""
        event = self.held.pop()
        if self.backlog.empty:
            self.backlog.add(Waiting(event.number, record, kind, 1, event.time_ns, Pause.NEVER))
        else:
            self._dropped[event.slot.overflow] += 1
        return True
