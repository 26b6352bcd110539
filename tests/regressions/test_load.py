"""Bursts that were thrown away, and clients that could not even be closed under load. The threads are in THREADS.md."""

import asyncio
import time

import pytest

from mock_server.flood import Flood, FloodRequest
from tests.client.talking import talking
from tests.running import run, until
from tests.stage import until as until_soon

STALLING = ("--ring-bytes", "64KiB", "--max-frame-bytes", "8KiB", "--pause-limit", "0.2", "--heartbeat-interval", "0.5",
            "--heartbeat-timeout", "0.5")  # fmt: skip
"""Small rings, and heartbeats for a server that bears with 1.2 s of silence and waits 0.6 s for a reader."""


@pytest.mark.slow
def test_a_burst_of_five_thousand_arrives_whole_at_a_worker(play) -> None:
    """With the defaults, and a handler that takes its time (phoenix-channels-python-client: 80 % lost)."""

    async def test(stage):
        rig = await stage.run_worker(topics=16, workers=1)
        sent = await stage.flood("slow", 5_000)
        await until_soon(lambda: len(stage.ledger.all("slow")) == 5_000)
        summary = await rig.drain()

        assert stage.ledger.repeats("slow", sent) == 0
        assert (summary["received"], summary["handled"]) == (5_000, 5_000)

    play(test)


def test_a_burst_of_five_thousand_arrives_whole_at_a_client() -> None:
    """With the defaults, and nobody who looks while it comes in (phoenix-channels-python-client: 80 % lost)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            assert (await Flood(FloodRequest(topics=["room:1"], count=5_000), server.hub).run()).deliveries == 5_000
            await asyncio.sleep(0)

            events = aiter(channel)
            assert [(await anext(events)).payload["i"] for _ in range(5_000)] == list(range(5_000))

    run(test)


def test_topics_do_not_arrive_in_one_millisecond() -> None:
    """A client with a hundred topics joins them in bursts (phoenixframework/phoenix#4045, knocklabs/javascript#862)."""

    async def test() -> None:
        async with talking() as (server, client):
            channels = await asyncio.gather(*(client.join(f"room:{n}") for n in range(100)))
            server.joins.reset()
            server.close_where(0)
            await until(lambda: len(server.joins.of()) == len(channels))
            times = [join.at for join in server.joins.of()]

            assert times[-1] - times[0] > 0.055
            # Bursts of 20 are sent 20 ms apart; on a busy machine the server may see two at once, and never a third.
            assert all(later - earlier > 0.015 for earlier, later in zip(times, times[41:], strict=False))

    run(test)


@pytest.mark.slow
def test_a_worker_that_stalls_costs_no_connection_and_no_event(play) -> None:
    """It may take longer than the server waits for a reader: what comes meanwhile is kept, in order (nats-io/nats.net.v1#506)."""

    async def test(stage):
        rig = await stage.run_worker(*STALLING, topics=4, workers=1)
        first = stage.client
        started = time.monotonic()
        sent = await stage.flood("gated", 20_000, size=500)
        await until_soon(lambda: time.monotonic() - started > 1.5)
        assert not stage.ledger.all("gated")
        stage.ledger.open_gate()
        await until_soon(lambda: len(stage.ledger.all("gated")) == 20_000)
        assert stage.client == first
        summary = await rig.drain()

        assert stage.ledger.repeats("gated", sent) == 0
        assert summary["spilled"] > 0, "it is said that it did not fit"
        assert "reconnects" not in summary

    play(test, time_scale=0.02)


def test_closing_does_not_wait_for_what_nobody_takes() -> None:
    """A client whose queue is full, in the midst of a flood, closes at once (python-websockets/websockets#1555)."""

    async def test() -> None:
        async with talking(max_queued=10) as (server, client):
            await client.join("room:1")
            flooding = asyncio.create_task(Flood(FloodRequest(topics=["room:1"], count=200_000), server.hub).run())
            await until(lambda: client._paused)
            started = time.monotonic()
        assert time.monotonic() - started < 1.0
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)

    run(test)


def test_heartbeats_do_not_queue_behind_what_nobody_takes() -> None:
    """A consumer that stalls for longer than any heartbeat may take costs no connection (websockets#1012, #912)."""

    async def test() -> None:
        async with talking(max_queued=10, heartbeat_interval=0.1, heartbeat_timeout=0.1) as (server, client):
            channel = await client.join("room:1")
            first = server.clients[0]["client"]
            flooding = asyncio.create_task(Flood(FloodRequest(topics=["room:1"], count=50_000), server.hub).run())
            await asyncio.sleep(1.0)
            assert client._paused
            events = aiter(channel)
            assert [(await anext(events)).payload["i"] for _ in range(50_000)] == list(range(50_000))
            await flooding

            assert [other["client"] for other in server.clients] == [first]

    run(test)
