"""A database that is open: group commit, what fails alone, and what others write."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rig.errors import OutboxFull, StoreFailed, StoreUnusable
from rig.store import SPILL, STATE, Schema, Store
from rig.store.schema import migrate, version


def noted(connection: sqlite3.Connection) -> list[str]:
    return [note for (note,) in connection.execute("SELECT topic FROM cursors ORDER BY topic")]


def note(text: str):
    return lambda connection: connection.execute("INSERT INTO cursors VALUES (?, '1')", (text,)).rowcount


class Log:
    """What SQLite is asked for, statement by statement."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    async def of(self, store: Store) -> "Log":
        await store.read(lambda connection: connection.set_trace_callback(self.statements.append))
        return self

    def count(self, statement: str) -> int:
        return self.statements.count(statement)


def test_writes_that_come_together_share_a_transaction(opened):
    """A hundred callers wait for the disk once, not a hundred times."""

    async def test() -> None:
        store = await opened()
        log = await Log().of(store)
        await asyncio.gather(*(store.write(note(str(number))) for number in range(100)))
        assert (log.count("BEGIN IMMEDIATE"), log.count("COMMIT")) == (1, 1)
        assert len(await store.read(noted)) == 100

    opened.run(test)


def test_what_is_asked_for_during_a_transaction_goes_into_the_next(opened):
    """However many they are, two transactions do."""

    async def test() -> None:
        store = await opened()
        log, started, go_on = await Log().of(store), asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def slow(connection: sqlite3.Connection) -> int:
            loop.call_soon_threadsafe(started.set)
            assert go_on.wait(10)
            return 1

        first = asyncio.create_task(store.write(slow))
        await started.wait()
        rest = [asyncio.create_task(store.write(note(str(number)))) for number in range(50)]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, *rest)
        assert log.count("COMMIT") == 2

    opened.run(test)


def test_a_write_that_has_returned_is_seen_by_others(opened):
    """It is committed, not only begun."""

    async def test() -> None:
        store, other = await opened(), await opened()
        await store.write(note("a"))
        assert await other.read(noted) == ["a"]

    opened.run(test)


def test_one_bad_write_does_not_harm_those_beside_it(opened):
    """Only its own caller hears of it."""

    async def test() -> None:
        store = await opened()
        texts = [str(number) for number in range(20)]
        wishes = [store.write(note(text)) for text in (*texts[:13], "3", *texts[13:])]
        outcomes = await asyncio.gather(*wishes, return_exceptions=True)
        assert isinstance(outcomes.pop(13), StoreFailed)
        assert outcomes == [1] * 20
        assert await store.read(noted) == sorted(texts)

    opened.run(test)


def test_half_a_write_is_none(opened):
    """Where the second statement of a write fails, the first is undone."""

    async def test() -> None:
        store = await opened()

        def both(connection: sqlite3.Connection) -> None:
            note("a")(connection)
            note("a")(connection)

        outcomes = await asyncio.gather(store.write(note("b")), store.write(both), return_exceptions=True)
        assert outcomes[0] == 1
        assert isinstance(outcomes[1], StoreFailed)
        assert "UNIQUE" in outcomes[1].reason
        assert await store.read(noted) == ["b"]

    opened.run(test)


