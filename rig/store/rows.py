"""
Many rows in one statement.

Python gives up its lock for every step of a statement, and in a process that is busy gets it back only milliseconds later. So
what writes or deletes many rows is one statement for many of them, in few shapes, which SQLite then has prepared already.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from rig.store.store import Store

CHOSEN = "id IN (SELECT value FROM json_each(?))"
"""A condition; its parameter is made by `among`."""

_SHAPES = (64, 16, 4, 1)
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows there are, and how many bytes they count for."""

    rows: int
    bytes: int


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """
    Insert rows in order.

    Args:
        into: What stands before VALUES.
        rows: All of the same length.

    Raises:
        sqlite3.Error: If SQLite refuses.
    """
    start = 0
    while start < len(rows):
        size = next(shape for shape in _SHAPES if shape <= len(rows) - start)
        values = f"({','.join('?' * len(rows[start]))})"
        statement = f"{into} VALUES {','.join([values] * size)}"
        connection.execute(statement, list(chain.from_iterable(rows[start : start + size])))
        start += size


def among(ids: Iterable[int]) -> str:
    """Return the parameter of `CHOSEN`."""
    return json.dumps(list(ids))


def counts(connection: sqlite3.Connection, table: str) -> Counts:
    """Return what the triggers have counted."""
    return Counts(*connection.execute("SELECT rows, bytes FROM totals WHERE name = ?", (table,)).fetchone())


async def all_ids(store: Store, table: str) -> AsyncIterator[list[int]]:
    """
    Give the ids of all rows that are there now, in pages: one transaction for a million rows would keep all other writers waiting.

    Raises:
        StoreFailed: If the database cannot be read.
    """
    (last,) = await store.read(lambda connection: connection.execute(f"SELECT max(id) FROM {table}").fetchone())
    statement = f"SELECT id FROM {table} WHERE id > ? AND id <= ? ORDER BY id LIMIT {_PAGE}"
    after = 0
    while ids := await store.read(partial(_ids, statement=statement, parameters=(after, last))):
        yield ids
        after = ids[-1]


def _ids(connection: sqlite3.Connection, statement: str, parameters: tuple[int, int | None]) -> list[int]:
    return [id for (id,) in connection.execute(statement, parameters)]
