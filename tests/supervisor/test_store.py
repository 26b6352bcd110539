"""The store of a run, before its io processes have it and after them."""

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from rig.errors import AppError, StoreUnusable
from rig.store import SPILL, NewPush, Outbox, StateDirectory, Store
from rig.supervisor.store import count_waiting, insist_usable
from tests.running import run


def fill(path: Path) -> None:
    async def main() -> None:
        await (await Store.open(path)).close()

    run(main)


def truncate(path: Path) -> None:
    fill(path)
    os.truncate(path, 5000)


def let_another_program_make(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE notes (text TEXT)")
    other.commit()
    other.close()


def make_for_spilling(path: Path) -> None:
    async def main() -> None:
        await (await Store.open(path, schema=SPILL)).close()

    run(main)


@pytest.mark.parametrize(
    ("make", "reason", "remedy"),
    [
        (lambda path: path.write_bytes(b"this is no database " * 500), "file is not a database", "move the file away"),
        (lambda path: path.write_bytes(b"#!/bin/sh\n"), "file is not a database", "put back a sound copy"),
        (truncate, "database disk image is malformed", "put back a sound copy"),
        (let_another_program_make, "it is the database of another program", "name another folder with --state-dir"),
        (make_for_spilling, "it is the database of another program", "name another folder with --state-dir"),
    ],
)
def test_what_can_store_nothing_keeps_a_run_from_starting(tmp_path, make, reason, remedy):
    """The sentence names the file, what is wrong and what to do; not a byte of it is changed, and nothing is made beside it."""
    database = tmp_path / "rig.db"
    make(database)
    before = database.read_bytes()

    async def test() -> None:
        with pytest.raises(AppError) as caught:
            await insist_usable(StateDirectory(tmp_path), "full")
        sentence = str(caught.value)
        assert sentence.startswith(f"the run has not started, because it could store nothing: {database} failed ({reason}): ")
        assert remedy in sentence
        assert isinstance(caught.value.__cause__, StoreUnusable)
        assert caught.value.exit_code == 3

    run(test)
    assert database.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["rig.db"]


def test_a_directory_without_a_store_is_left_as_it_is(tmp_path):
    """The io processes make one when they need it."""

    async def test() -> None:
        await insist_usable(StateDirectory(tmp_path), "full")

    run(test)
    assert list(tmp_path.iterdir()) == []


def test_the_store_of_an_earlier_run_is_taken(tmp_path):
    """As it is; nothing stays open."""
    fill(tmp_path / "rig.db")

    async def test() -> None:
        await insist_usable(StateDirectory(tmp_path), "full")

    run(test)
    assert [path.name for path in tmp_path.iterdir()] == ["rig.db"]


def test_what_may_get_well_by_itself_keeps_no_run_from_starting(tmp_path):
    """Something that cannot be opened now: it is tried again while the run lasts."""
    (tmp_path / "rig.db").mkdir()

    async def test() -> None:
        await insist_usable(StateDirectory(tmp_path), "full")

    run(test)
    assert stat.S_ISDIR((tmp_path / "rig.db").stat().st_mode)


def test_what_waits_is_counted(tmp_path):
    """All of it, whoever stored it; the store is closed after that."""

    async def test() -> None:
        store = await Store.open(tmp_path / "rig.db")
        await Outbox(store).add([NewPush(f"k{number}", "room:1", "say", b"{}") for number in range(3)])
        await store.close()
        assert await count_waiting(StateDirectory(tmp_path), "full") == 3

    run(test)
    assert [path.name for path in tmp_path.iterdir()] == ["rig.db"]


def test_where_nothing_was_stored_nothing_waits(tmp_path):
    """And no database is made to find that out."""

    async def test() -> None:
        assert await count_waiting(StateDirectory(tmp_path), "full") == 0

    run(test)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"no database " * 100)])
def test_what_cannot_be_counted_is_not_known(tmp_path, make):
    """The end of a run does not fail because of it."""
    make(tmp_path / "rig.db")

    async def test() -> None:
        assert await count_waiting(StateDirectory(tmp_path), "full") is None

    run(test)
