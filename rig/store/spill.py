"""
Spilled records: what a worker was too slow for, in the order in which it came.

What must stay true: a worker's records come back in the order in which they were appended, each as it was.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from rig.store.rows import CHOSEN, Counts, Table, among, counts, insert
from rig.store.store import Store

LARGEST_ID = 2**63 - 1
_MOST_AT_ONCE = 1024
_TABLE = Table("spilled", "worker, kind, count, time_ns, id", "record")
_LEFT = """
    WITH RECURSIVE found (worker) AS (
        SELECT min(worker) FROM spilled
        UNION ALL
        SELECT (SELECT min(worker) FROM spilled WHERE worker > found.worker) FROM found WHERE found.worker IS NOT NULL)
    SELECT worker FROM found WHERE worker IS NOT NULL"""


class SpillRow(msgspec.Struct, frozen=True, gc=False):
    """
    A record that waits on disk.

    Attributes:
        worker: The number of the worker that it is for.
        kind: The record's kind.
        count: How many events it holds.
        time_ns: When it was made, as the ring has it.
        record: Its payload.
        id: Given by the store; 0 before.
    """

    worker: int
    kind: int
    count: int
    time_ns: int
    record: bytes
    id: int = 0


@dataclass(frozen=True, slots=True)
class Extent:
    """How many events one worker's records hold, and the id of the newest; both 0 if there is none."""

    events: int
    last_id: int


class Spill:
    """The spilled records in a store of the schema `SPILL`. Every method raises `StoreFailed` if the database does not do it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def append(self, rows: Sequence[SpillRow]) -> list[int]:
        """Store records, and return their ids."""
        values = [(row.worker, row.kind, row.count, row.time_ns, len(row.record), row.record) for row in rows]
        return await self._store.write(lambda connection: _append(connection, values))

    async def next(self, worker: int, after_id: int, limit_bytes: int) -> list[SpillRow]:
        """Return a worker's oldest records with ids larger than `after_id`: up to `limit_bytes` together, and one at least."""
        return await self._store.read(
            lambda connection: _page(connection, "worker = ? AND id > ? ORDER BY id", (worker, after_id), limit_bytes)
        )

    async def get(self, id: int) -> SpillRow | None:
        """Return one record, or None if it is not there."""
        found = await self._store.read(lambda connection: _page(connection, "id = ?", (id,), 0))
        return found[0] if found else None

    async def remove(self, ids: Iterable[int]) -> None:
        """Delete records."""
        chosen = among(ids)
        statement = f"DELETE FROM spilled WHERE {CHOSEN}"
        await self._store.write(lambda connection: connection.execute(statement, (chosen,)).rowcount)

    async def remove_up_to(self, worker: int, id: int) -> None:
        """Delete a worker's records up to this one, it included."""
        statement = "DELETE FROM spilled WHERE worker = ? AND id <= ?"
        await self._store.write(lambda connection: connection.execute(statement, (worker, id)).rowcount)

    async def left(self) -> list[int]:
        """Return the numbers of the workers that have records here."""
        return await self._store.read(lambda connection: [worker for (worker,) in connection.execute(_LEFT)])

    async def extent(self, worker: int, up_to: int = LARGEST_ID) -> Extent:
        """Return what a worker has here, up to an id. It looks at every record: for a start, not for the hot path."""
        statement = "SELECT coalesce(sum(count), 0), coalesce(max(id), 0) FROM spilled WHERE worker = ? AND id <= ?"
        return Extent(*await self._store.read(lambda connection: connection.execute(statement, (worker, up_to)).fetchone()))

    async def counts(self) -> Counts:
        """Return how many records there are, and their bytes."""
        return await self._store.read(lambda connection: counts(connection, "spilled"))


def _append(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> list[int]:
    if not rows:
        return []
    insert(connection, "INSERT INTO spilled (worker, kind, count, time_ns, size, record)", rows)
    (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
    return list(range(last - len(rows) + 1, last + 1))


def _page(connection: sqlite3.Connection, where: str, parameters: tuple[int, ...], limit_bytes: int) -> list[SpillRow]:
    found = _TABLE.page(connection, where, parameters, _MOST_AT_ONCE, limit_bytes)
    return [SpillRow(worker, kind, count, time_ns, record, id) for (worker, kind, count, time_ns, id), record in found]
