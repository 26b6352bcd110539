"""What goes wrong on a disk: each time a sentence, never a lost row, and no restart once it is well again."""

import asyncio
import errno
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.errors import StoreFailed, StoreUnusable
from rig.store import SPILL, Cursors, DeadLetters, NewLetter, NewPush, Outbox, Spill, SpillRow, Store
from rig.store.failure import store_failed
from tests.running import run

MIB = 1024**2


def pushes(start: int, count: int = 50, size: int = 2000) -> list[NewPush]:
    return [NewPush(f"{number:08}", f"room:{number % 3}", "say", b"x" * size) for number in range(start, start + count)]


async def fill(outbox: Outbox, start: int = 0) -> tuple[int, StoreFailed]:
    """Add until it is refused; return how many were stored in all, and the refusal."""
    try:
        while True:
            await outbox.add(pushes(start))
            start += 50
    except StoreFailed as exc:
        return start, exc


async def stored(outbox: Outbox) -> list[str]:
    keys, after = [], 0
    while rows := await outbox.page(after, 500):
        after = rows[-1].id
        keys += [row.key for row in rows]
    return keys


def names(count: int) -> list[str]:
    return [f"{number:08}" for number in range(count)]


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_refused(tmp_path, content):
    """The sentence says what to do with it, and it is left as it is."""
    (tmp_path / "rig.db").write_bytes(content)

    async def test() -> None:
        with pytest.raises(StoreUnusable, match=r"rig\.db failed \(.*\): while no run uses it, move the file away .* sound copy"):
            await Store.open(tmp_path / "rig.db")

    run(test)
    assert (tmp_path / "rig.db").read_bytes() == content


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """Nobody made it, or somebody removed it."""

    async def test() -> None:
        with pytest.raises(StoreFailed, match=r"nowhere/rig\.db failed \(No such file or directory\): make .* writable"):
            await Store.open(tmp_path / "nowhere" / "rig.db")

    run(test)


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_a_sentence_whatever_is_asked_for(tmp_path, seed):
    """Bytes in the middle are overwritten: each call gives an answer or StoreFailed, nothing else, and the process lives."""
    dice = random.Random(seed)

    async def build() -> None:
        store = await Store.open(tmp_path / "rig.db")
        await Outbox(store).add([*pushes(0, 400), NewPush("old", "room:1", "say", b"{}", expires_at=1.0)])
        await DeadLetters(store).add([NewLetter("room:1", "say", "f", "no", "Traceback", b"{}", False, 0, 1.0)] * 100)
        await Cursors(store).save({f"room:{number}": number for number in range(500)})
        await store.close()

    run(build)
    size = (tmp_path / "rig.db").stat().st_size
    with (tmp_path / "rig.db").open("r+b") as file:
        for _ in range(dice.choice([1, 30])):
            file.seek(dice.randrange(200, size - 5000))
            file.write(dice.randbytes(dice.choice([1, 100, 5000])))
    failures: list[StoreFailed] = []

    async def use() -> None:
        try:
            store = await Store.open(tmp_path / "rig.db")
        except StoreFailed as exc:
            failures.append(exc)
            return
        outbox, letters, cursors = Outbox(store, limit_bytes=10**9), DeadLetters(store), Cursors(store)
        calls = [
            *(outbox.add([push]) for push in pushes(1000, 20)),
            outbox.topics(),
            *(outbox.after(f"room:{number}", 0, 64) for number in range(3)),
            stored(outbox),
            outbox.expired(2.0),
            outbox.counts(),
            outbox.failed(range(1, 400, 7), "no"),
            outbox.bury(range(1, 400, 5), "no"),
            outbox.acknowledge(range(1, 400, 3)),
            letters.page(0, 500),
            letters.retry(range(1, 100, 2)),
            letters.to_retry(100),
            letters.purge(),
            cursors.load(),
            cursors.save({f"room:{number}": "x" for number in range(500)}),
            store.changed_by_others(),
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        failures.extend(outcome for outcome in outcomes if isinstance(outcome, StoreFailed))
        assert not [outcome for outcome in outcomes if isinstance(outcome, Exception) and not isinstance(outcome, StoreFailed)]
        await store.close()

    run(use)
    for failure in failures:
        assert str(tmp_path) in str(failure)
        assert failure.remedy
    if seed % 12 == 0:  # many bytes, so that it cannot have gone unseen
        assert [failure for failure in failures if "move the file away" in failure.remedy]


def test_a_full_table_space_is_a_sentence_and_passes(opened):
    """SQLITE_FULL: what was stored is there, what was refused is not, and once there is room it goes on."""

    async def test() -> None:
        store = await opened()
        outbox = Outbox(store)
        await store.read(lambda connection: connection.execute("PRAGMA max_page_count = 100").fetchone())
        count, refusal = await fill(outbox)
        assert count
        assert isinstance(refusal.__cause__, sqlite3.Error)
        assert refusal.__cause__.sqlite_errorcode == sqlite3.SQLITE_FULL
        assert "free some space on its disk; nothing needs to be restarted" in str(refusal)
        assert await stored(outbox) == names(count)
        await outbox.acknowledge([1])
        await store.read(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchone())
        await outbox.add(pushes(count))
        assert await stored(outbox) == names(count + 50)[1:]
        assert (await outbox.counts()).rows == count + 49

    opened.run(test)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of four megabytes, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here; the test with a limited file size runs everywhere")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_a_full_disk_is_a_sentence_and_passes(small_disk):
    """ENOSPC: reading goes on, what was stored is there, and with space again it goes on without a restart."""
    (small_disk / "ballast").write_bytes(b"x" * MIB)

    async def test() -> None:
        store = await Store.open(small_disk / "rig.db")
        outbox = Outbox(store)
        count, refusal = await fill(outbox)
        with pytest.raises(OSError, match="No space left") as caught:
            (small_disk / "more").write_bytes(b"x" * MIB)
        assert caught.value.errno == errno.ENOSPC
        assert "disk is full" in refusal.reason
        assert "free some space" in refusal.remedy
        assert count
        assert await stored(outbox) == names(count)
        (small_disk / "more").unlink()
        (small_disk / "ballast").unlink()
        await outbox.add(pushes(count))
        assert await stored(outbox) == names(count + 50)
        await store.close()

    run(test)


def limited() -> None:
    """Run in a process of its own, whose files cannot grow beyond a limit for a while."""

    async def test() -> None:
        store = await Store.open(sys.argv[2])
        outbox = Outbox(store)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
        count, refusal = await fill(outbox)
        assert "quota" in refusal.remedy or "free some space" in refusal.remedy, refusal
        assert count
        assert await stored(outbox) == names(count)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await outbox.add(pushes(count))
        assert await stored(outbox) == names(count + 50)
        await store.close()

    asyncio.run(test())


def forbidden() -> None:
    """Run in a process of its own, as a user who may not write here."""
    if os.geteuid() == 0:
        os.setuid(65534)

    async def test() -> None:
        for folder in sys.argv[2:]:
            with pytest.raises(StoreFailed, match=r"make the file and its folder writable for this user"):
                await Store.open(Path(folder) / "rig.db")

    asyncio.run(test())


def in_a_process(function: str, *arguments: str | Path) -> None:
    """Run one of the functions above by its name, and fail as it fails."""
    command = [sys.executable, "-m", "tests.store.test_failure", function, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr


def test_a_file_that_may_not_grow_is_a_sentence_and_passes(tmp_path):
    """A quota: the same as a full disk."""
    in_a_process("limited", tmp_path / "rig.db")


def test_a_folder_that_cannot_be_written_is_a_sentence():
    """Neither a new database nor one that is there already."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders cannot be entered by others
        path = Path(folder)
        empty, filled = path / "empty", path / "filled"
        for one in (empty, filled):
            one.mkdir()

        async def build() -> None:
            store = await Store.open(filled / "rig.db")
            await store.close()

        run(build)
        (filled / "rig.db").chmod(0o444)
        for one in (empty, filled):
            one.chmod(0o555)
        path.chmod(0o755)
        in_a_process("forbidden", empty, filled)
        for one in (empty, filled):
            one.chmod(0o700)


def test_a_full_spill_is_a_sentence_and_passes(opened):
    """The same for what the workers are too slow for."""

    async def test() -> None:
        store = await opened("spill.db", "off", SPILL)
        spill = Spill(store)
        await store.read(lambda connection: connection.execute("PRAGMA max_page_count = 50").fetchone())
        with pytest.raises(StoreFailed, match="free some space"):
            await spill.append([SpillRow(0, 1, 1, 1, b"x" * MIB)])
        assert await spill.append([SpillRow(0, 1, 1, 1, b"x")]) == [1]

    opened.run(test)


def test_a_failure_that_nobody_foresaw_has_a_remedy_too():
    """There is always something to do."""
    failure = store_failed(Path("/x/rig.db"), sqlite3.OperationalError("odd"))
    assert str(failure) == "/x/rig.db failed (odd): try again; if it stays, report it together with this sentence"


if __name__ == "__main__":
    globals()[sys.argv[1]]()
