"""
From the events ring to the lanes, and back to the commit.

Poll a record, decode it in one call, give each lane its list; when the lists of the oldest record are all finished, commit
it. What is read ahead is bounded, so that the ring keeps pushing back: by events under load, where four large records are
enough to keep every lane busy and still fit the caches, and by records where each holds an event or two.
"""

import asyncio
from collections import deque
from functools import partial

import structlog

from rig.counters import Page
from rig.errors import RemoteProtocolError, StoreFailed
from rig.records import Events, Kind, decode_events
from rig.ring import POLL_LIMIT, READ_AHEAD, Consumer, Doorbell, InHand, Progress, Record, RingMemory
from rig.worker.binding import Bindings
from rig.worker.lane import Item, Lane, OpenRecord
from rig.worker.stored import StoredEvents

EVENTS_AHEAD = 2048
"""Events in open records at which no further record is read; several rings share them, so that the work fits the caches."""
READ_AGAIN = 1.0
"""Seconds after which an event that could not be read from spill.db is tried again; what follows waits, so that order holds."""
PATIENCE = 30.0
"""Seconds for which spill.db may fail before such events are given up."""

log = structlog.get_logger()


class WorkerLoop:
    """Keeps the lanes busy with the events of one ring. All on the loop's thread."""

    def __init__(
        self,
        memory: RingMemory,
        bell: Doorbell,
        bindings: Bindings,
        lanes: list[Lane],
        *,
        page: Page,
        rings: int = 1,
        stored: StoredEvents | None = None,
    ) -> None:
        """
        Take one events ring.

        Args:
            memory: The ring.
            bell: Its doorbell.
            bindings: Know the handlers; shared by the loops of all rings.
            lanes: Do the work; likewise.
            page: The worker's counters.
            rings: How many the worker has. Each may read ahead its own part, whatever the others do, so that none starves.
            stored: Reads the events that are too large for a ring; shared by the loops of all rings.
        """
        self._stored = stored
        self._failing_since: float | None = None
        self._reading_again: asyncio.TimerHandle | None = None
        self._memory, self._loop = memory, asyncio.get_running_loop()
        self._bell, self._bindings, self._lanes, self._page = bell, bindings, lanes, page
        # A quarter is a full record: with one more, the next is there when it is finished.
        self._ahead = EVENTS_AHEAD if rings == 1 else max(EVENTS_AHEAD // rings, EVENTS_AHEAD // 4 + 1)
        self._poll_limit = max(POLL_LIMIT // rings, 1)
        self._consumer = Consumer(memory)
        self._progress = Progress(memory)
        self._open: deque[OpenRecord] = deque()
        self._open_events = 0
        self._quarantined: dict[int, list[InHand]] = {}
        self._idle = asyncio.Event()
        self._filling: asyncio.Handle | None = None

    def start(self) -> None:
        """Take over what a predecessor left, then read whenever the doorbell rings."""
        left = self._progress.take_over()
        self._page.add("redelivered", len(left.in_hand))
        for item in left.quarantined:
            self._quarantined.setdefault(item.position, []).append(item)
        asyncio.get_running_loop().add_reader(self._bell.fd, self._rung)
        self._fill()

    def stop(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._bell.fd)
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None
        if self._reading_again is not None:
            self._reading_again.cancel()

    def read_no_more(self) -> None:
        """Leave what is not read yet to a successor."""
        self._ahead = 0

    async def wait_finished(self) -> None:
        """Return when everything that was read is handled and committed."""
        while self._open:
            self._idle.clear()
            await self._idle.wait()

    async def wait_idle(self) -> None:
        """Return when everything in the ring is handled and committed, even what no doorbell announced."""
        self._fill()
        while self._open or self._consumer.pending:
            self._idle.clear()
            await self._idle.wait()

    def record_finished(self) -> None:
        """Commit the oldest records as far as they are finished, and read on."""
        while self._open and not self._open[0].unfinished:
            record = self._open.popleft().record
            self._consumer.commit(record)
            self._progress.release(record.position)
            self._open_events -= record.count
            self._page.add("handled", record.count)
        if self._filling is None:  # not at once: lanes whose handlers never wait would keep the loop from its other work
            self._filling = asyncio.get_running_loop().call_soon(self._fill)

    def _rung(self) -> None:
        self._bell.clear()
        self._fill()

    def _fill(self) -> None:
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None
        while self._reading_again is None and self._open_events < self._ahead and (room := READ_AHEAD - len(self._open)) > 0:
            limit = min(room, self._poll_limit)
            records = self._consumer.poll(limit)
            if not all(map(self._start, records)) or len(records) < limit:
                break
        if not self._open:
            self._idle.set()

    def _start(self, record: Record) -> bool:
        """Give a record to the lanes; False if it cannot be read now, and is polled again later."""
        try:
            lists = self._gap(record) if record.kind == Kind.GAP else self._sort(self._decode(record))
        except (RemoteProtocolError, StoreFailed) as exc:
            if isinstance(exc, StoreFailed) and self._read_again(record, exc):
                return False
            self._page.add("invalid", record.count)
            log.error("a record of events was given up: it cannot be read", events=record.count, reason=str(exc))
            lists = {}
        work = OpenRecord(record, self._progress.open(record.position), self.record_finished)
        self._open.append(work)
        self._open_events += record.count
        for item in self._quarantined.pop(record.position, ()):
            self._condemn(work, lists, item)
        work.unfinished = len(lists)
        if not lists:
            asyncio.get_running_loop().call_soon(self.record_finished)
        for lane, items in lists.items():
            self._lanes[lane].put(work, items)
        return True

    def _read_again(self, record: Record, exc: StoreFailed) -> bool:
        """Go on with this record in a moment, and return True, unless the store has failed for too long."""
        now = self._loop.time()
        if self._failing_since is None:
            self._failing_since = now
            log.error("an event that is stored cannot be read: it is tried again, and what follows waits", reason=str(exc))
        if now - self._failing_since >= PATIENCE:
            return False
        self._consumer = Consumer(self._memory, start=record.position)
        self._reading_again = self._loop.call_later(READ_AGAIN, self._moment_passed)
        return True

    def _moment_passed(self) -> None:
        self._reading_again = None
        self._fill()

    def _decode(self, record: Record) -> Events:
        if record.kind == Kind.STORED and self._stored is not None:
            found = self._stored.decode(record.payload)
            self._failing_since = None
            return found
        return decode_events(record.kind, record.payload)

    def _sort(self, events: Events) -> dict[int, list[Item]]:
        """
        Return lane → its items.

        The same record gives the same lists in every process, since the words of progress count on it: nothing here may
        depend on anything but the record, the routes and the number of lanes.
        """
        names, numbers, payloads = events
        table = self._bindings.of_names(names)
        lists: dict[int, list[Item]] = {}
        if table.simple:
            calls = table.calls
            adds = [lists.setdefault(lane, []).append for lane in table.lanes]
            for number, payload in zip(numbers, payloads, strict=True):
                adds[number]((calls[number], payload))
            return {lane: items for lane, items in lists.items() if items}
        for index, (number, payload) in enumerate(zip(numbers, payloads, strict=True)):
            binding = table.bindings[number]
            if binding is not None:
                items = lists.setdefault(binding.lane_for(payload, index), [])
                items.extend([(call, payload) for call in binding.calls])
        return lists

    def _gap(self, record: Record) -> dict[int, list[Item]]:
        lane, calls = self._bindings.of_gap(record.payload)
        return {lane: [(call, record.payload) for call in calls]} if calls else {}

    def _condemn(self, work: OpenRecord, lists: dict[int, list[Item]], item: InHand) -> None:
        """Have the lane make an event a dead letter, in its place in the order; one that is not there any more is finished."""
        finish = partial(self._progress.finish, item)
        if item.index < len(lists.get(item.lane, ())):
            work.condemned[item.lane] = finish
        else:
            finish()
