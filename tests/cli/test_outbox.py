"""`rig outbox`."""

import asyncio
import json
import os
import pty
import stat
import subprocess
import sys

import pytest

from rig.store import NewPush, Outbox, Store

HOUR_AGO = 1_700_000_000.0


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The platform's place for state directories, empty."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return tmp_path / "xdg" / "rig" / "apps"


def fill(folder, *pushes):
    """Store pushes in a state directory, and let the first fail once."""

    async def main():
        store = await Store.open(folder / "rig.db", clock=lambda: HOUR_AGO)
        await Outbox(store).add(pushes)
        await Outbox(store).failed([1], "timeout")
        await store.close()

    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main())


def rows(folder):
    async def main():
        store = await Store.open(folder / "rig.db")
        try:
            return await Outbox(store).page(0, 10_000)
        finally:
            await store.close()

    return asyncio.run(main())


@pytest.fixture
def shop(state):
    """The state directory of an application, with three pushes."""
    fill(
        state / "shop",
        NewPush("k1", "room:1", "say", b'{"n": 1.0,\n "big": 12345678901234567890123}'),
        NewPush("k2", "room:2", "say", b'"\xc2\x9b2J\\u001b tab\\t"', expires_at=HOUR_AGO + 60),
        NewPush("k3", "hall:1", "blob", b"\x00\xff", binary=True),
    )
    return state / "shop"


def test_the_only_state_directory_is_found(rig, shop):
    """Nobody has to type its name."""
    result = rig("outbox", "list")

    assert (result.exit_code, result.stderr) == (0, "")
    assert [path.name for path in shop.iterdir()] == ["rig.db"], "it was closed"
    assert result.stdout.splitlines() == [
        "id\ttopic\tevent\tstored\texpires\tattempts\tlast error\tpayload",
        '1\troom:1\tsay\t2023-11-14T22:13:20Z\t-\t1\ttimeout\t{"n": 1.0,? "big": 12345678901234567890123}',
        '2\troom:2\tsay\t2023-11-14T22:13:20Z\t2023-11-14T22:14:20Z\t0\t-\t"?2J\\u001b tab\\t"',
        "3\thall:1\tblob\t2023-11-14T22:13:20Z\t-\t0\t-\tAP8=",
    ]


def test_several_state_directories_are_named(rig, state, shop):
    """Which one is meant is not guessed."""
    fill(state / "forum")

    result = rig("outbox", "list")

    assert (result.exit_code, result.stdout) == (2, "")
    assert f"there are several state directories: name one with --state-dir, of {state / 'forum'}, {shop}" in result.stderr
    assert rig("outbox", "list", "--state-dir", str(shop)).stdout.count("\n") == 4
    assert rig("outbox", "list", "--state-dir", str(state / "forum")).stdout.count("\n") == 1


