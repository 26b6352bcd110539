"""
What a failure of SQLite means to a user.

What must stay true: no `sqlite3.Error` leaves this package. Each becomes a `StoreFailed` that names the file and says what to do.

Source: SQLite, "Result and Error Codes".
"""

import sqlite3
from pathlib import Path

from rig.errors import StoreFailed, StoreUnusable

FAILURES = (sqlite3.Error, sqlite3.Warning, OSError, UnicodeError, OverflowError, ValueError)
"""What SQLite, its Python module and aiosqlite raise; the last three for a value that no column can hold, and after `close`."""

_NOT_WRITABLE = "make the file and its folder writable for this user, or name another folder with --state-dir"
_DAMAGED = (
    "while no run uses it, move the file away together with its -wal and -shm, to start with an empty one, or put back "
    "a sound copy; the .recover command of the sqlite3 program reads what is left in it"
)
_REMEDIES = {
    sqlite3.SQLITE_FULL: "free some space on its disk; nothing needs to be restarted",
    sqlite3.SQLITE_IOERR: "look for a full or failing disk, a quota, and into the system's log; nothing needs to be restarted",
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_BUSY: "another process has written to it for too long: see which one has the file open, then try again",
    sqlite3.SQLITE_LOCKED: "another process has written to it for too long: see which one has the file open, then try again",
    sqlite3.SQLITE_TOOBIG: "store something smaller",
}
_UNUSABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_UNEXPECTED = "try again; if it stays, report it together with this sentence"


def store_failed(path: Path, exc: Exception) -> StoreFailed:
    """Put a failure into a sentence."""
    if isinstance(exc, OSError):
        return StoreFailed(str(path), exc.strerror or str(exc), _NOT_WRITABLE)
    if _code(exc) in _UNUSABLE:
        return StoreUnusable(str(path), str(exc), _DAMAGED)
    return StoreFailed(str(path), str(exc), _REMEDIES.get(_code(exc), _UNEXPECTED))


def locked(exc: Exception) -> bool:
    """Return True if another process was writing, for longer than we wait."""
    return _code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(exc: Exception) -> int:
    """Return the primary result code: the extended one has more in its higher bytes."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF
