"""Committed cursors go into the store, one save at a time, whatever the store does."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import structlog.testing

from rig.cursors import Cursor
from rig.errors import StoreFailed
from rig.io.database import Database
from rig.io.saving import Saver, StoredCursors
from rig.io.track import Track

Run = Callable[..., None]
A, B = (Track(topic, None, [], lambda track, cursor: None) for topic in "ab")


class Store:
    """Keeps what it gets, when the test lets it."""

    def __init__(self) -> None:
        self.saves: list[dict[str, Cursor]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def load(self) -> dict[str, Cursor]:
        return {}

    async def save(self, cursors: Mapping[str, Cursor]) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.saves.append(dict(cursors))


FULL = StoreFailed("rig.db", "the disk is full", "free some space")


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def test_saves_do_not_overlap(run: Run) -> None:
    """What comes while a save is under way goes into the next one, the newest of each topic only."""

    async def main() -> None:
        store = Store()
        saver = Saver(store)
        store.gate.clear()
        saver.add({A: 1, B: 1})
        saver.start()
        await turns()
        for number in (2, 3):
            saver.add({A: number})
            saver.start()
            await turns()
        store.gate.set()
        await turns()
        saver.start()
        await turns()

        assert store.saves == [{"a": 1, "b": 1}, {"a": 3}]
        assert not saver

    run(main)


def test_store_that_fails_is_tried_again_with_the_newest(run: Run) -> None:
    """After a pause that doubles; the log says so once, and once that it is well again."""

    async def main() -> None:
        now = [100.0]
        store = Store()
        saver = Saver(store, clock=lambda: now[0])
        store.failure = FULL
        saver.add({A: 1, B: 1})
        with structlog.testing.capture_logs() as logs:
            for pause in (1.0, 2.0, 4.0):
                saver.start()
                await turns()
                now[0] += pause - 0.01
                saver.start()
                assert not saver._busy
                now[0] += 0.02
                saver.add({A: 2})
            store.failure = None
            saver.start()
            await turns()
        assert store.saves == [{"a": 2, "b": 1}]
        assert [(entry["log_level"], entry.get("reason"), entry.get("topics")) for entry in logs] == [
            ("error", str(FULL), None),
            ("info", None, 2),
        ]

    run(main)


def test_last_save_is_waited_for(run: Run) -> None:
    """`finish` saves what there is beside what is under way, and survives a store that fails."""

    async def main() -> None:
        store = Store()
        saver = Saver(store)
        store.gate.clear()
        saver.add({A: 1})
        saver.start()
        await turns()
        saver.add({A: 2})
        ending = asyncio.create_task(saver.finish())
        await turns()
        store.gate.set()
        await ending
        assert store.saves == [{"a": 1}, {"a": 2}]

        store.failure = FULL
        saver.add({A: 3})
        with structlog.testing.capture_logs() as logs:
            await saver.finish()
        assert len(logs) == 1

    run(main)


def test_database_is_opened_when_it_is_needed_and_again_where_that_failed(tmp_path: Path, run: Run) -> None:
    """A folder that is missing is an error of that call alone; what is saved is there for the next run."""

    async def main() -> None:
        folder = tmp_path / "state"
        database = Database(folder / "rig.db", "full")
        cursors = StoredCursors(database)
        for call in (cursors.load, lambda: cursors.save({"a": 1})):
            with pytest.raises(StoreFailed, match=r"rig\.db"):
                await call()
        folder.mkdir()
        await cursors.save({"a": 1, "b": "x"})
        await cursors.save({"a": 2})
        assert await database.store() is await database.store()
        await database.close()

        later = Database(folder / "rig.db", "full")
        assert await StoredCursors(later).load() == {"a": 2, "b": "x"}
        await later.close()
        await Database(folder / "rig.db", "full").close()

    run(main)