def test_without_a_state_directory_there_is_a_sentence(rig, state, tmp_path):
    """And nothing is made where there was nothing."""
    nowhere, wrong = rig("outbox", "list"), rig("outbox", "list", "--state-dir", str(tmp_path))

    assert (nowhere.exit_code, wrong.exit_code) == (2, 2)
    assert f"there is no state directory in {state}: name one with --state-dir" in nowhere.stderr
    assert (
        f"{tmp_path} is not the state directory of a run: start rig run with it once, or name another with --state-dir"
        in wrong.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_the_variable_names_it_too(rig, state, shop, monkeypatch):
    """As for `rig run`."""
    fill(state / "forum")
    monkeypatch.setenv("RIG_STATE_DIR", str(shop))

    assert rig("outbox", "list").stdout.count("\n") == 4


def test_a_pattern_picks_topics(rig, shop):
    """The patterns of `app.on`; one that is none is refused."""
    assert [json.loads(line)["id"] for line in rig("outbox", "list", "--topic", "room:*", "--json").stdout.splitlines()] == [1, 2]
    assert [json.loads(line)["id"] for line in rig("outbox", "export", "--topic", "{any}:1").stdout.splitlines()] == [1, 3]
    wrong = rig("outbox", "list", "--topic", "*:1")
    assert wrong.exit_code == 2
    assert "'*' can only stand at the end" in wrong.stderr


def test_an_export_has_payloads_as_they_are(rig, shop):
    """One object a line; a number keeps its digits, bytes are in base64."""
    lines = rig("outbox", "export").stdout.splitlines()

    assert '"payload":{"n": 1.0,  "big": 12345678901234567890123}' in lines[0]
    assert json.loads(lines[0]) == {
        "id": 1,
        "key": "k1",
        "topic": "room:1",
        "event": "say",
        "binary": False,
        "stored_at": HOUR_AGO,
        "expires_at": None,
        "attempts": 1,
        "last_error": "timeout",
        "payload": {"n": 1.0, "big": 12345678901234567890123},
    }
    assert json.loads(lines[2])["payload_base64"] == "AP8="
    assert "payload" not in json.loads(lines[2])


def test_a_long_list_ends_after_a_hundred(rig, state):
    """And says so; --all has the rest."""
    fill(state / "shop", *(NewPush(f"{number:04}", "room:1", "say", b"{}") for number in range(1203)))

    short, long = rig("outbox", "list"), rig("outbox", "list", "--all")

    assert short.stdout.count("\n") == 101
    assert short.stderr == "These are the oldest 100; add --all for the rest.\n"
    assert (long.stdout.count("\n"), long.stderr) == (1204, "")
    assert rig("outbox", "export").stdout.count("\n") == 1203
    assert rig("outbox", "list", "--json").stdout.count("\n") == 100


def test_show_has_everything(rig, shop):
    """Readable, or as JSON; nothing steers the terminal. One that is not there is named."""
    result = rig("outbox", "show", "2", "99")

    assert result.exit_code == 1
    assert "key          k2" in result.stdout
    assert "expires_at   2023-11-14T22:14:20Z" in result.stdout
    assert 'payload\n  "?2J\\u001b tab\\t"\n' in result.stdout
    assert result.stderr == "Error: there is no 99: it may have been sent, retried or purged since\n"
    shown = rig("outbox", "show", "3", "--json")
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["payload_base64"] == "AP8="
    assert rig("outbox", "show").exit_code == 2


@pytest.mark.parametrize("command", ["retry", "purge"])
@pytest.mark.parametrize("arguments", [(), ("1", "--all"), ("--all", "--topic", "room:*"), ("1", "--topic", "room:*")])
def test_what_is_meant_must_be_said_once(rig, shop, command, arguments):
    """Nothing is deleted by a slip."""
    result = rig("outbox", command, *arguments)

    assert result.exit_code == 2
    assert "Say which ones: their ids, or what they have in common, or --all." in result.stderr
    assert len(rows(shop)) == 3


def test_retry_forgets_the_failed_attempts(rig, shop):
    """By id, or all; an id that is not there is named, and ends with 1."""
    assert rig("outbox", "retry", "1").stdout == "1 retried\n"
    assert [row.attempts for row in rows(shop)] == [0, 0, 0]
    assert rig("outbox", "retry", "--all", "--json").stdout == '{"retried":3}\n'
    missing = rig("outbox", "retry", "99")
    assert (missing.exit_code, missing.stdout) == (1, "0 retried\n")
    assert missing.stderr == "Error: there is no 99: it may have been sent, retried or purged since\n"


def test_purge_deletes_only_what_is_meant(rig, shop):
    """By topic, by id, then all."""
    assert rig("outbox", "purge", "--topic", "room:*", "--yes").stdout == "2 purged\n"
    assert [row.key for row in rows(shop)] == ["k3"]
    some = rig("outbox", "purge", "1", "3", "--yes")
    assert (some.exit_code, some.stdout) == (1, "1 purged\n")
    assert some.stderr == "Error: there is no 1: it may have been sent, retried or purged since\n"
    assert rig("outbox", "purge", "--all", "--yes", "--json").stdout == '{"purged":0}\n'
    assert rows(shop) == []


def test_purge_asks_nobody_where_nobody_is(rig, shop):
    """A script must say --yes."""
    result = rig("outbox", "purge", "--all")

    assert result.exit_code == 2
    assert "There is no terminal to ask at: add --yes if you are sure." in result.stderr
    assert len(rows(shop)) == 3


def on_a_terminal(*arguments, typed=b""):
    """Run `rig` on a terminal of its own, and return its exit code and all that it printed."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "rig", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        os.write(ours, typed)
        printed = b""
        try:
            while chunk := os.read(ours, 65536):
                printed += chunk
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return process.returncode, printed.decode()


def test_on_a_terminal_there_is_a_table(shop):
    """Long cells are cut, and what others have sent cannot clear the screen."""
    code, printed = on_a_terminal("outbox", "list")

    assert code == 0
    assert "last error" in printed
    assert "─" in printed
    assert "?2J" in printed
    assert "\x9b" not in printed


@pytest.mark.parametrize(("typed", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 130, 3), (b"\n", 130, 3)])
def test_on_a_terminal_purge_asks(shop, typed, code, left):
    """Only a yes deletes."""
    ended, printed = on_a_terminal("outbox", "purge", "--all", typed=typed)

    assert "Delete pushes that the server does not have? [y/N]" in printed
    assert ended == code
    assert len(rows(shop)) == left


def test_commands_work_beside_a_run(rig, shop):
    """While a run has the database open and writes to it; the run sees what they did, and loses nothing."""

    async def main():
        store = await Store.open(shop / "rig.db")
        outbox, stop = Outbox(store), asyncio.Event()

        async def work():
            number = 0
            while not stop.is_set():
                await outbox.add([NewPush(f"run-{number}", "live:1", "say", b"{}")])
                number += 1
            return number

        worker = asyncio.create_task(work())
        while (await outbox.counts()).rows < 10:
            pass
        await store.changed_by_others()
        results = [
            await asyncio.to_thread(rig, "outbox", *arguments)
            for arguments in (
                ("list", "--topic", "room:*"),
                ("show", "1"),
                ("export", "--topic", "hall:*"),
                ("retry", "1"),
                ("purge", "--topic", "room:*", "--yes"),
            )
        ]
        changed = await store.changed_by_others()
        stop.set()
        added = await worker
        left = [row.key for row in await outbox.page(0, 100_000)]
        await store.close()
        return results, changed, added, left

    results, changed, added, left = asyncio.run(main())

    assert [result.exit_code for result in results] == [0] * 5
    assert results[0].stdout.count("\n") == 3
    assert [result.stdout for result in results[3:]] == ["1 retried\n", "2 purged\n"]
    assert changed
    assert left == ["k3", *(f"run-{number}" for number in range(added))]
    assert stat.S_IMODE((shop / "rig.db").stat().st_mode) == 0o600


def test_a_damaged_database_is_a_sentence(rig, shop):
    """No traceback, and what to do."""
    (shop / "rig.db").write_bytes(b"x" * 5000)

    result = rig("outbox", "list")

    assert result.exit_code == 1
    assert "move the file away" in result.stderr
    assert "Traceback" not in result.stderr
