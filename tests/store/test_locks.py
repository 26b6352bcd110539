"""What keeps several connections to one file from harming each other."""

import asyncio
import subprocess
import sys
from pathlib import Path

from rig.store import NewPush, Outbox, Store

_COUNT = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM outbox').fetchone()[0])"


async def _seen_by_another(path: Path) -> int:
    """Return how many rows another process finds, which closes the file behind itself."""
    found = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _COUNT, str(path)], check=True, capture_output=True, text=True
    )
    return int(found.stdout)


def test_a_file_opened_twice_in_one_process_keeps_its_locks(tmp_path: Path) -> None:
    """A command that looks into the file of a run, and goes, takes nothing along that the run stores later."""

    async def main() -> None:
        path = tmp_path / "rig.db"
        first = await Store.open(path)
        await Outbox(first).add([NewPush("a", "t", "e", b"{}")])
        second = await Store.open(path)
        assert await _seen_by_another(path) == 1
        await Outbox(first).add([NewPush("b", "t", "e", b"{}")])
        await Outbox(second).add([NewPush("c", "t", "e", b"{}")])
        assert await _seen_by_another(path) == 3
        for store in (first, second):
            await store.close()

    asyncio.run(main())


def test_a_probe_writes_and_changes_nothing(tmp_path: Path) -> None:
    """It succeeds where the file can be written, and what is in it stays; the others see that somebody has written."""

    async def main() -> None:
        store, other = await Store.open(tmp_path / "rig.db"), await Store.open(tmp_path / "rig.db")
        await Outbox(store).add([NewPush("a", "t", "e", b"{}")])
        await other.changed_by_others()
        await store.probe()
        assert await other.changed_by_others()
        assert (await Outbox(other).counts()).rows == 1
        await store.close()
        await other.close()
        again = await Store.open(tmp_path / "rig.db")
        await again.close()

    asyncio.run(main())
