"""
The io process's database, opened when it is first needed and shared by all that need it.

What must stay true: a process has one connection to it, for one thread does what all ask for, in one transaction.
"""

import asyncio
from pathlib import Path

from rig.store import Store, Sync


class Database:
    """Outbox, dead letters and cursors; whoever wants them asks each time, since it may not be there yet."""

    def __init__(self, path: Path, sync: Sync) -> None:
        """Name the file; nothing is opened yet."""
        self._path, self._sync = path, sync
        self._store: Store | None = None
        self._opening = asyncio.Lock()

    async def store(self) -> Store:
        """
        Return the store, and open it if it is not.

        Raises:
            StoreFailed: If it cannot be opened; it is tried again when somebody asks again.
        """
        async with self._opening:
            if self._store is None:
                self._store = await Store.open(self._path, self._sync)
            return self._store

    async def close(self) -> None:
        """
        Close it, if it is open.

        Raises:
            StoreFailed: If it cannot be closed.
        """
        if self._store is not None:
            await self._store.close()
