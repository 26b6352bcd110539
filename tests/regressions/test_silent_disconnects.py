"""Connections that looked alive and brought nothing. The threads are in THREADS.md."""

import asyncio
import json
import signal

import pytest

from mock_server.server import MockServer
from rig.client import connect
from rig.errors import PushTimeout
from tests.client.talking import take, talking
from tests.regressions.link import linked
from tests.running import run, until
from tests.stage import until as until_soon

HASTY = {"heartbeat_interval": 0.05, "heartbeat_timeout": 0.05}


@pytest.mark.usefixtures("at_once")
def test_heartbeats_that_stay_unanswered_end_the_connection() -> None:
    """A server that takes heartbeats and answers none is left for a new connection (supabase/supabase-py#1299)."""

    async def test() -> None:
        async with talking(**HASTY) as (server, client):
            channel = await client.join("room:1")
            first = server.clients[0]["client"]
            server.faults.change({"ignore_heartbeats": True})
            await until(lambda: server.clients and server.clients[0]["client"] != first and server.clients[0]["channels"])
            server.faults.reset()
            server.publish("room:1", "news", {"n": 1})

            assert [event.payload for event in await take(aiter(channel), 1)] == [{"n": 1}]

    run(test)


@pytest.mark.slow
def test_a_server_that_hangs_is_noticed_and_named_and_left(play) -> None:
    """Nobody has to restart a worker every 20 minutes in case it receives nothing (supabase/supabase-py#1134, #1034)."""

    async def test(stage):
        hanging = await stage.start("-m", "mock_server", "--port", "0")
        await until_soon(lambda: hanging.out)
        hanging_url = json.loads(hanging.out[0])["url"]
        rig = await stage.run_worker(
            *("--heartbeat-interval", "0.3", "--heartbeat-timeout", "0.2", "--connect-timeout", "0.5"),
            *(f"--url={hanging_url}",),
            topics=2,
            url=hanging_url,
        )
        await rig.hear("joined", times=2)

        hanging.signal(signal.SIGSTOP)
        assert (await rig.hear("connection lost"))["cause"] == "heartbeat_lost"
        assert (await rig.hear("not connected"))["cause"] == "timeout"
        hanging.signal(signal.SIGCONT)
        await rig.hear("joined", times=4)
        await rig.drain()
        hanging.signal(signal.SIGTERM)
        await hanging.end()

    play(test)


@pytest.mark.usefixtures("at_once")
def test_connected_is_false_from_the_moment_the_link_is_lost() -> None:
    """From the cut until the next connection it says False, and a push does not pretend either (supabase/realtime-py#236)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            server.faults.change({"refuse_connections": 503})
            server.close_where(0)
            await until(lambda: not client.connected)
            with pytest.raises(PushTimeout):
                await channel.push("echo", timeout=0.05)
            assert not client.connected

    run(test)


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_a_link_that_went_without_a_word_is_noticed_by_us() -> None:
    """A half-open link gives no error, and the server does not notice it either (firezone/firezone#1974, #3410)."""

    async def test() -> None:
        async with MockServer() as server, linked(server.url) as link, connect(link.url, **HASTY) as client:
            await client.join("room:1")
            link.freeze()
            await until(lambda: not client.connected)
            await until(lambda: client.connected)

            assert len(server.clients) == 2, "the server still has the dead one"

    run(test)


@pytest.mark.usefixtures("at_once")
def test_a_channel_whose_process_is_gone_is_joined_again() -> None:
    """The socket is up and the channel's process is not: that is no state to stay in (firezone/firezone#11493)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            events = aiter(channel)
            [first] = server.clients
            for n in range(2):
                [joined] = server.hub.subscribers("room:1")
                server.kill_channels("room:1")
                await until(lambda before=joined: server.hub.subscribers("room:1") not in ([], [before]))
                server.publish("room:1", "news", {"n": n})
                assert (await anext(events)).payload == {"n": n}
            assert server.clients[0]["client"] == first["client"], "on the same connection"

    run(test)


@pytest.mark.usefixtures("at_once")
def test_whoever_waits_for_an_answer_hears_of_the_end_of_the_connection() -> None:
    """A closure reaches everybody who waits, without a poll of their own (dbos-inc/dbos-transact-py#658)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            waiting = [asyncio.create_task(channel.push("noreply", timeout=60)), asyncio.create_task(client.ping())]
            server.faults.change({"ignore_heartbeats": True, "refuse_connections": 503})
            await until(lambda: client._waiting)
            server.close_where(0)

            done, _ = await asyncio.wait(waiting, timeout=5)
            assert {type(task.exception()).__name__ for task in done} == {"ConnectionLost"}
            assert len(done) == 2

    run(test)
