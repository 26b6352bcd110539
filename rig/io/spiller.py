"""
Between the outlets and spill.db: stores what they have no room for, reads it back, removes what the workers are done with.

All of it is one task, one step after the other. What must stay true: a row is removed only after the worker has committed its
record; a successor of this process, in the same run, goes on after the row that the ring notes as the newest one in it; whatever
the store does, nothing leaves the memory before it is somewhere else.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from rig.counters import Page
from rig.errors import StoreFailed
from rig.io import vital
from rig.io.backlog import PAGE_BYTES, Waiting
from rig.io.leftovers import Leftovers
from rig.io.outlet import Delivered, Outlet
from rig.io.owner import Owner
from rig.io.router import Router
from rig.log import Throttle
from rig.records import encode_spilled
from rig.store import SPILL, Spill, SpillRow, Store

_RETRY = 1.0
"""Seconds until a store that failed is tried again."""
_OPEN_AGAIN = 30.0
"""Seconds until a file is tried again, for what an earlier run may have left in it, that could not be opened."""
_REMOVE_INTERVAL = 0.05
"""Seconds between two removals."""
_PATIENCE = 10.0
"""Seconds after which an event is given up that is too large for the ring, while the store fails."""
_REPORT_INTERVAL = 5.0
"""Seconds between two lines about the same fault."""

log = structlog.get_logger()


async def open_spill(path: Path) -> tuple[Store, Spill]:
    """
    Open spill.db, for what survives a process, but need not survive the machine.

    Raises:
        StoreFailed: If it cannot be opened.
    """
    store = await Store.open(path, "off", schema=SPILL)
    return store, Spill(store)


class Spiller:
    """
    Moves records; `Overflow` says when.

    Attributes:
        everything: True if all that waits is to be stored, not only what is too large for a ring.
        blocking: True if that goes for events of the policy `block`, too.
        failing: True if the store does not take anything, so that only the rings are left.
    """

    def __init__(
        self,
        outlets: Sequence[Outlet],
        router: Router,
        *,
        page: Page,
        path: Path | None,
        owner: Owner,
        patience: float = _PATIENCE,
        open: Callable[[Path], Awaitable[tuple[Store, Spill]]] = open_spill,
    ) -> None:
        """
        Open nothing yet.

        Args:
            outlets: One per worker.
            router: For what is dispatched anew.
            page: The io process's counters.
            path: Of spill.db; None if nothing can be stored.
            owner: Who we are.
            patience: Seconds after which an event is dropped that is too large for the ring, while the store fails.
            open: How it is opened.
        """
        self._outlets, self._router, self._page = outlets, router, page
        self._path, self._owner, self._patience, self._open_path = path, owner, patience, open
        self._loop = asyncio.get_running_loop()
        self._throttle = Throttle(_REPORT_INTERVAL)
        self._store: tuple[Store, Spill] | None = None
        self._spill: Spill | None = None
        self._leftovers: Leftovers | None = None
        self._to_remove: dict[int, tuple[int, int]] = {}
        self._wake = asyncio.Event()
        self._opening_again: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._moved: Callable[[], None] = lambda: None
        self._failed_at = self._store_at = self._fetch_at = self._remove_at = 0.0
        self.everything = self.blocking = self.failing = False

    @property
    def busy(self) -> bool:
        """True if there are rows to come from an earlier run, or to be removed once the workers are done with them."""
        return bool(self._leftovers or self._to_remove) or any(outlet.delivered for outlet in self._outlets)

    async def start(self, moved: Callable[[], None], left: Callable[[bytes], bool] | None = None) -> None:
        """
        See what is left in spill.db, which goes before all that comes from now on; then work whenever woken.

        Args:
            moved: Called when something may have got room, or when the store has begun, or ceased, to fail.
            left: Given what is left of earlier runs, see `Leftovers.tell`.
        """
        self._moved = moved
        if self._path is not None and self._path.exists():
            try:
                await self._open(self._path)
                if left is not None and self._leftovers is not None:
                    await self._leftovers.tell(left)
            except StoreFailed as exc:
                self._not_opened(exc)
        self._task = vital.start(self._run(), "spilling")
        self._moved()

    def wake(self) -> None:
        """Look whether there is something to do."""
        self._wake.set()

    async def close(self) -> None:
        """Store what is only in memory, remove what is done with, say what is left, and close the file."""
        self._closing = True
        if self._opening_again is not None:
            self._opening_again.cancel()
        self._store_at = self._remove_at = 0.0
        self._wake.set()
        if self._task is not None:
            await self._task
        lost = sum(outlet.backlog.waiting_events for outlet in self._outlets)
        if lost:
            log.error("events that were received are lost: no ring has room for them, and they cannot be stored", events=lost)
        left = self._page.get("spill_backlog")
        if left:
            log.warning("spilled events are left: the next run on this state directory handles them first", events=left)
        if self._store is not None:
            try:
                await self._store[0].close()
            except StoreFailed as exc:
                self._report("the store of spilled events cannot be closed", exc)

    # The task.

    async def _run(self) -> None:
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            moved = [await self._try_to_store(), await self._try_to_fetch()]
            await self._try_to_remove()
            if any(moved):  # else it would be woken again at once, for nothing
                self._moved()
        while await self._try_to_store():
            pass
        await self._try_to_remove()

    async def _try_to_store(self) -> bool:
        """Return True if something was stored."""
        if self._loop.time() < self._store_at:
            return False
        try:
            stored = await self._store_waiting()
        except StoreFailed as exc:
            self._store_failed(exc)
            return False
        if stored and self.failing:
            self.failing = False
            log.info("events can be spilled to disk again")
        return stored

    async def _try_to_fetch(self) -> bool:
        """Return True if something was read back."""
        if self._loop.time() < self._fetch_at:
            return False
        try:
            if self._spill is None and self._path is not None and self._path.exists():
                await self._open(self._path)
            read = await self._read_back()
            return (self._leftovers is not None and await self._leftovers.hand_on()) or read
        except StoreFailed as exc:
            if self._spill is None:
                self._not_opened(exc)
            else:
                self._fetch_at = self._loop.time() + _RETRY
                self._report("spilled events cannot be read back: they wait", exc)
            return False

    async def _try_to_remove(self) -> None:
        if self._spill is None or self._loop.time() < self._remove_at:
            return
        self._remove_at = self._loop.time() + _REMOVE_INTERVAL
        try:
            await self._remove_committed(self._spill)
        except StoreFailed as exc:
            self._remove_at = self._loop.time() + _RETRY
            self._report("spilled events that are handled cannot be removed: the next run would handle them again", exc)

    # Its steps.

    async def _store_waiting(self) -> bool:
        everything, blocking = self.everything or self._closing, self.blocking or self._closing
        taken = [list(outlet.backlog.take(everything=everything, blocking=blocking)) for outlet in self._outlets]
        rows = [self._row(worker, record) for worker, records in enumerate(taken) for record in records]
        if not rows:
            return False
        try:
            ids = await (await self._opened()).append(rows)
        except StoreFailed:
            for outlet in self._outlets:
                outlet.backlog.not_stored()
            raise
        events = sum(row.count for row in rows)
        self._page.add("spilled", events)
        self._page.add("spill_backlog", events)
        for outlet, records in zip(self._outlets, taken, strict=True):
            if records:
                outlet.backlog.stored(ids[: len(records)])
                ids = ids[len(records) :]
        return True

    def _row(self, worker: int, record: Waiting) -> SpillRow:
        stored = encode_spilled(record.number, record.payload)
        return SpillRow(self._owner.address(worker), record.kind, record.count, record.time_ns, stored)

    async def _read_back(self) -> bool:
        read = False
        for worker, outlet in enumerate(self._outlets):
            backlog = outlet.backlog
            if backlog.unread and not backlog.behind and backlog.loaded_bytes < PAGE_BYTES:
                spill = await self._opened()
                unreadable = backlog.load(await spill.next(self._owner.address(worker), backlog.read_id, PAGE_BYTES))
                if unreadable:
                    log.error("spilled events were given up: their rows cannot be read", events=unreadable)
                read = True
        return read

    async def _remove_committed(self, spill: Spill) -> None:
        for worker, outlet in enumerate(self._outlets):
            row, events, left = outlet.take_committed()
            if row:
                self._to_remove[worker] = row, events + self._to_remove.get(worker, (0, 0))[1]
            if self._leftovers is not None:
                self._leftovers.finished(left)
        for worker, (row, events) in list(self._to_remove.items()):
            await spill.remove_up_to(self._owner.address(worker), row)
            del self._to_remove[worker]
            self._removed(events)
        if self._leftovers is not None:
            self._removed(await self._leftovers.remove_finished())
            if self._leftovers.done:
                self._leftovers = None

    def _removed(self, events: int) -> None:
        self._page.set("spill_backlog", max(self._page.get("spill_backlog") - events, 0))

    # Opening and failing.

    async def _opened(self) -> Spill:
        if self._path is None:
            raise StoreFailed("spill.db", "there is no state directory", "name one with --state-dir")
        return self._spill or await self._open(self._path)

    async def _open(self, path: Path) -> Spill:
        self._store = self._store or await self._open_path(path)
        spill = self._store[1]
        addresses = await spill.left()
        inherited = [address for address in addresses if self._owner.inherits(address)]
        events = [await self._take_over(spill, address) for address in addresses if self._owner.owns(address)]
        events += [(await spill.extent(address)).events for address in inherited]
        self._page.set("spill_backlog", sum(events))
        if events:
            log.info("spilled events are left from before: they are handed on first", events=sum(events))
        if inherited:
            self._leftovers = Leftovers(spill, inherited, self._outlets, self._router, self._page)
        self._spill, self._fetch_at = spill, 0.0
        return spill

    async def _take_over(self, spill: Spill, address: int) -> int:
        """Go on where a predecessor of this process, in the same run, was ended, and return how many events there are."""
        outlet = self._outlets[self._owner.worker(address)]
        newest, _ = outlet.note
        in_ring, everything = await spill.extent(address, newest), await spill.extent(address)
        if in_ring.last_id:
            outlet.delivered.append(Delivered(outlet.tail, in_ring.last_id, in_ring.events))
        outlet.backlog.read_id, outlet.backlog.stored_id = newest, everything.last_id
        if outlet.backlog.unread:
            outlet.queued += 1  # all of it counts as one: not committed before it has left, and what is in the ring then is
            outlet.waits = True
        return everything.events

    def _not_opened(self, exc: StoreFailed) -> None:
        """Say so, and look again later though nothing else may wake the task: what is left there waits for that."""
        self._report("the store of spilled events cannot be opened: what is left there waits", exc)
        self._fetch_at = math.inf
        self._opening_again = self._loop.call_later(_OPEN_AGAIN, self._open_again)

    def _open_again(self) -> None:
        self._fetch_at = 0.0
        self.wake()

    def _store_failed(self, exc: StoreFailed) -> None:
        now = self._loop.time()
        if not self.failing:
            self.failing, self._failed_at = True, now
            self._moved()
        self._store_at = now + _RETRY
        self._report("events cannot be spilled to disk: reading waits for the workers instead", exc)
        if now - self._failed_at >= self._patience or self._path is None:
            for outlet in self._outlets:
                if outlet.backlog.for_the_store:
                    outlet.give_up()

    def _report(self, message: str, exc: StoreFailed) -> None:
        self._throttle.say(log.error, message, self._loop.time(), reason=str(exc))
