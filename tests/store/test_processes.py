"""Several processes on one database, and what is left when one of them is killed."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from rig.store import NewPush, Outbox, Store
from tests.running import run

ROOT = Path(__file__).parents[2]


def adder() -> None:
    """Run in a process of its own: add without end, and say what was stored as soon as it was."""

    async def one(outbox: Outbox, name: str, dice: random.Random) -> None:
        for number in range(10_000_000):
            keys = [f"{name}-{number}-{index}" for index in range(dice.choice([1, 1, 3, 70]))]
            await outbox.add([NewPush(key, f"room:{name}", "say", b"x" * dice.randrange(300)) for key in keys])
            os.write(1, "".join(f"{key}\n" for key in keys).encode())

    async def main() -> None:
        path, name, seed = sys.argv[2:5]
        outbox = Outbox(await Store.open(path))
        await asyncio.gather(*(one(outbox, f"{name}{index}", random.Random(f"{seed} {index}")) for index in range(4)))

    asyncio.run(main())


def start(path: Path, name: str, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.store.test_processes", "adder", str(path), name, str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)


def kill_after(process: subprocess.Popen[bytes], lines: int, seconds: float) -> list[str]:
    """Let it say so many lines, kill it a moment later, and return all that it has said."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    time.sleep(seconds)  # the moment is what the test is about
    process.send_signal(signal.SIGKILL)
    process.wait()
    said += process.stdout.readlines()
    process.stdout.close()
    return [line.decode().strip() for line in said if line.endswith(b"\n")]


def check(path: Path, said: list[str]) -> None:
    """The database is sound, all that was said is there, and nothing twice."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        keys = [key for (key,) in connection.execute("SELECT key FROM outbox ORDER BY id")]
        totals = connection.execute("SELECT rows, bytes FROM totals WHERE name = 'outbox'").fetchone()
        assert totals == connection.execute("SELECT count(*), sum(size) FROM outbox").fetchone()
    assert len(keys) == len(set(keys))
    assert set(said) <= set(keys)
    for name in {key.partition("-")[0] for key in keys}:
        of_one = [key for key in keys if key.startswith(f"{name}-")]
        assert of_one == sorted(of_one, key=lambda key: [int(part) for part in key.split("-")[1:]])


@pytest.mark.parametrize("seed", range(3))
def test_what_was_stored_survives_a_kill(tmp_path, seed):
    """However often, and wherever it hits: what had returned is there, nothing is there twice, and the database is sound."""
    dice = random.Random(seed)
    path, said = tmp_path / "rig.db", []
    for life in range(3):
        process = start(path, f"p{life}c", seed)
        said += kill_after(process, dice.randrange(1, 60), dice.random() * 0.1)
        check(path, said)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 20))
def test_what_was_stored_survives_many_kills(tmp_path, seed):
    """The same, for longer."""
    dice = random.Random(seed)
    path, said = tmp_path / "rig.db", []
    for life in range(5):
        process = start(path, f"p{life}c", seed)
        said += kill_after(process, dice.randrange(1, 3000), dice.random() * 0.5)
        check(path, said)


def test_two_processes_write_at_once(tmp_path):
    """Neither loses anything, nor hears of the other; one of them is killed on the way."""
    path = tmp_path / "rig.db"
    first, second = start(path, "a", 1), start(path, "b", 2)
    said = kill_after(first, 300, 0.0)
    said += kill_after(second, 600, 0.05)
    check(path, said)
    assert {key[0] for key in said} == {"a", "b"}


def test_ids_grow_over_processes(tmp_path):
    """A reader that asks for what comes after an id misses nothing that another process commits later."""
    path = tmp_path / "rig.db"

    async def test() -> None:
        store = await Store.open(path)
        outbox, after, seen = Outbox(store), 0, []
        while len(seen) < 2000:
            rows = await outbox.page(after, 100)
            seen += [row.key for row in rows]
            after = rows[-1].id if rows else after
        while rows := await outbox.page(after, 100):
            seen += [row.key for row in rows]
            after = rows[-1].id
            if len(seen) > 4000:
                break
        assert seen == [row.key for row in await everything(outbox, after)]
        await store.close()

    processes = [start(path, name, 3) for name in "ab"]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        readers = [subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL) for process in processes]
        run(test)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        for reader in readers:
            reader.wait()


async def everything(outbox: Outbox, last: int) -> list:
    rows, after = [], 0
    while page := await outbox.page(after, 500):
        rows += [row for row in page if row.id <= last]
        after = page[-1].id
        if after >= last:
            break
    return rows


if __name__ == "__main__":
    globals()[sys.argv[1]]()
