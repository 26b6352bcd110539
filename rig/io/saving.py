"""
Committed cursors on their way into the store: at most twenty times a second, one save at a time.

What must stay true: nothing is saved whose events are not committed; a store that fails takes nothing down, and gets the newest
cursors as soon as it works again.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from rig.backoff import full_jitter
from rig.cursors import Cursor
from rig.errors import StoreFailed
from rig.io.database import Database
from rig.io.stage import Lot
from rig.log import Throttle
from rig.store import Cursors

_REPORT_INTERVAL = 60.0
_FIRST_RETRY = 1.0
"""Seconds, at most, before a save is tried again that failed; doubled each time."""

log = structlog.get_logger()


class CursorStore(Protocol):
    """Where cursors are kept over the end of a run."""

    async def load(self) -> dict[str, Cursor]:
        """
        Return all of them, by topic.

        Raises:
            StoreFailed: If they cannot be read.
        """

    async def save(self, cursors: Mapping[str, Cursor]) -> None:
        """
        Replace those of these topics.

        Raises:
            StoreFailed: If they were not stored.
        """


class StoredCursors:
    """The cursors in the io process's database."""

    def __init__(self, database: Database) -> None:
        """Take the database; nothing is opened yet."""
        self._database = database

    async def load(self) -> dict[str, Cursor]:
        """
        Return all of them, by topic.

        Raises:
            StoreFailed: If the database cannot be opened or read.
        """
        return await Cursors(await self._database.store()).load()

    async def save(self, cursors: Mapping[str, Cursor]) -> None:
        """
        Replace those of these topics.

        Raises:
            StoreFailed: If the database cannot be opened, or does not take them.
        """
        await Cursors(await self._database.store()).save(cursors)


class Saver:
    """Saves what it is given, on the loop's thread."""

    def __init__(self, store: CursorStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing to save; `clock` returns seconds."""
        self._store, self._clock = store, clock
        self._unsaved: dict[str, Cursor] = {}
        self._saving: asyncio.Task[None] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._throttle = Throttle(_REPORT_INTERVAL)

    def __bool__(self) -> bool:
        """Say whether there is anything that is not stored yet."""
        return bool(self._unsaved) or self._busy

    def add(self, lot: Lot) -> None:
        """Take cursors whose events are committed."""
        for track, cursor in lot.items():
            self._unsaved[track.topic] = cursor

    def start(self) -> None:
        """Save what there is, unless that is under way, or failed a moment ago."""
        if self._unsaved and not self._busy and self._clock() >= self._not_before:
            self._saving = asyncio.get_running_loop().create_task(self._save(), name="save-cursors")

    async def finish(self) -> None:
        """Save what there is, and return when that has succeeded or failed."""
        if self._saving is not None:
            await self._saving
        if self._unsaved:
            await self._save()

    @property
    def _busy(self) -> bool:
        return self._saving is not None and not self._saving.done()

    async def _save(self) -> None:
        cursors, self._unsaved = self._unsaved, {}
        try:
            await self._store.save(cursors)
        except StoreFailed as exc:
            self._unsaved = cursors | self._unsaved
            self._failures += 1
            now = self._clock()
            self._not_before = now + full_jitter(self._failures - 1, lambda: 1.0, base=_FIRST_RETRY)
            message = "cursors are not saved, which is tried again: a restart now would repeat events"
            self._throttle.say(log.error, message, now, reason=str(exc))
            return
        if self._failures:
            self._failures, self._not_before = 0, 0.0
            log.info("cursors are saved again", topics=len(cursors))
