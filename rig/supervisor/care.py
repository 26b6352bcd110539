"""What is done for workers beside starting them again: those that grow are recycled, those that get nowhere are reported."""

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path

from rig.config import Settings
from rig.control import Stacks
from rig.supervisor.child import Child
from rig.supervisor.memory import WorkerMemory
from rig.supervisor.recycling import Recycler
from rig.supervisor.stalls import Stalls
from rig.supervisor.watchdog import LONGEST_LOOK, Watchdog

_LOOK = 0.2
"""Seconds between two looks, at most."""


class Care:
    """Looks at the workers a few times a second."""

    def __init__(self, workers: Sequence[tuple[Child, WorkerMemory]], settings: Settings, stalls: Path) -> None:
        """
        Take the workers.

        Args:
            workers: Each with its memory.
            settings: With the limits.
            stalls: The folder for what is written down of stalls.
        """
        self._recycler = Recycler(workers, settings, random=random.random)
        stacks = {child: memory.stacks for child, memory in workers}
        self._stalls = Stalls(stalls, stacks, restart=settings.stall_action == "restart")
        self._watchdog = (
            Watchdog(workers, timeout=settings.stall_timeout, on_stall=self._stalls.report) if settings.stall_timeout else None
        )
        self._watched_every = min(LONGEST_LOOK, settings.stall_timeout / 4)
        self._pause = min(_LOOK, self._watched_every) if settings.stall_timeout else _LOOK

    async def run(self) -> None:
        """Look until cancelled."""
        then = time.monotonic()
        try:
            while True:
                await asyncio.sleep(self._pause)
                now = time.monotonic()
                self._recycler.look(now)
                if self._watchdog is not None and now - then >= self._watched_every:
                    self._watchdog.look(now - then)
                    then = now
        finally:
            await self._stalls.close()

    def heard(self, child: Child, stacks: Stacks) -> None:
        """Take what a worker says of its tasks."""
        self._stalls.heard(child, stacks)
