"""
What happens while workers cannot keep up: whether the socket is read, and whether what waits goes to disk.

    block           reading pauses until it is in the ring
    spill           reading pauses for at most the pause limit; then it goes on, and what the ring has no room for is stored, until
                    every ring that was full is at most half full; where the store is slower than what comes, reading pauses
                    again; where it fails, as `block`
    drop_…, latest  nothing pauses: see `rig.io.held`

What must stay true: no event is dropped without being counted and told; what is in memory is bounded. A ring that is never full
costs nothing here.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from rig.counters import Page
from rig.io.outlet import Outlet
from rig.io.spiller import Spiller
from rig.log import Throttle

_LOOK_AGAIN = 0.001
"""Seconds after which a full ring is looked at again."""
_LOOK_FOR_COMMITS = 0.02
"""Likewise, where only rows of spill.db wait to be removed."""
_MOST_UNSTORED_BYTES = 4 * 1024 * 1024
"""What may wait for the store before reading pauses; it goes on at half of it."""
_REPORT_INTERVAL = 5.0
"""Seconds between two lines about dropped events, and between two that spilling begins."""
_COUNTERS = {
    "drop_oldest": "dropped_oldest",
    "drop_newest": "dropped_newest",
    "latest": "dropped_latest",
    "large": "dropped_large",
}
_REASONS = {"large": "too large for the ring, and not stored"}

log = structlog.get_logger()


class Overflow:
    """Watches the outlets while something waits for room; pauses and resumes reading by the two callables."""

    def __init__(
        self,
        outlets: Sequence[Outlet],
        spiller: Spiller,
        *,
        page: Page,
        pause: Callable[[], None],
        resume: Callable[[], None],
        pause_limit: float,
    ) -> None:
        """
        Watch nothing yet.

        Args:
            outlets: One per worker.
            spiller: Moves records between them and the disk.
            page: The io process's counters.
            pause: Stops reading.
            resume: Goes on.
            pause_limit: Seconds that reading may pause for events of the policy `spill`.
        """
        self._outlets, self._spiller, self._page = outlets, spiller, page
        self._pause, self._resume, self._pause_limit = pause, resume, pause_limit
        self._loop = asyncio.get_running_loop()
        self._paused, self._paused_at = False, 0.0
        self._slow: set[Outlet] = set()
        self._blockers: set[Outlet] = set()
        self._draining = self._closed = False
        self._emptied = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._untold: Counter[str] = Counter()
        self._telling: asyncio.TimerHandle | None = None
        self._throttle = Throttle(_REPORT_INTERVAL)
        self._said_so = False

    def look(self) -> None:
        """Move what there is room for, then judge."""
        for outlet in self._outlets:
            if outlet.waits:
                outlet.flush()
        self.judge()

    def judge(self) -> None:
        """Decide whether to read, and look again soon for as long as there is something to see."""
        if self._closed:
            return
        self._count()
        held_up = self._held_up(self._loop.time())
        if held_up and not self._paused:
            self._paused = True
            self._page.add("pauses")
            self._pause()
        elif self._paused and not held_up:
            self._paused = False
            self._resume()
        waits = any(outlet.waits for outlet in self._outlets)
        if not waits:
            self._emptied.set()
        if waits or self._spiller.busy:
            self._spiller.wake()
        if self._timer is None and (waits or self._paused or self._spiller.busy):
            self._timer = self._loop.call_later(_LOOK_AGAIN if waits or self._paused else _LOOK_FOR_COMMITS, self._time_passed)

    async def drain(self) -> None:
        """Return when all that was taken is in the rings. What has to wait for it is stored meanwhile, whatever its policy."""
        self._draining = self._spiller.everything = self._spiller.blocking = True
        self._emptied.clear()
        self.look()
        await self._emptied.wait()

    def close(self) -> None:
        """Look no more; what could be dropped and still waits is dropped."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for outlet in self._outlets:
            outlet.held.clear()
        self._count()
        if self._telling is not None:
            self._telling.cancel()
            self._tell()

    def _time_passed(self) -> None:
        self._timer = None
        self.look()

    def _held_up(self, now: float) -> bool:
        """Say whether reading is to pause."""
        full = [outlet for outlet in self._outlets if outlet.full]
        self._slow = {outlet for outlet in self._slow.union(full) if not self._eased(outlet)}
        self._blockers = {outlet for outlet in self._slow if self._blocks(outlet)}
        if self._spiller.everything:
            if not self._slow and not self._draining:
                self._stop_spilling()
        elif full or (self._paused and self._slow):
            if not self._paused:
                self._paused_at = now
            if now - self._paused_at < self._pause_limit:
                return True
            if self._slow - self._blockers:
                self._start_spilling()
        unstored = sum(outlet.backlog.unstored_bytes for outlet in self._outlets)
        enough = _MOST_UNSTORED_BYTES // 2 if self._paused else _MOST_UNSTORED_BYTES
        return bool(self._blockers) or unstored > enough or (bool(full) and self._spiller.failing)

    def _eased(self, outlet: Outlet) -> bool:
        """Say whether an outlet that was full is well again; during a drain nothing more comes, so that any room will do."""
        return outlet.backlog.empty and (outlet.roomy or self._draining)

    def _blocks(self, outlet: Outlet) -> bool:
        """Say whether reading is to pause for this outlet however long it takes."""
        return outlet.backlog.blocks or (outlet in self._blockers and not outlet.roomy)

    def _stop_spilling(self) -> None:
        self._spiller.everything = False
        if self._said_so:
            log.info("the workers have caught up: nothing is spilled any more")

    def _start_spilling(self) -> None:
        self._spiller.everything = True
        self._said_so = self._throttle.allow("spilling", self._loop.time()) is not None
        if not self._said_so:
            return
        workers = [number for number, outlet in enumerate(self._outlets) if outlet in self._slow]
        log.warning(
            "workers cannot keep up: what their rings have no room for is spilled to disk", workers=workers, after=self._pause_limit
        )

    def _count(self) -> None:
        for outlet in self._outlets:
            recovered = outlet.take_recovered()
            if recovered:
                self._page.add("recovered", recovered)
                self._page.add("routed", recovered)
            for policy, count in outlet.take_dropped().items():
                self._page.add(_COUNTERS[policy], count)
                self._untold[policy] += count
        if self._untold and self._telling is None:
            self._tell()

    def _tell(self) -> None:
        """Say what was dropped since the last line, and nothing more for a while."""
        self._telling = None
        for policy, count in self._untold.items():
            reason = _REASONS.get(policy, "a worker cannot keep up")
            log.warning("events dropped", policy=policy, events=count, reason=reason)
        if self._untold:
            self._untold.clear()
            self._telling = self._loop.call_later(_REPORT_INTERVAL, self._tell)
