"""
What became of rows of the outbox, on its way to the database: acknowledged, failed, buried.

What must stay true: nothing that was decided is forgotten while the process lives. What the database does not take is tried again,
and meanwhile nothing more is sent once much has gathered: else all of it would be sent a second time after a crash.
"""

import asyncio
import contextlib
import time
from collections import defaultdict

import structlog

from rig.io import vital
from rig.log import Throttle
from rig.store import Outbox

_TRY_AGAIN = 1.0
"""Seconds after which what the database did not take is tried again."""
_MANY = 20_000
"""Verdicts that may wait before nothing more is sent."""
_REPORT_INTERVAL = 5.0
"""Seconds between two lines about the same fault."""

log = structlog.get_logger()


class Verdicts:
    """Writes verdicts in the order in which they were passed, all that are at hand in one commit."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._acknowledged: list[int] = []
        self._failed: defaultdict[str, list[int]] = defaultdict(list)
        self._buried: defaultdict[str, list[int]] = defaultdict(list)
        self._passed = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._waiting = 0
        self._throttle = Throttle(_REPORT_INTERVAL)
        self._task = vital.start(self._write_all(), "verdicts")

    def acknowledge(self, id: int) -> None:
        """The server has it."""
        self._acknowledged.append(id)
        self._note()

    def failed(self, id: int, reason: str) -> None:
        """The server refused it, and it is to be sent again."""
        self._failed[reason].append(id)
        self._note()

    def bury(self, id: int, reason: str) -> None:
        """It is not sent again: it belongs to the dead letters."""
        self._buried[reason].append(id)
        self._note()

    @property
    def many(self) -> bool:
        """True if so much waits for the database that nothing more should be sent."""
        return self._waiting >= _MANY

    async def settled(self) -> None:
        """Return when the database has all of it: what is read then is what is still to be sent."""
        await self._settled.wait()

    async def close(self, within: float) -> None:
        """Write what is left, for so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._settled.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._waiting:
            log.error(
                "durable pushes will be sent a second time: that they are done with could not be stored", pushes=self._waiting
            )

    def _note(self) -> None:
        self._waiting += 1
        self._settled.clear()
        self._passed.set()

    async def _write_all(self) -> None:
        while True:
            await self._passed.wait()
            self._passed.clear()
            while not await self._write():  # noqa: ASYNC110 - the database has no bell
                await asyncio.sleep(_TRY_AGAIN)
            if not self._waiting:
                self._settled.set()

    async def _write(self) -> bool:
        """Write what is at hand; False if the database did not take all of it."""
        acknowledged, self._acknowledged = self._acknowledged, []
        failed, self._failed = self._failed, defaultdict(list)
        buried, self._buried = self._buried, defaultdict(list)
        writes = [(self._acknowledged, acknowledged, self._outbox.acknowledge(acknowledged))] if acknowledged else []
        writes += [(self._failed[reason], ids, self._outbox.failed(ids, reason)) for reason, ids in failed.items()]
        writes += [(self._buried[reason], ids, self._outbox.bury(ids, reason)) for reason, ids in buried.items()]
        outcomes = await asyncio.gather(*(write for _, _, write in writes), return_exceptions=True)
        failures = []
        for (again, ids, _), outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                failures.append(outcome)
                again[:0] = ids
            else:
                self._waiting -= len(ids)
        if failures:
            message = "what became of durable pushes could not be stored, and is tried again"
            self._throttle.say(log.error, message, time.monotonic(), reason=str(failures[0]))
        return not failures
