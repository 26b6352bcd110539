"""Handlers that are slow or block: the connection lives on, reading pauses, and nothing is lost."""

import asyncio
import signal

import pytest

BEATING = ("--heartbeat-interval", "0.2", "--heartbeat-timeout", "0.2")


async def beats(stage, until, count):
    """Wait until the server has heard so many more heartbeats."""
    [client] = stage.server.clients
    start = client["bytes_received"]
    await until(lambda: stage.server.clients[0]["bytes_received"] >= start + count * 30)


@pytest.mark.slow
def test_a_full_ring_pauses_reading_and_loses_nothing(play, until):
    """The server is pushed back, heartbeats go on unanswered, and the same connection brings the rest in order."""

    async def test(stage):
        rig = await stage.run_worker("--ring-bytes", "64KiB", "--max-frame-bytes", "8KiB", *BEATING, topics=4)
        client = stage.client
        [connection] = stage.server.sockets
        flooding = asyncio.create_task(stage.flood("gated", 12_000, size=2_000))
        await until(lambda: connection._paused)
        await beats(stage, until, 6)
        assert not flooding.done()
        assert not rig.said("heartbeat missed"), "a verdict is passed only on what could be read"
        assert not stage.ledger.all("gated")
        stage.ledger.open_gate()
        expected = await flooding
        await until(lambda: stage.ledger.size >= 12_000)
        assert stage.client == client
        summary = await rig.drain()

        assert stage.ledger.repeats("gated", expected) == 0
        assert (summary["received"], summary["handled"]) == (12_000, 12_000)
        assert "reconnects" not in summary

    play(test)


@pytest.mark.slow
def test_a_handler_that_blocks_stops_no_heartbeat(play, until):
    """The connection belongs to a process that runs nobody's handlers."""

    async def test(stage):
        rig = await stage.run_worker(*BEATING, workers=1)
        client = stage.client
        stage.server.publish("room:0", "block", {"seconds": 1.5})
        await until(lambda: stage.ledger.all("blocking"))
        await beats(stage, until, 5)
        assert not stage.ledger.all("blocked"), "the heartbeats came while the handler blocked"
        await until(lambda: stage.ledger.all("blocked"))
        stage.server.publish("room:0", "tick", {"i": 0})
        await until(lambda: stage.ledger.all("tick"))
        assert stage.client == client
        await rig.drain()

    play(test)


def test_a_slow_worker_holds_up_no_other(play, until):
    """As long as its own ring has room, a worker that blocks delays only its own events."""

    async def test(stage):
        rig = await stage.run_worker()
        [hung], [other] = stage.topics_of(0, 1), stage.topics_of(1, 1)
        stage.server.publish(hung, "hang", {})
        await stage.flood("tick", 1_000, topics=[hung])
        expected = await stage.flood("tick", 5_000, topics=[other])
        await until(lambda: len(stage.ledger.all("tick")) == 5_000)
        assert stage.ledger.repeats("tick", expected) == 0
        rig.signal(signal.SIGINT)
        await rig.hear("draining: handlers finish what was received; a second signal ends it now")
        rig.signal(signal.SIGINT)
        assert await rig.end() == 130

    play(test)
