"""`kill -9` of the supervisor, and of whatever starts it: nothing is left behind."""

import os
import signal

import pytest

ENDING = 2.0


@pytest.mark.parametrize("blocks", [False, True])
def test_children_die_with_the_supervisor(play, until, blocks):
    """The io process and the workers are gone within two seconds, even a worker whose handler blocks."""

    async def test(stage):
        rig = await stage.run_worker()
        if blocks:
            stage.server.publish("room:0", "block", {"seconds": 60})
            await until(lambda: stage.ledger.all("blocking"))
        assert len(stage.processes()) == 4
        rig.signal(signal.SIGKILL)
        await until(lambda: not stage.processes(), within=ENDING)
        await until(lambda: not stage.server.clients, within=ENDING)

    play(test)


def test_the_bundled_server_dies_with_the_supervisor(play, until):
    """It runs in a session of its own, and is not left there."""

    async def test(stage):
        rig = await stage.rig("run", "--workers", "1", "--status-interval", "0")
        await until(lambda: any("joined" in line for line in rig.err))
        assert len(stage.processes()) == 4
        rig.signal(signal.SIGKILL)
        await until(lambda: not stage.processes(), within=ENDING)

    play(test)


@pytest.mark.parametrize("after", [0, 1, pytest.param(2, marks=pytest.mark.slow), 3])
def test_it_can_be_killed_while_it_starts(play, until, after):
    """However many of its children there are when it dies, none stays."""

    async def test(stage):
        rig = await stage.rig("run", "--workers", "2", "--url", stage.server.url)
        await until(lambda: len(stage.processes()) > after)
        rig.signal(signal.SIGKILL)
        await until(lambda: not stage.processes(), within=2 * ENDING)  # a child notices once it has imported what it needs

    play(test)


def test_signals_to_the_children_mean_nothing(play):
    """A terminal or a service manager signals everyone; only the supervisor decides when a child ends."""

    async def test(stage):
        rig = await stage.run_worker()
        for number in (signal.SIGINT, signal.SIGTERM):
            for pid in (*rig.pids("rig.io"), *rig.pids("rig.worker")):
                os.kill(pid, number)
        await stage.until_received()
        # Ctrl-C in a terminal reaches the whole session, and a child cannot ignore it before it runs.
        for pid in (*rig.pids("rig.io"), *rig.pids("rig.worker")):
            assert os.getsid(pid) == pid
        await rig.drain()

        assert not rig.said("process died, and is started again")

    play(test)
