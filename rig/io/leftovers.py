"""
What earlier runs left in spill.db: decoded and dispatched anew, in order, before anything that this run has received.

An earlier run may have had other routes and another number of workers, so its records are taken apart. What must stay true: an
event goes to the ring once, even if this process is killed on the way: each ring notes the newest row that it has events
of, and how many. A row is removed only after the workers have committed all of it.

What is left was not committed, so it is above the cursors of its topics, and a server that resumes by them sends it again, behind
what the last run had in its rings. `rig.io.track` passes over what is here, so it comes once, but before what was in the rings.
Twice come events without a cursor that the server sends by itself, those beyond what `rig.io.resume` remembers, and those in a file
that could be opened only later.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from rig.counters import Page
from rig.errors import RemoteProtocolError
from rig.io.backlog import WHOLE
from rig.io.outlet import Delivered, Outlet
from rig.io.remains import events_of
from rig.io.router import UNROUTED, Router, Slot
from rig.records import Kind, decode_spilled
from rig.store import Spill, SpillRow

_PAGE_BYTES = 1024 * 1024
"""What is handed on at once."""
_PART_BYTES = 64 * 1024
"""What is read at once of one worker of an earlier run."""

log = structlog.get_logger()


class Leftovers:
    """The rows of workers that are no more, oldest first."""

    def __init__(self, spill: Spill, workers: Iterable[int], outlets: Sequence[Outlet], router: Router, page: Page) -> None:
        """Let everything else wait in the outlets, until all of it is handed on."""
        self._spill, self._outlets, self._router, self._page = spill, outlets, router, page
        self._read: dict[int, deque[SpillRow]] = {worker: deque() for worker in workers}
        self._after = dict.fromkeys(self._read, 0)
        self._rows: list[SpillRow] = []
        self._unfinished: dict[int, tuple[int, int]] = {}
        """For each row that was handed on, how many workers are not done with it, and its events."""
        self._to_come = True
        for outlet in outlets:
            outlet.backlog.behind = outlet.waits = True
            outlet.queued += 1  # all of it counts as one: no cursor of an event that is still here is saved

    @property
    def done(self) -> bool:
        """True if no row is there any more."""
        return not (self._to_come or self._unfinished)

    async def tell(self, note: Callable[[bytes], bool]) -> None:
        """
        Say what is here, before any of it is handed on.

        Args:
            note: Given the payload of each EVENTS record, until it returns False.

        Raises:
            StoreFailed: If the rows cannot be read.
        """
        for worker in self._read:
            after = 0
            while rows := await self._spill.next(worker, after, _PAGE_BYTES):
                after = rows[-1].id
                for row in rows:
                    if row.kind == Kind.EVENTS and not _told(row, note):
                        return

    async def hand_on(self) -> bool:
        """
        Queue the events of the next rows, once those of the rows before are in the rings; False if they are not.

        Raises:
            StoreFailed: If the rows cannot be read. The next call tries again.
        """
        if not self._to_come or any(outlet.backlog.loaded for outlet in self._outlets):
            return False
        rows = await self._next()
        now = time.monotonic_ns()  # a row's own time may be of a clock that has started over since
        for row in rows:
            self._dispatch(row, now)
        if not rows:
            self._to_come = False
            for outlet in self._outlets:
                outlet.backlog.behind = False
            log.info("what an earlier run had left is handed on")
        return True

    def finished(self, rows: Iterable[int]) -> None:
        """Note that one worker is done with its part of these rows."""
        for row in rows:
            parts, events = self._unfinished[row]
            self._unfinished[row] = parts - 1, events

    async def remove_finished(self) -> int:
        """
        Remove the rows that all workers are done with, and return how many events they had.

        Raises:
            StoreFailed: If they cannot be removed. The next call tries again.
        """
        done = {row: events for row, (parts, events) in self._unfinished.items() if not parts}
        if done:
            await self._spill.remove(done)
            for row in done:
                del self._unfinished[row]
        return sum(done.values())

    async def _next(self) -> list[SpillRow]:
        """Return the next rows of all of them; where that fails on the way, the next call goes on."""
        while sum(len(row.record) for row in self._rows) < _PAGE_BYTES:
            for worker in [worker for worker, read in self._read.items() if not read]:
                more = await self._spill.next(worker, self._after[worker], _PART_BYTES)
                if more:
                    self._read[worker].extend(more)
                    self._after[worker] = more[-1].id
                else:
                    del self._read[worker]
            if not self._read:
                break
            self._rows.append(min(self._read.values(), key=lambda read: read[0].id).popleft())
        rows, self._rows = self._rows, []
        return rows

    def _dispatch(self, row: SpillRow, now_ns: int) -> None:
        shares = self._share(row)
        unrouted = shares.pop(UNROUTED, [])
        self._page.add("recovered", len(unrouted))
        self._page.add("unrouted", len(unrouted))
        self._unfinished[row.id] = len(shares), row.count
        for worker, events in shares.items():
            outlet = self._outlets[worker]
            newest, count = outlet.note
            done = WHOLE if row.id < newest else count if row.id == newest else 0  # by a predecessor of this process
            events = [one for one in events if one[0] >= done]
            if events:
                outlet.recover(events, row=row.id, binary=row.kind == Kind.EVENTS_BINARY, time_ns=now_ns)
            else:
                outlet.delivered.append(Delivered(outlet.tail, row.id, own=False))

    def _share(self, row: SpillRow) -> dict[int, list[tuple[int, Slot, Any]]]:
        """Return worker → its events, each with its place in the row."""
        if row.kind == Kind.GAP:  # each run tells of its own
            return {}
        try:
            events = events_of(decode_spilled(row.record)[1], row.kind)
        except RemoteProtocolError as exc:
            log.error("a record of an earlier run was given up: it cannot be read", events=row.count, reason=str(exc))
            return {}
        shares: dict[int, list[tuple[int, Slot, Any]]] = {}
        for index, (topic, event, payload) in enumerate(events):
            slot = self._router.slot(topic, event, payload)
            shares.setdefault(slot.worker, []).append((index, slot, payload))
        return shares


def _told(row: SpillRow, note: Callable[[bytes], bool]) -> bool:
    """Pass a row on; one that cannot be read is reported when it is handed on."""
    try:
        return note(decode_spilled(row.record)[1])
    except RemoteProtocolError:
        return True