def test_a_refusal_reaches_its_caller_only(opened):
    """Those who asked for the same thing at the same time are not refused with it."""

    async def test() -> None:
        store = await opened()

        def odd_only(connection: sqlite3.Connection, numbers: list[int]) -> list[int | OutboxFull]:
            return [number if number % 2 else OutboxFull("x", 1) for number in numbers]

        asked = [store.write_together(odd_only, number) for number in range(4)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert outcomes[1::2] == [1, 3]
        assert [type(outcome) for outcome in outcomes[::2]] == [OutboxFull] * 2

    opened.run(test)


def test_a_bug_in_an_operation_is_raised_as_it_is(opened):
    """It is no failure of the disk, and the next one works."""

    async def test() -> None:
        store = await opened()
        with pytest.raises(ZeroDivisionError):
            await store.write(lambda connection: 1 // 0)
        assert await store.write(note("a")) == 1

    opened.run(test)


def test_a_write_is_done_even_if_nobody_waits_for_it_any_more(opened):
    """An acknowledgement that is cancelled at the end of a run must not send the push twice."""

    async def test() -> None:
        store = await opened()
        task = asyncio.create_task(store.write(note("a")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await store.write(note("b"))
        assert await store.read(noted) == ["a", "b"]

    opened.run(test)


def test_closing_commits_what_was_asked_for(opened):
    """The end of a run loses nothing, and says so to who comes later."""

    async def test() -> None:
        store = await opened()
        tasks = [asyncio.create_task(store.write(note(str(number)))) for number in range(5)]
        await asyncio.sleep(0)
        await store.close()
        assert await asyncio.gather(*tasks) == [1] * 5
        with pytest.raises(StoreFailed, match="closed"):
            await store.write(note("late"))
        with pytest.raises(StoreFailed, match="closed"):
            await store.read(noted)
        assert len(await (await opened()).read(noted)) == 5

    opened.run(test)


def test_what_others_write_is_noticed_once(opened):
    """A run looks whether a command has changed something; its own writes do not count."""

    async def test() -> None:
        store, other = await opened(), await opened()
        await other.write(note("before the first look"))
        assert await store.changed_by_others()
        await store.write(note("ours"))
        assert not await store.changed_by_others()
        await (await opened()).close()
        assert not await store.changed_by_others(), "to open it is no change"
        await other.write(note("theirs"))
        assert await store.changed_by_others()
        assert not await store.changed_by_others()

    opened.run(test)


@pytest.mark.parametrize(("sync", "number"), [("full", 2), ("normal", 1), ("off", 0)])
def test_the_disk_is_asked_as_often_as_was_wished(opened, sync, number):
    """Full is the default; the journal is a write-ahead log in any case, and the cache stays small."""

    async def test() -> None:
        store = await opened(sync=sync)
        pragmas = {
            name: await store.read(lambda connection, name=name: connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("synchronous", "journal_mode", "busy_timeout", "cache_size")
        }
        assert pragmas == {"synchronous": number, "journal_mode": "wal", "busy_timeout": 5000, "cache_size": -2048}

    opened.run(test)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_files_are_ours_alone(opened, umask):
    """Payloads are nobody else's business, whatever the umask; not in -wal and -shm either."""

    async def test() -> None:
        store = await opened()
        await store.write(note("a"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in opened.folder.iterdir()}
        assert modes == {"rig.db": 0o600, "rig.db-wal": 0o600, "rig.db-shm": 0o600}

    before = os.umask(umask)
    try:
        opened.run(test)
    finally:
        os.umask(before)


def test_a_file_that_others_could_read_is_closed_to_them(opened):
    """Somebody may have copied it there."""

    async def test() -> None:
        (opened.folder / "rig.db").touch(mode=0o644)
        await opened()
        assert stat.S_IMODE((opened.folder / "rig.db").stat().st_mode) == 0o600

    opened.run(test)


def test_a_large_file_shrinks_when_its_rows_are_gone(opened, monkeypatch):
    """A backlog of one bad day does not keep its place on the disk for ever."""
    monkeypatch.setattr("rig.store.connection._FREE_PAGES", 256)
    monkeypatch.setattr("rig.store.store._REST", 0.0)

    async def test() -> None:
        store = await opened("spill.db", "off", SPILL)
        pages = 256 * 4

        def fill(connection: sqlite3.Connection) -> None:
            values = "(1, 1, 1, 1, 4000, zeroblob(4000))"
            for _ in range(pages // 64):
                connection.execute(
                    f"INSERT INTO spilled (worker, kind, count, time_ns, size, record) VALUES {','.join([values] * 64)}"
                )

        await store.write(fill)
        await store.close()
        full = (opened.folder / "spill.db").stat().st_size

        store = await opened("spill.db", "off", SPILL)
        await store.write(lambda connection: connection.execute("DELETE FROM spilled").rowcount)
        free = "PRAGMA freelist_count"
        async with asyncio.timeout(10):
            while (await store.read(lambda connection: connection.execute(free).fetchone()[0])) > 256:
                pass
        await store.write(lambda connection: connection.execute("DELETE FROM spilled").rowcount)
        await store.close()
        assert full > pages * 4096
        assert (opened.folder / "spill.db").stat().st_size < full / 2

    opened.run(test)


def test_many_open_a_new_file_at_once(opened):
    """Every io process opens it when a run starts."""

    async def test() -> None:
        stores = await asyncio.gather(*(opened() for _ in range(8)))
        await asyncio.gather(*(store.write(note(str(number))) for number, store in enumerate(stores)))
        assert len(await stores[0].read(noted)) == 8

    opened.run(test)


@pytest.mark.parametrize("before", range(4))
def test_a_file_that_another_process_makes_meanwhile_is_ours(tmp_path, before):
    """Whatever it has come to when we look."""
    path = tmp_path / "rig.db"
    ours, theirs = sqlite3.connect(path, isolation_level=None), sqlite3.connect(path, isolation_level=None)
    seen = []

    def interfere(statement: str) -> None:
        if len(seen) == before:
            migrate(theirs, STATE, path)
        seen.append(statement)

    ours.set_trace_callback(interfere)
    version(ours, STATE, path)
    ours.set_trace_callback(None)
    migrate(theirs, STATE, path)
    assert version(ours, STATE, path) == STATE.version
    ours.close()
    theirs.close()


def test_a_writer_that_takes_too_long_is_named(opened, monkeypatch):
    """We wait for it, but not for ever; all that wait are told at once."""
    monkeypatch.setattr("rig.store.connection._BUSY_TIMEOUT", 0.05)

    async def test() -> None:
        store = await opened()
        other = sqlite3.connect(opened.folder / "rig.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        outcomes = await asyncio.gather(*(store.write(note(str(number))) for number in range(200)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreFailed}
        assert "another process has written to it for too long" in str(outcomes[0])
        other.execute("COMMIT")
        other.close()
        assert await store.write(note("a")) == 1

    opened.run(test)


def test_a_process_that_forgets_to_close_it_ends_all_the_same(tmp_path):
    """A run that crashes must not hang because of its store."""
    program = (
        "import asyncio, sys\nfrom rig.store import Store\n"
        "async def main():\n    store = await Store.open(sys.argv[1])\n    sys.kept = store\n    raise SystemExit(3)\n"
        "asyncio.run(main())"
    )
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", program, tmp_path / "rig.db"], timeout=30, check=False)
    assert ended.returncode == 3


OLD = Schema(STATE.application_id, (("CREATE TABLE old (text TEXT)", "INSERT INTO old VALUES ('kept')"),))
NEW = Schema(STATE.application_id, (*OLD.steps, ("ALTER TABLE old ADD COLUMN number INTEGER DEFAULT 7",)))


def kept(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM old").fetchall()


def test_an_older_file_gets_the_steps_that_it_lacks(opened):
    """What it holds stays."""

    async def test() -> None:
        await (await opened(schema=OLD)).close()
        store = await opened(schema=NEW)
        assert await store.read(kept) == [("kept", 7)]
        await store.close()
        assert await (await opened(schema=NEW)).read(kept) == [("kept", 7)]

    opened.run(test)


def test_a_step_that_fails_leaves_the_file_as_it_was(opened):
    """The older rig can still read it."""
    broken = Schema(STATE.application_id, (*NEW.steps, ("UPDATE old SET text = 'gone'", "SELECT * FROM nowhere")))

    async def test() -> None:
        await (await opened(schema=OLD)).close()
        with pytest.raises(StoreFailed, match="nowhere"):
            await opened(schema=broken)
        assert await (await opened(schema=OLD)).read(kept) == [("kept",)]

    opened.run(test)


def test_a_newer_file_is_not_touched(opened):
    """An older rig would not understand it."""

    async def test() -> None:
        await (await opened(schema=NEW)).close()
        before = (opened.folder / "rig.db").read_bytes()
        with pytest.raises(StoreUnusable, match=r"newer rig .*version 2 .*this one knows 1\): update rig"):
            await opened(schema=OLD)
        assert (opened.folder / "rig.db").read_bytes() == before

    opened.run(test)


def test_the_database_of_another_program_is_left_alone(opened):
    """A wrong --state-dir must not fill somebody else's tables."""

    async def test() -> None:
        other = sqlite3.connect(opened.folder / "rig.db")
        other.execute("CREATE TABLE outbox (id INTEGER)")
        other.commit()
        other.close()
        before = (opened.folder / "rig.db").read_bytes()
        with pytest.raises(StoreUnusable, match=r"another program\): name another folder with --state-dir"):
            await opened()
        assert (opened.folder / "rig.db").read_bytes() == before

    opened.run(test)


def test_version_1_is_read_as_it_was_written(opened):
    """The file of the first release: its rows, letters and cursors are there, and new ones can be added."""
    script = (Path(__file__).parents[1] / "golden" / "store" / "state-1.sql").read_text()

    async def test() -> None:
        old = sqlite3.connect(opened.folder / "rig.db")
        old.executescript(script)
        old.close()
        store = await opened()
        await check_version_1(store)

    opened.run(test)


async def check_version_1(store: Store) -> None:
    from rig.store import Counts, Cursors, DeadLetters, NewPush, Outbox

    outbox, letters = Outbox(store), DeadLetters(store)
    (row,) = await outbox.after("room:1", 0, 10)
    assert (row.id, row.key, row.event, row.payload, row.attempts, row.last_error) == (2, "k2", "say", b'{"n":2}', 1, "timeout")
    assert (row.stored_at, row.expires_at, row.binary) == (1_700_000_000.123, 1_700_000_060.5, False)
    push, event = await letters.page(0, 10)
    assert (push.kind, push.key, push.payload, push.binary, push.reason) == ("push", "k1", b"\x00\xff", True, "refused")
    assert (event.kind, event.handler, event.traceback, event.worker, event.retry) == ("event", "shop:seen", "Traceback", 3, True)
    assert await Cursors(store).load() == {"room:1": 41, "room:2": "b"}
    await outbox.add([NewPush("k3", "room:1", "say", b"{}")])
    assert [row.id for row in await outbox.after("room:1", 0, 10)] == [2, 4]
    assert await outbox.counts() == Counts(2, 159)
