"""
Durable pushes: stored before anybody is told so, sent in the order of storing, deleted once the server has them.

What must stay true: a key waits at most once. Ids grow in the order of storing, over all processes, and are not used again.

Source: Richardson, "Microservices Patterns", the pattern "Transactional outbox".
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from rig.errors import OutboxFull
from rig.store.rows import CHOSEN, Counts, Table, all_ids, among, counts, insert, milliseconds, printable
from rig.store.store import Store

_OVERHEAD = 64
_TABLE = Table("outbox", "id, key, topic, event, binary, stored_at, expires_at, attempts, last_error", "payload")
_INTO = "INSERT OR IGNORE INTO outbox (key, topic, event, payload, binary, stored_at, expires_at, size)"
_TOPICS = """
    WITH RECURSIVE found (topic) AS (
        SELECT min(topic) FROM outbox
        UNION ALL
        SELECT (SELECT min(topic) FROM outbox WHERE topic > found.topic) FROM found WHERE found.topic IS NOT NULL)
    SELECT topic FROM found WHERE topic IS NOT NULL"""
"""Steps from one topic to the next in the index; DISTINCT would read it all."""


class NewPush(msgspec.Struct, frozen=True, gc=False):
    """
    A push to be stored.

    Attributes:
        key: Its idempotency key.
        topic: The channel's topic.
        event: The event's name.
        payload: JSON text, or the bytes of a binary push.
        binary: Which of the two.
        expires_at: Unix seconds after which it is not sent any more; None: never.
    """

    key: str
    topic: str
    event: str
    payload: bytes
    binary: bool = False
    expires_at: float | None = None

    @property
    def size(self) -> int:
        """What it counts for, in bytes: what it holds, and something for its place in tables and indexes."""
        return len(self.payload) + len(self.topic) + len(self.event) + len(self.key) + _OVERHEAD


class Row(msgspec.Struct, frozen=True, gc=False):
    """
    A push that waits.

    Attributes:
        id: Grows in the order of storing.
        key, topic, event, payload, binary, expires_at: As in `NewPush`.
        stored_at: Unix seconds.
        attempts: How often it failed.
        last_error: Why it failed last.
    """

    id: int
    key: str
    topic: str
    event: str
    payload: bytes
    binary: bool
    stored_at: float
    expires_at: float | None
    attempts: int
    last_error: str | None


class Outbox:
    """The pushes in a store. Every method raises `StoreFailed` if the database does not do it."""

    def __init__(self, store: Store, limit_bytes: int | None = None) -> None:
        """
        Look at the outbox of a store.

        Args:
            store: One with the schema `STATE`.
            limit_bytes: What all rows together may count for; None: no limit.
        """
        self._store = store
        self._limit_bytes = limit_bytes

    async def add(self, rows: Sequence[NewPush]) -> None:
        """
        Store pushes, in order: all or none. A key that waits already is passed over, so that a repeated call does no harm.

        Raises:
            OutboxFull: If they would exceed the limit.
            StoreFailed: If the database does not take them.
        """
        await self._store.write_together(self._insert, rows)

    async def topics(self) -> list[str]:
        """Name the topics with pushes that wait, sorted."""
        return await self._store.read(lambda connection: [topic for (topic,) in connection.execute(_TOPICS)])

    async def after(self, topic: str, after_id: int, limit: int) -> list[Row]:
        """Return the oldest pushes of a topic whose ids are larger than `after_id`, at most `limit`."""
        return await self._page("topic = ? AND id > ? ORDER BY id", (topic, after_id), limit)

    async def page(self, after_id: int, limit: int) -> list[Row]:
        """Return the oldest pushes of all topics whose ids are larger than `after_id`, at most `limit`."""
        return await self._page("id > ? ORDER BY id", (after_id,), limit)

    async def get(self, id: int) -> Row | None:
        """Return one push, or None if it does not wait any more."""
        found = await self._page("id = ?", (id,), 1)
        return found[0] if found else None

    async def expired(self, now: float, limit: int = 512) -> list[Row]:
        """Return pushes whose time to live is over at `now` (unix seconds), at most `limit`."""
        return await self._page("expires_at <= ? ORDER BY expires_at", (now,), limit)

    async def acknowledge(self, ids: Iterable[int]) -> None:
        """Delete pushes that the server has."""
        await self._store.write_together(_acknowledge, ids)

    async def failed(self, ids: Iterable[int], reason: str) -> None:
        """Count an attempt that failed."""
        statement = f"UPDATE outbox SET attempts = attempts + 1, last_error = ? WHERE {CHOSEN}"
        chosen = among(ids)
        await self._store.write(lambda connection: connection.execute(statement, (printable(reason), chosen)).rowcount)

    async def bury(self, ids: Iterable[int], reason: str) -> None:
        """Move pushes to the dead letters."""
        chosen, buried_at = among(ids), self._store.now()
        await self._store.write(lambda connection: _bury(connection, chosen, reason, buried_at))

    async def retry(self, ids: Iterable[int] | None = None) -> int:
        """Forget the failed attempts of pushes that wait, None: of all, and return how many there were."""
        if ids is None:
            return sum([await self.retry(page) async for page in all_ids(self._store, "outbox")])
        chosen = among(ids)
        statement = f"UPDATE outbox SET attempts = 0, last_error = NULL WHERE {CHOSEN}"
        return await self._store.write(lambda connection: connection.execute(statement, (chosen,)).rowcount)

    async def purge(self, ids: Iterable[int] | None = None) -> int:
        """Delete pushes that nobody wants sent any more, None: all, and return how many there were."""
        if ids is None:
            return sum([await self.purge(page) async for page in all_ids(self._store, "outbox")])
        chosen = among(ids)
        return await self._store.write(
            lambda connection: connection.execute(f"DELETE FROM outbox WHERE {CHOSEN}", (chosen,)).rowcount
        )

    async def counts(self) -> Counts:
        """Return how many pushes wait, and what they count for."""
        return await self._store.read(lambda connection: counts(connection, "outbox"))

    async def _page(self, where: str, parameters: tuple[object, ...], limit: int) -> list[Row]:
        return await self._store.read(
            lambda connection: [_row(*found) for found in _TABLE.page(connection, where, parameters, limit)]
        )

    def _insert(self, connection: sqlite3.Connection, calls: list[Sequence[NewPush]]) -> list[OutboxFull | None]:
        """Insert what several calls of `add` have asked for, but those for which there is no room."""
        rows = list(chain.from_iterable(calls))
        if self._limit_bytes is None or _used(connection) + sum(new.size for new in rows) <= self._limit_bytes:
            self._put(connection, rows)
            return [None] * len(calls)
        return [self._insert_if_it_fits(connection, rows, self._limit_bytes) for rows in calls]

    def _insert_if_it_fits(self, connection: sqlite3.Connection, rows: Sequence[NewPush], limit: int) -> OutboxFull | None:
        size = _new_bytes(connection, rows)
        if size and _used(connection) + size > limit:
            return OutboxFull(str(self._store.path), limit)
        self._put(connection, rows)
        return None

    def _put(self, connection: sqlite3.Connection, rows: Sequence[NewPush]) -> None:
        now = self._store.now()
        values = [
            (new.key, new.topic, new.event, new.payload, new.binary, now, milliseconds(new.expires_at), new.size) for new in rows
        ]
        insert(connection, _INTO, values)


def _used(connection: sqlite3.Connection) -> int:
    return counts(connection, "outbox").bytes


def _row(columns: list[Any], payload: bytes) -> Row:
    id, key, topic, event, binary, *rest = columns
    return Row(id, key, topic, event, payload, bool(binary), *rest)


def _new_bytes(connection: sqlite3.Connection, rows: Sequence[NewPush]) -> int:
    """Add up what does not wait already."""
    sizes: dict[str, int] = {}
    for new in rows:
        sizes.setdefault(new.key, new.size)
    waiting = "SELECT key FROM outbox WHERE key IN (SELECT value FROM json_each(?))"
    for (key,) in connection.execute(waiting, (among(sizes),)):
        del sizes[key]
    return sum(sizes.values())


def _acknowledge(connection: sqlite3.Connection, calls: list[Iterable[int]]) -> list[None]:
    connection.execute(f"DELETE FROM outbox WHERE {CHOSEN}", (among(chain.from_iterable(calls)),))
    return [None] * len(calls)


def _bury(connection: sqlite3.Connection, chosen: str, reason: str, buried_at: float) -> None:
    connection.execute(
        f"""INSERT INTO dead_letters (kind, topic, event, key, binary, attempts, received_at, buried_at, size, reason, payload)
            SELECT 'push', topic, event, key, binary, attempts, stored_at, ?, size, ?, payload FROM outbox
            WHERE {CHOSEN} ORDER BY id""",
        (buried_at, printable(reason), chosen),
    )
    connection.execute(f"DELETE FROM outbox WHERE {CHOSEN}", (chosen,))
