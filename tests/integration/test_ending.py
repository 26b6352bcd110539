"""The end of a run takes no longer than --graceful-timeout, whatever the server does, and says what it could not send."""

import os
import signal
import time

import pytest

from mock_server.reference import Room
from rig.store import Outbox, Store
from tests.integration.door import Door
from tests.integration.outbox_scene import Recorder

LOST = "pushes are lost: the server did not take them before the end"
SLACK = 4.0
"""Seconds for the ends of the processes themselves, on a busy machine; without a limit it would be 10 more."""


async def end(rig, *, graceful_timeout):
    """End a run, and return its exit code and the seconds that it took."""
    started = time.monotonic()
    rig.signal(signal.SIGTERM)
    code = await rig.end(within=graceful_timeout + 10)
    return code, time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("graceful_timeout", [1.0, 4.0])
def test_a_server_that_does_not_read_holds_up_no_end(play, until, graceful_timeout):
    """What it had not taken is counted in the log and in the last line; nothing of it is lost in silence."""

    async def test(stage):
        async with Door(stage.server.port) as door:
            rig = await stage.run_worker("--graceful-timeout", str(graceful_timeout), topics=4, workers=1, url=door.url)
            await until(lambda: stage.joined() == set(stage.topics))
            door.stall()
            stage.server.publish("room:1", "pour", {"pushes": 700, "size": 16_000})
            await until(lambda: stage.ledger.all("poured"))
            code, took = await end(rig, graceful_timeout=graceful_timeout)

            [lost] = rig.said(LOST)
            summary = rig.said("done")[0]
            assert took < graceful_timeout + SLACK
            assert code == 0, "the handlers have finished"
            assert 0 < lost["pushes"] == summary["pushes_unsent"] < 700
            assert lost["bytes_on_the_way"] > 1024 * 1024
            assert not rig.said("process did not end in time, and is killed: what it had not stored is lost")

    play(test)


@pytest.mark.slow
def test_a_server_that_reads_again_gets_every_push(play, until, monkeypatch):
    """The end waits for it as long as there is time."""
    poured = []
    monkeypatch.setitem(Room.handlers, "poured", lambda channel, push: poured.append(push.payload["i"]))

    async def test(stage):
        async with Door(stage.server.port) as door:
            rig = await stage.run_worker(topics=4, workers=1, url=door.url)
            await until(lambda: stage.joined() == set(stage.topics))
            door.stall()
            stage.server.publish("room:1", "pour", {"pushes": 700, "size": 16_000})
            await until(lambda: stage.ledger.all("poured"))
            rig.signal(signal.SIGTERM)
            await until(lambda: not rig.pids("rig.worker"))
            door.flow()
            assert await rig.end() == 0
            await until(lambda: len(poured) >= 700)
            assert poured == list(range(700))
            assert "pushes_unsent" not in rig.said("done")[0]
            assert not rig.said(LOST)

    play(test)


@pytest.mark.slow
def test_durable_pushes_that_the_server_does_not_take_stay_in_the_outbox(play, until, monkeypatch):
    """The next run sends them, each once."""
    recorder = Recorder()
    monkeypatch.setitem(Room.handlers, "record", recorder)

    async def test(stage):
        async with Door(stage.server.port) as door:
            rig = await stage.run_worker("--graceful-timeout", "3", topics=4, workers=1, url=door.url)
            await until(lambda: stage.joined() == set(stage.topics))
            door.stall()
            expected = await stage.flood("flooded_deposit", 400)
            await until(lambda: len(stage.ledger.all("stored")) == 400)
            stage.server.publish("room:1", "pour", {"pushes": 700, "size": 16_000})
            await until(lambda: stage.ledger.all("poured"))
            code, took = await end(rig, graceful_timeout=3.0)
            assert (code, took < 3.0 + SLACK) == (0, True)
            assert rig.said(LOST)
        store = await Store.open(stage.state / "rig.db")
        assert (await Outbox(store).counts()).rows == 400
        await store.close()

        again = await stage.run_worker(topics=4, workers=1)
        await until(lambda: recorder.total >= 400)
        await again.drain()
        for topic, count in expected.items():
            assert recorder.numbers(topic) == list(range(count))

    play(test)


@pytest.mark.slow
def test_an_io_process_that_hangs_holds_up_no_end(play, until):
    """It is killed when the time is over, which the log and the exit code say."""

    async def test(stage):
        rig = await stage.run_worker("--graceful-timeout", "4", topics=4, workers=1)
        [io] = rig.pids("rig.io")
        os.kill(io, signal.SIGSTOP)
        code, took = await end(rig, graceful_timeout=4.0)
        assert (code, took < 4.0 + SLACK) == (1, True)
        assert rig.said("process did not end in time, and is killed: what it had not stored is lost", name="io")

    play(test)
