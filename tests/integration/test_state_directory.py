"""The state directory of real runs: one run's alone, nobody else's to read, and gone where it was only borrowed."""

import os
import signal
import stat
from pathlib import Path

import pytest

START_UP = 3
HANGING = """
import asyncio, pathlib, rig
app = rig.App()

@app.on("variables:1", "changed")
async def changed(event):
    pathlib.Path("handling").touch()
    await asyncio.sleep(3600)
"""
"""An application whose drain takes until the second signal."""
DRAINING = "draining: handlers finish what was received; a second signal ends it now"


def modes(folder: Path) -> dict[str, str]:
    """Return the permissions of a folder and of everything in it."""
    found = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder.parent)): oct(stat.S_IMODE(path.lstat().st_mode)) for path in found}


@pytest.mark.slow
def test_a_second_run_on_one_directory_is_refused_in_a_sentence(play):
    """It names the first run, what to do, and leaves the first alone; after its end, even by kill -9, the directory is free."""

    async def test(stage):
        first = await stage.run_worker("--workers", "1", topics=2)
        arguments = ("run", "ledger_app:app", "--app-dir", str(Path(__file__).parent), "--url", stage.server.url, "--workers", "1")
        second = await stage.rig(*arguments, "--state-dir", str(stage.state))
        assert await second.end() == START_UP
        assert second.err[-1] == (
            f"Error: another rig run (process {first.process.pid}) uses the state directory {stage.state}: "
            "end that one, or give this one its own with --state-dir"
        )
        assert stage.joined() == set(stage.topics)
        first.signal(signal.SIGKILL)
        await first.end()
        third = await stage.run_worker("--workers", "1", topics=2)
        await third.drain()

    play(test)


def test_a_store_that_is_no_database_is_told_in_a_sentence_and_left_alone(play):
    """Nothing is started, nothing is joined; once the file is moved away, the same command runs."""

    async def test(stage):
        stage.state.mkdir(mode=0o700)
        database, content = stage.state / "rig.db", b"this is no database " * 500
        database.write_bytes(content)
        arguments = ("run", "ledger_app:app", "--app-dir", str(Path(__file__).parent), "--url", stage.server.url, "--workers", "1")
        refused = await stage.rig(*arguments, "--state-dir", str(stage.state))

        assert await refused.end() == START_UP
        assert refused.err == [
            f"Error: the run has not started, because it could store nothing: {database} failed (file is not a database): "
            "while no run uses it, move the file away together with its -wal and -shm, to start with an empty one, or put back "
            "a sound copy; the .recover command of the sqlite3 program reads what is left in it"
        ]
        assert database.read_bytes() == content
        assert not stage.server.clients
        database.rename(stage.folder / "broken.db")
        rig = await stage.run_worker("--workers", "1", topics=2)
        await rig.drain()

    play(test)


def test_nobody_else_can_read_what_a_run_keeps(play, until):
    """The folder is 0700 and everything in it 0700 or 0600, during a run and after it, whatever the umask."""

    async def test(stage):
        old = os.umask(0)
        try:
            rig = await stage.run_worker("--workers", "1", "--stall-timeout", "0.3", topics=2)
            stage.server.publish("room:0", "hang", {})
            await rig.hear("a worker handles nothing")
            during = modes(stage.state)
            rig.signal(signal.SIGTERM)
            await rig.hear(DRAINING)
            rig.signal(signal.SIGTERM)
            await rig.end()
        finally:
            os.umask(old)
        for found in (during, modes(stage.state)):
            folders = {name for name in found if (stage.state.parent / name).is_dir()}
            assert {"state", "state/stalls"} <= folders
            assert "state/lock" in found
            assert set({name: found[name] for name in folders}.values()) == {"0o700"}, found
            assert {mode for name, mode in found.items() if name not in folders} == {"0o600"}, found

    play(test)


def test_the_file_of_settings_says_where_it_is(play, until):
    """A relative directory starts from the file, wherever the run is started."""

    async def test(stage):
        (stage.folder / "etc").mkdir()
        (stage.folder / "etc" / "rig.toml").write_text('state_dir = "kept"\nworkers = 1\n')
        rig = await stage.rig("run", "--config", "etc/rig.toml", "--url", stage.server.url, "--log-format", "json")
        await until(lambda: (stage.folder / "etc" / "kept" / "lock").exists())
        await rig.hear("starting")
        await rig.drain()

    play(test)


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_a_run_without_a_server_leaves_nothing(play, until, signals):
    """The demo has a directory of its own until it ends, also by Ctrl-C and by a second one; the user's own is not touched."""

    async def test(stage):
        borrowed = stage.folder / "tmp"
        borrowed.mkdir()
        if len(signals) > 1:
            (stage.folder / "hanging.py").write_text(HANGING)
        target = ("hanging:app",) if len(signals) > 1 else ()
        rig = await stage.rig("run", *target, "--workers", "1", "--log-format", "json", TMPDIR=str(borrowed))
        await rig.hear("connected")
        if target:
            await until((stage.folder / "handling").exists)
        [folder] = [path for path in borrowed.iterdir() if path.name.startswith("rig-")]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for count, number in enumerate(signals, 1):
            rig.signal(number)
            await rig.hear(DRAINING if count == 1 else "second signal: ending now")
        await rig.end()

        assert list(borrowed.iterdir()) == []
        assert not (stage.folder / "home").exists()

    play(test)
