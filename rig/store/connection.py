"""
How a database file is opened, what is set in it, and how it gives room back.

What must stay true: the files are for us alone (0600), whatever the umask: SQLite gives -wal and -shm the mode of the database.
Several processes may open it at the same time, a new one too.

Source: SQLite, "Write-Ahead Logging", "PRAGMA synchronous", "PRAGMA incremental_vacuum".
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiosqlite

from rig.store.schema import Schema, migrate, version

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
Sync = Literal["full", "normal", "off"]

_BUSY_TIMEOUT = 5.0
_CACHE_KIB = 2048
_LARGEST_WAL = 16 * 1024**2
_FREE_PAGES = 16 * 1024
"""What a file may keep for what comes next: 64 MiB."""
_GIVEN_BACK_AT_ONCE = 256


class Connection(aiosqlite.Connection):
    """Runs a whole transaction as one call in its thread; aiosqlite's own methods cross over for each statement."""

    def __init__(self, path: Path, sync: Sync, schema: Schema) -> None:
        super().__init__(lambda: _connect(path, sync, schema), iter_chunk_size=64)
        # Else a process that ends without closing it would wait for the thread for ever. Before 0.22 the connection was the thread.
        self._its_thread: Any = getattr(self, "_thread", self)
        self._its_thread.daemon = True

    async def open(self) -> None:
        """
        Open the file.

        Raises:
            sqlite3.Error, OSError, StoreFailed: If it cannot be used.
        """
        try:
            await self
        except BaseException:
            # aiosqlite lets the thread end by itself, and it would tell a loop that may be closed by then.
            self._its_thread.join()
            raise

    async def run(self, operation: Operation[T]) -> T:
        """
        Run something in the thread.

        Raises:
            ValueError: If the connection is closed.
            Exception: What the operation raises.
        """
        result: T = await self._execute(lambda: operation(self._conn))  # type: ignore[no-untyped-call]
        return result


def give_back(connection: sqlite3.Connection) -> bool:
    """
    Return some of the room that deleted rows have left to the file system, and True if there is more.

    Raises:
        sqlite3.Error: If the file cannot be written.
    """
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free <= _FREE_PAGES:
        return False
    # `execute` ends after one page: it takes a step without columns for the last one.
    connection.executescript(f"PRAGMA incremental_vacuum({_GIVEN_BACK_AT_ONCE})")
    return True


def _connect(path: Path, sync: Sync, schema: Schema) -> sqlite3.Connection:
    _make_private(path)
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None, cached_statements=64)
    try:
        _prepare(connection, path, sync, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(path: Path) -> None:
    """
    Make a file that is not there, and put the rights of one that is.

    One that is there is not opened: closing it would take away the locks of every connection that this process has to it, and with
    them what keeps another process from deleting a log that is in use.

    Source: SQLite, "How To Corrupt An SQLite Database File", 2.2.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if os.stat(path).st_mode & 0o777 != 0o600:
        os.chmod(path, 0o600)


def _prepare(connection: sqlite3.Connection, path: Path, sync: Sync, schema: Schema) -> None:
    version(connection, schema, path)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    if not pages:  # it counts only then, and is a write always
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute(f"PRAGMA synchronous = {sync}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_WAL}")
    migrate(connection, schema, path)
