"""An outbox and dead letters in memory, that fail when a test wants it."""

import asyncio
from collections.abc import Iterable, Sequence

from rig.errors import OutboxFull, StoreFailed
from rig.store import Counts, Letter, NewLetter, NewPush, Row

BROKEN = StoreFailed("/state/rig.db", "disk is full", "free some space")


class FakeOutbox:
    """
    Stands for `rig.store.Outbox`.

    Attributes:
        rows: What waits, by id.
        buried: (row, reason) of what became a dead letter.
        failure: What every call raises, if anything.
        room: Rows that fit; None for any number.
        gate: Every call waits until it is set.
        pages: The limit of each page that was read.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.buried: list[tuple[Row, str]] = []
        self.failure: StoreFailed | None = None
        self.room: int | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.pages: list[int] = []
        self.commits: list[int] = []
        self._last = 0

    def put(self, topic: str, *numbers: int, expires_at: float | None = None, binary: bool = False) -> list[int]:
        """Store pushes as others do, and return their ids."""
        ids = []
        for number in numbers:
            self._last += 1
            payload = b"\x00%d" % number if binary else b"%d" % number
            self.rows[self._last] = Row(
                self._last, f"key-{self._last}", topic, "e", payload, binary, 0.0, expires_at, attempts=0, last_error=None
            )
            ids.append(self._last)
        return ids

    async def add(self, rows: Sequence[NewPush]) -> None:
        await self._turn()
        known = {row.key for row in self.rows.values()}
        new = [row for row in rows if row.key not in known]
        if self.room is not None and len(self.rows) + len(new) > self.room:
            raise OutboxFull("/state/rig.db", 1000)
        self.commits.append(len(rows))
        for row in new:
            self._last += 1
            self.rows[self._last] = Row(
                self._last, row.key, row.topic, row.event, row.payload, row.binary, 0.0, row.expires_at, attempts=0, last_error=None
            )

    async def topics(self) -> list[str]:
        await self._turn()
        return sorted({row.topic for row in self.rows.values()})

    async def after(self, topic: str, after_id: int, limit: int) -> list[Row]:
        self.pages.append(limit)
        await self._turn()
        return [row for id, row in sorted(self.rows.items()) if row.topic == topic and id > after_id][:limit]

    async def expired(self, now: float, limit: int = 512) -> list[Row]:
        await self._turn()
        return [row for row in self.rows.values() if row.expires_at is not None and row.expires_at <= now][:limit]

    async def acknowledge(self, ids: Iterable[int]) -> None:
        await self._turn()
        for id in ids:
            self.rows.pop(id, None)

    async def failed(self, ids: Iterable[int], reason: str) -> None:
        await self._turn()
        for id in ids:
            row = self.rows[id]
            fields = {name: getattr(row, name) for name in row.__struct_fields__}
            self.rows[id] = Row(**{**fields, "attempts": row.attempts + 1, "last_error": reason})

    async def bury(self, ids: Iterable[int], reason: str) -> None:
        await self._turn()
        self.buried += [(self.rows.pop(id), reason) for id in ids if id in self.rows]

    async def counts(self) -> Counts:
        await self._turn()
        return Counts(len(self.rows), sum(len(row.payload) for row in self.rows.values()))

    async def _turn(self) -> None:
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure


class FakeLetters:
    """Stands for `rig.store.DeadLetters`."""

    def __init__(self) -> None:
        self.letters: dict[int, Letter] = {}
        self.failure: StoreFailed | None = None
        self._last = 0

    async def add(self, letters: Sequence[NewLetter]) -> None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        for new in letters:
            self._put(new, retry=False)

    def put(self, topic: str, event: str, payload: bytes, *, binary: bool = False) -> int:
        """Have a letter that somebody wants tried again, and return its id."""
        return self._put(NewLetter(topic, event, "app.handler", "failed", None, payload, binary, 0, 0.0), retry=True)

    async def to_retry(self, limit: int, after_id: int = 0) -> list[Letter]:
        await asyncio.sleep(0)
        return [letter for id, letter in sorted(self.letters.items()) if letter.retry and id > after_id][:limit]

    async def retried(self, ids: Iterable[int]) -> None:
        await asyncio.sleep(0)
        for id in ids:
            del self.letters[id]

    def _put(self, new: NewLetter, *, retry: bool) -> int:
        self._last += 1
        self.letters[self._last] = Letter(
            id=self._last,
            kind="event",
            topic=new.topic,
            event=new.event,
            reason=new.reason,
            payload=new.payload,
            binary=new.binary,
            received_at=new.received_at,
            buried_at=0.0,
            retry=retry,
            key=None,
            attempts=0,
            handler=new.handler,
            traceback=new.traceback,
            worker=new.worker,
        )
        return self._last
