"""
Many rows in one statement.

Python gives up its lock for every step of a statement, and while its other thread is busy, gets it back only milliseconds later:
a page of 512 rows, read row by row, was seen to take five seconds. So rows are written by hundreds in one statement, in few shapes,
which SQLite has prepared already; and a page is read as one row: a JSON array, and the blobs one after the other.

Source: CPython, `Modules/_sqlite/cursor.c`; Beazley, "Understanding the Python GIL" (2010), the convoy effect.
"""

import math
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain
from typing import Any

import msgspec

from rig.store.store import Store

CHOSEN = "id IN (SELECT value FROM json_each(?))"
"""A condition; its parameter is made by `among`."""
PAGE_BYTES = 4 * 1024**2
"""What a page holds at most, but for a row that is larger alone."""

_SHAPES = (256, 64, 16, 4, 1)
_IDS = 1000
_json = msgspec.json.Encoder().encode
_heads = msgspec.json.Decoder(list[list[Any]]).decode
_sizes = msgspec.json.Decoder(list[int]).decode


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


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table that is read in pages.

    Attributes:
        name: It has the columns `id` and `size`, too.
        columns: What is read, but for the blob. A number with a fraction comes back with 15 digits.
        blob: The column with the bytes.
    """

    name: str
    columns: str
    blob: str

    def page(
        self, connection: sqlite3.Connection, where: str, parameters: Sequence[Any], limit: int, limit_bytes: int = PAGE_BYTES
    ) -> list[tuple[list[Any], bytes]]:
        """
        Read columns and blobs of the first rows that there are.

        Args:
            where: Condition and order.
            parameters: Those of `where`.
            limit: How many rows at most.
            limit_bytes: What they may count for together; the first one comes whatever it counts for.

        Raises:
            sqlite3.Error: If the table cannot be read.
        """
        rows = f"FROM {self.name} WHERE {where} LIMIT ?"
        sizes = f"SELECT json_group_array(size) FROM (SELECT size {rows})"
        (found,) = connection.execute(sizes, (*parameters, limit)).fetchone()
        fitting = sum(total <= limit_bytes for total in accumulate(_sizes(found)))
        statement = f"""
            SELECT json_group_array(json_array(length({self.blob}), {self.columns})), CAST(group_concat({self.blob}, '') AS BLOB)
            FROM (SELECT {self.columns}, {self.blob} {rows})"""
        heads, blobs = connection.execute(statement, (*parameters, min(limit, max(fitting, 1)))).fetchone()
        return _cut(heads, blobs)


def milliseconds(at: float | None) -> float | None:
    """Round a time so that it comes back from a page as it was. No end is no time."""
    return None if at is None or math.isinf(at) else round(at, 3)


def printable(text: str) -> str:
    """Return a text that UTF-8 can hold: a file name in an exception may have parts that it cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def among(ids: Iterable[int | str]) -> str:
    """Return the parameter of `CHOSEN`, or of the same for another column."""
    return _json(list(ids)).decode()


def counts(connection: sqlite3.Connection, table: str) -> Counts:
    """Return what the triggers have counted."""
    found = connection.execute("SELECT rows, bytes FROM totals WHERE name = ?", (table,)).fetchone()
    if found is None:
        raise sqlite3.DatabaseError(f"the totals of {table} are missing")
    return Counts(*found)


async def all_ids(store: Store, table: str) -> AsyncIterator[list[int]]:
    """
    Give the ids of all rows that are there now, in pages: one transaction for a million rows would keep all other writers waiting.

    Raises:
        StoreFailed: If the database cannot be read.
    """
    (last,) = await store.read(lambda connection: connection.execute(f"SELECT max(id) FROM {table}").fetchone())
    statement = f"SELECT id FROM {table} WHERE id > ? AND id <= ? ORDER BY id LIMIT {_IDS}"
    after = 0
    while ids := await store.read(partial(_ids, statement=statement, parameters=(after, last))):
        yield ids
        after = ids[-1]


def _ids(connection: sqlite3.Connection, statement: str, parameters: tuple[int, int | None]) -> list[int]:
    return [id for (id,) in connection.execute(statement, parameters)]


def _cut(heads: str, blobs: bytes | None) -> list[tuple[list[Any], bytes]]:
    """Give each row its bytes again. There is no blob at all if there is no row, or all are empty."""
    rows, start = [], 0
    for length, *columns in _heads(heads):
        rows.append((columns, (blobs or b"")[start : start + length]))
        start += length
    return rows
