"""Stores in a folder of the test's own, closed at its end."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rig.store import STATE, Schema, Store
from tests.running import run


class Opener:
    """Opens stores within a test. `time` is what their clock shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = 1_700_000_000.0
        self._open: list[Store] = []

    async def __call__(self, name: str = "rig.db", sync: str = "full", schema: Schema = STATE) -> Store:
        store = await Store.open(self.folder / name, sync, schema=schema, clock=lambda: self.time)
        self._open.append(store)
        return store

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        """Run a test on a loop, and close what it opened."""

        async def main() -> None:
            try:
                await test()
            finally:
                for store in self._open:
                    await store.close()

        run(main)


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """Open stores in a folder of the test's own: `store = await opened()`, in a test run by `opened.run`."""
    return Opener(tmp_path)
