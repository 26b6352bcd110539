"""
One database that is open, and group commit.

A write waits for the transaction that is running; all that have gathered meanwhile make the next one. So the disk is asked to
sync once for many writes, and the more there is to do, the more share it.

What must stay true: a write that has returned is committed, in full or not at all. One that fails does not harm those beside
it.

Source: Helland et al., "Group Commit Timers and High-Volume Transaction Systems" (1987); SQLite, "PRAGMA data_version".
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self, TypeVar

from rig.errors import RigError, StoreFailed
from rig.store.connection import Connection, Operation, Sync, give_back
from rig.store.failure import FAILURES, locked, store_failed
from rig.store.schema import STATE, Schema

T = TypeVar("T")
A = TypeVar("A")
Bulk = Callable[[sqlite3.Connection, list[A]], Sequence[T | RigError]]
_Wish = tuple[Bulk[Any, Any], Any]

_LARGEST_GROUP = 1024
_REST = 1.0
"""Seconds without a write, after which the file may shrink."""


class Store:
    """A database that is open. Make one with `open`."""

    def __init__(self, path: Path, connection: Connection, clock: Callable[[], float]) -> None:
        self.path = path
        self._connection = connection
        self._clock = clock
        self._waiting: list[tuple[_Wish, asyncio.Future[Any]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._seen_version = 0
        self._closed = False

    @classmethod
    async def open(
        cls, path: Path | str, sync: Sync = "full", *, schema: Schema = STATE, clock: Callable[[], float] = time.time
    ) -> Self:
        """
        Open a database, make it if there is none, and bring it to the version that this rig knows.

        Args:
            path: The file; its folder must be there.
            sync: "full": a write that has returned survives a loss of power. "normal": it survives the end of every process, and
                a loss of power may take the newest. "off": the same, and a loss of power may damage the file.
            schema: What it holds: `STATE` or `SPILL`.
            clock: Unix time in seconds.

        Raises:
            StoreUnusable: If it is no database, is damaged, of another program or of a newer rig. It is left as it is.
            StoreFailed: If it cannot be opened or written.
        """
        path = Path(path)
        connection = Connection(path, sync, schema)
        try:
            await connection.open()
        except FAILURES as exc:
            raise store_failed(path, exc) from exc
        store = cls(path, connection, clock)
        try:
            store._seen_version = await store.read(_data_version)
        except StoreFailed:
            await store.close()
            raise
        return store

    def now(self) -> float:
        """Return unix time in seconds, to the millisecond."""
        return round(self._clock(), 3)

    async def close(self) -> None:
        """
        Commit what was asked for, and close the file. What is asked for later fails.

        Raises:
            StoreFailed: If the file cannot be closed.
        """
        self._closed = True
        self._end_rest()
        while self._committing is not None and not self._committing.done():
            await asyncio.wait([self._committing])
        try:
            await self._connection.close()
        except FAILURES as exc:
            raise store_failed(self.path, exc) from exc

    async def changed_by_others(self) -> bool:
        """
        Return True if another connection, of this process or another, has written since the last call.

        Raises:
            StoreFailed: If the file cannot be read.
        """
        version = await self.read(_data_version)
        changed, self._seen_version = version != self._seen_version, version
        return changed

    async def read(self, operation: Operation[T]) -> T:
        """
        Run something that only reads, and return its result.

        Raises:
            StoreFailed: If the file cannot be read, or is closed.
        """
        self._check_open()
        try:
            return await self._connection.run(operation)
        except FAILURES as exc:
            raise store_failed(self.path, exc) from exc

    async def probe(self) -> None:
        """
        Write something that changes nothing, to see whether the file takes anything.

        Raises:
            StoreFailed: If it does not.
        """

        def rewrite(connection: sqlite3.Connection) -> None:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {int(version)}")

        await self.write(rewrite)

    async def write(self, operation: Operation[T]) -> T:
        """
        Run something that writes, within a transaction, and return its result once that is committed.

        What was asked for is done even if nobody waits for it any more.

        Args:
            operation: It may be run twice, and must not begin or end a transaction.

        Raises:
            StoreFailed: If it could not be committed; nothing of it was.
        """
        return await self.write_together(_one_by_one, operation)

    async def write_together(self, bulk: Bulk[A, T], argument: A) -> T:
        """
        Do as `write` does, in one call for all who ask for the same thing one after the other.

        Args:
            bulk: What to run: it gets the arguments of all, and returns for each a result, or the error that its caller is to see;
                then nothing must have been done of what that one asked for. It may be run twice.
            argument: This caller's.

        Raises:
            StoreFailed: If it could not be committed; nothing of it was.
            RigError: What `bulk` has returned for this argument.
        """
        self._check_open()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(((bulk, argument), done))
        if self._committing is None or self._committing.done():
            self._end_rest()
            self._committing = asyncio.create_task(self._commit_all())
        return await done

    async def _commit_all(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:_LARGEST_GROUP], self._waiting[_LARGEST_GROUP:]
            try:
                outcomes = await self._connection.run(partial(_commit, wishes=[wish for wish, _ in group]))
            except Exception as exc:
                outcomes = [exc] * len(group)
            for (_, done), outcome in zip(group, outcomes, strict=True):
                self._tell(done, outcome)

        if not self._closed:
            self._rest = asyncio.get_running_loop().call_later(_REST, self._start_giving_back)

    def _end_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _start_giving_back(self) -> None:
        self._committing = asyncio.create_task(self._give_back())

    async def _give_back(self) -> None:
        """Return room to the file system until there is something better to do."""
        more = True
        while more and not self._waiting and not self._closed:
            try:
                more = await self._connection.run(give_back)
            except FAILURES:
                more = False  # the next write will say so
        if self._waiting:
            await self._commit_all()

    def _tell(self, done: asyncio.Future[Any], outcome: Any) -> None:
        if done.done():
            return
        if isinstance(outcome, FAILURES):
            failure = store_failed(self.path, outcome)
            failure.__cause__ = outcome
            done.set_exception(failure)
        elif isinstance(outcome, Exception):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreFailed(str(self.path), "it is closed", "the run is at its end; ask again in the next one")


def _data_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def _commit(connection: sqlite3.Connection, wishes: list[_Wish]) -> list[Any]:
    """Fulfil wishes in one transaction; where that fails, each half in one of its own, until the guilty one is alone."""
    try:
        return _transact(connection, wishes)
    except Exception as exc:
        if len(wishes) == 1 or locked(exc):
            return [exc] * len(wishes)
    middle = len(wishes) // 2
    return _commit(connection, wishes[:middle]) + _commit(connection, wishes[middle:])


def _transact(connection: sqlite3.Connection, wishes: list[_Wish]) -> list[Any]:
    outcomes: list[Any] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for bulk, same in groupby(wishes, key=itemgetter(0)):
            outcomes += bulk(connection, [argument for _, argument in same])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _one_by_one(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[Any]:
    return [operation(connection) for operation in operations]
