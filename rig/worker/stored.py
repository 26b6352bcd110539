"""
Events that were too large for the ring: its record names a row of spill.db, and the event is read there.

The io process leaves the row where it is until the record is committed, so a successor of this worker finds it too. The connection
only reads, and is opened with the first such event; most workers never see one, so what that needs is imported then.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from rig.errors import RemoteProtocolError, StoreFailed
from rig.records import Events, decode_events, decode_spilled, decode_stored

if TYPE_CHECKING:
    import sqlite3

_BUSY_TIMEOUT = 5.0


class StoredEvents:
    """Reads what STORED records name."""

    def __init__(self, state_dir: str | None) -> None:
        """Take the state directory in which the io process stores; nothing is opened."""
        self._state_dir = state_dir or "."
        self._connection: sqlite3.Connection | None = None

    def decode(self, payload: bytes) -> Events:
        """
        Return the event that a STORED record names, as `decode_events` would.

        Raises:
            RemoteProtocolError: If the record, or the row, is not what the io process writes, or there is no such row.
            StoreFailed: If the file cannot be read, not even by a new connection.
        """
        row, index = decode_stored(payload)
        found = self._read(row)
        if found is None:
            raise RemoteProtocolError(f"a record that names row {row} of spill.db, which is not there")
        kind, record = found
        names, numbers, payloads = decode_events(kind, decode_spilled(record)[1])
        if not 0 <= index < len(numbers):
            raise RemoteProtocolError(f"a record that names event {index} of a row of {len(numbers)}")
        return names, numbers[index : index + 1], payloads[index : index + 1]

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, row: int) -> tuple[int, bytes] | None:
        import sqlite3

        from rig.store import StateDirectory

        path = StateDirectory(Path(self._state_dir)).spill
        for _ in range(2):
            try:
                if self._connection is None:
                    self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=_BUSY_TIMEOUT, uri=True)
                statement = "SELECT kind, record FROM spilled WHERE id = ?"
                found: tuple[int, bytes] | None = self._connection.execute(statement, (row,)).fetchone()
                return found
            except sqlite3.Error as exc:
                failure = StoreFailed(str(path), str(exc), "see whether its disk fails, or who has locked it")
                failure.__cause__ = exc
                self.close()  # what was wrong with the connection may not be wrong with the next
        raise failure
