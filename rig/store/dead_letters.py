"""
Dead letters: events whose handler failed for good, and pushes that the server refused or that came too late.

What must stay true: a letter is kept until somebody retries or purges it. A push that is retried has the key that it had.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from rig.store.rows import CHOSEN, Counts, Table, all_ids, among, counts, insert, milliseconds, printable
from rig.store.store import Store

LetterKind = Literal["event", "push"]

_OVERHEAD = 64
_TABLE = Table(
    "dead_letters",
    "id, kind, topic, event, reason, binary, received_at, buried_at, retry, key, attempts, handler, traceback, worker",
    "payload",
)
_INTO = """INSERT INTO dead_letters
    (kind, topic, event, handler, reason, traceback, payload, binary, worker, received_at, buried_at, size)"""


class NewLetter(msgspec.Struct, frozen=True, gc=False):
    """
    An event whose handler failed for good.

    Attributes:
        topic: The channel's topic.
        event: The event's name.
        handler: The handler's name.
        reason: What went wrong, in one line.
        traceback: Python's, or None.
        payload: As it came: JSON text, or bytes.
        binary: Which of the two.
        worker: The number of the worker.
        received_at: Unix seconds.
    """

    topic: str
    event: str
    handler: str
    reason: str
    traceback: str | None
    payload: bytes
    binary: bool
    worker: int
    received_at: float

    @property
    def size(self) -> int:
        """What it counts for, in bytes."""
        return len(self.payload) + len(self.topic) + len(self.event) + len(self.traceback or "") + _OVERHEAD


class Letter(msgspec.Struct, frozen=True, gc=False):
    """
    A dead letter.

    Attributes:
        id: Grows in the order of storing.
        kind: "event" or "push".
        topic, event, reason, payload, binary: As in `NewLetter`.
        received_at: When an event came, or a push was stored, in unix seconds.
        buried_at: When it became a dead letter, in unix seconds.
        retry: True if somebody wants the event tried again.
        key: The idempotency key of a push.
        attempts: How often a push failed; None for an event, whose reason says it.
        handler, traceback, worker: Of an event, as in `NewLetter`.
    """

    id: int
    kind: LetterKind
    topic: str
    event: str
    reason: str
    payload: bytes
    binary: bool
    received_at: float
    buried_at: float
    retry: bool
    key: str | None
    attempts: int | None
    handler: str | None
    traceback: str | None
    worker: int | None


class DeadLetters:
    """The dead letters in a store. Every method raises `StoreFailed` if the database does not do it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, letters: Sequence[NewLetter]) -> None:
        """Store events that nobody could handle."""
        buried_at = self._store.now()
        rows = [_values(letter, buried_at) for letter in letters]
        await self._store.write(lambda connection: insert(connection, _INTO, rows))

    async def page(self, after_id: int, limit: int) -> list[Letter]:
        """Return the oldest letters whose ids are larger than `after_id`, at most `limit`."""
        return await self._page("id > ? ORDER BY id", (after_id,), limit)

    async def get(self, id: int) -> Letter | None:
        """Return one letter, or None if it is not there."""
        found = await self._page("id = ?", (id,), 1)
        return found[0] if found else None

    async def retry(self, ids: Iterable[int] | None = None) -> int:
        """
        Have letters tried again, None: all, and return how many there were.

        A push goes back to the end of the outbox, with its key and without a time to live. An event is marked; a run hands it to
        its handler (see `to_retry`).
        """
        if ids is None:
            return sum([await self.retry(page) async for page in all_ids(self._store, "dead_letters")])
        chosen = among(ids)
        return await self._store.write(lambda connection: _retry(connection, chosen))

    async def purge(self, ids: Iterable[int] | None = None) -> int:
        """Delete letters, None: all, and return how many there were."""
        if ids is None:
            return sum([await self.purge(page) async for page in all_ids(self._store, "dead_letters")])
        chosen = among(ids)
        return await self._store.write(
            lambda connection: connection.execute(f"DELETE FROM dead_letters WHERE {CHOSEN}", (chosen,)).rowcount
        )

    async def to_retry(self, limit: int, after_id: int = 0) -> list[Letter]:
        """Return the oldest events that somebody wants tried again, with ids larger than `after_id`, at most `limit`."""
        return await self._page("retry = 1 AND id > ? ORDER BY id", (after_id,), limit)

    async def retried(self, ids: Iterable[int]) -> None:
        """Delete letters that were handed to their handlers again."""
        await self.purge(ids)

    async def counts(self) -> Counts:
        """Return how many letters there are, and what they count for."""
        return await self._store.read(lambda connection: counts(connection, "dead_letters"))

    async def _page(self, where: str, parameters: tuple[object, ...], limit: int) -> list[Letter]:
        return await self._store.read(
            lambda connection: [_letter(*found) for found in _TABLE.page(connection, where, parameters, limit)]
        )


def _values(new: NewLetter, buried_at: float) -> tuple[object, ...]:
    reason, traceback = printable(new.reason), None if new.traceback is None else printable(new.traceback)
    received_at = milliseconds(new.received_at)
    about = (new.topic, new.event, new.handler, reason, traceback, new.payload, new.binary, new.worker)
    return ("event", *about, received_at, buried_at, new.size)


def _letter(columns: list[Any], payload: bytes) -> Letter:
    id, kind, topic, event, reason, binary, received_at, buried_at, retry, key, attempts, *rest = columns
    about = (kind, topic, event, reason, payload, bool(binary), received_at, buried_at, bool(retry))
    return Letter(id, *about, key, attempts if kind == "push" else None, *rest)


def _retry(connection: sqlite3.Connection, chosen: str) -> int:
    marked = connection.execute(f"UPDATE dead_letters SET retry = 1 WHERE kind = 'event' AND {CHOSEN}", (chosen,)).rowcount
    connection.execute(
        f"""INSERT OR IGNORE INTO outbox (key, topic, event, payload, binary, stored_at, size)
            SELECT key, topic, event, payload, binary, received_at, size FROM dead_letters
            WHERE kind = 'push' AND {CHOSEN} ORDER BY id""",
        (chosen,),
    )
    moved = connection.execute(f"DELETE FROM dead_letters WHERE kind = 'push' AND {CHOSEN}", (chosen,)).rowcount
    return marked + moved
