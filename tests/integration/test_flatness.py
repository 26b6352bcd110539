"""Ten thousand reconnects leave nothing behind: no memory, no descriptor, no thread, no task."""

import asyncio
import gc
import os
import sys

import msgspec
import pytest

from rig.config import Settings
from rig.connection import Connection
from rig.dialling import Dialler
from rig.phoenix import Push, Socket, events
from tests.flatness import TOLERANCE, assert_flat, footprint, peak

RECONNECTS, TOPICS = 10_000, 8
PART = 1_500
"""Reconnects before the first peak, and the last ones, of which the second is taken."""
OFTEN = 20
"""Reconnects between two looks."""
HASTY_IO = """
import random, sys
if "rig.io" in sys.orig_argv:
    random.random = lambda: 0.0
"""
"""Full jitter times nothing: the io process of a test connects again at once."""


def show(name, before, after):
    """Leave the figures in the output of the test."""
    sys.stderr.write(f"{name}: {before} -> {after}\n")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("reconnects", "tolerance"), [(400, 0.25), pytest.param(10_000, TOLERANCE, marks=pytest.mark.slow)])
def test_an_io_process_that_reconnects_is_as_large_as_before(play, until, monkeypatch, reconnects, tolerance):
    """A real one, that joins eight topics each time, with its worker and its supervisor beside it."""

    def connection(stage):
        """Return the connection that has joined everything, once there is one."""
        sockets = stage.server.sockets.values()
        return next((one.connection for one in sockets if len(one.channels) == TOPICS and not one.connection.closed), None)

    async def test(stage):
        (stage.folder / "sitecustomize.py").write_text(HASTY_IO)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(stage.folder), os.environ.get("PYTHONPATH")))))
        rig = await stage.run_worker("--log-level", "error", workers=1, topics=TOPICS)
        pids = {"io": rig.pids("rig.io")[0], "worker": rig.pids("rig.worker")[0], "supervisor": rig.process.pid}
        looks = {name: [] for name in pids}
        for number in range(reconnects):
            while (found := connection(stage)) is None:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.001)
            found.drop()
            if number % OFTEN == 0:
                for name, pid in pids.items():
                    looks[name].append(footprint(pid))
        await until(lambda: connection(stage))
        expected = await stage.flood("tick", 800)
        await until(lambda: stage.ledger.size == 800)
        assert rig.pids("rig.io") == [pids["io"]], "it is still the same process"
        rig.process.terminate()
        assert await rig.end() == 0

        for name, some in looks.items():
            part = len(some) * PART // RECONNECTS
            before, after = peak(some[:part]), peak(some[-part:])
            show(name, before, after)
            assert_flat(before, after, tolerance=tolerance)
        assert stage.ledger.repeats("tick", expected) == 0

    play(test, seconds=240)


@pytest.mark.slow
def test_a_connection_that_reconnects_ten_thousand_times_leaves_no_task(play, until):
    """In this process, so that the tasks of its loop can be counted; the server is another one, and cuts it off when asked to."""

    async def test(stage):
        mock = await stage.start("-m", "mock_server", "--port", "0")
        url = msgspec.json.decode(await until(lambda: mock.out and mock.out[0]))["url"]
        finished, joined, looks = asyncio.Event(), 0, []

        def on_events(received):
            nonlocal joined
            for event in received:
                if isinstance(event, events.Joined):
                    joined += 1
                    if joined % OFTEN == 0:
                        gc.collect()
                        looks.append(footprint())
                    if joined == RECONNECTS:
                        finished.set()
                    connection.push([Push("room:1", "kill_transport", {}, wants_reply=False)])

        connection = Connection(Socket(random=lambda: 0.0, rejoin_stopped=True), Dialler.of(Settings(url=url)), on_events)
        connection.join("room:1", {})
        connection.start()
        gc.freeze()  # what the tests hold is not gone through each time
        try:
            await finished.wait()
        finally:
            gc.unfreeze()
        await connection.close()
        mock.process.terminate()
        await mock.end()

        before, after = peak(looks[: PART // OFTEN]), peak(looks[-PART // OFTEN :])
        show("connection", before, after)
        assert_flat(before, after)

    play(test, seconds=110)
