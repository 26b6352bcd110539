"""Heartbeats that ended connections which were well, or did not keep them. The threads are in THREADS.md."""

import asyncio
import time

import pytest

from mock_server.pace import Pace, PaceRequest
from mock_server.server import MockServer
from rig.client import connect
from tests.client.talking import talking
from tests.running import run, until


@pytest.mark.usefixtures("at_once")
def test_a_heartbeat_that_the_old_connection_waited_for_does_not_end_the_new_one() -> None:
    """Nothing that an old connection waited for is held against the next (phoenix#3083, phoenix-socket-dart#28, firezone#4361)."""

    async def test() -> None:
        async with talking(heartbeat_interval=0.05, heartbeat_timeout=0.2) as (server, client):
            await client.join("room:1")
            for _ in range(3):
                [before] = server.clients
                server.faults.change({"ignore_heartbeats": True})
                await until(lambda: client._socket._heartbeat._sent)
                server.close_where(0)
                server.faults.reset()
                await until(lambda old=before: server.clients and server.clients[0]["client"] != old["client"])
                [now] = server.clients
                await asyncio.sleep(0.45)  # the old heartbeat's verdict would have been passed twice
                assert [other["client"] for other in server.clients] == [now["client"]]

    run(test)


@pytest.mark.slow
def test_heartbeats_come_at_their_interval_and_the_server_stays(play) -> None:
    """A server that closes whoever is silent for a while keeps a worker with nothing to say (firezone/firezone#4484)."""

    async def test(stage):
        rig = await stage.run_worker("--heartbeat-interval", "0.3", "--heartbeat-timeout", "0.3", topics=2, workers=1)
        [before] = stage.server.clients
        started = time.monotonic()
        await until(
            lambda: not stage.server.clients or stage.server.clients[0]["bytes_received"] - before["bytes_received"] > 6 * 36
        )

        assert [client["client"] for client in stage.server.clients] == [before["client"]], "the server has closed it"
        assert time.monotonic() - started > 1.2, "twice as long as the server bears with silence"
        assert "reconnects" not in await rig.drain()

    play(test, time_scale=0.01)


def test_a_busy_channel_starves_no_heartbeat() -> None:
    """A reply that comes late behind a stream of events is no dead link, and nothing is lost (supabase/realtime-js#133)."""

    async def test() -> None:
        async with MockServer() as server, connect(server.url, heartbeat_interval=0.1, heartbeat_timeout=0.1) as client:
            channel = await client.join("room:1")
            first = server.clients[0]["client"]
            server.faults.change({"reply_delay": 0.5})
            request = PaceRequest(topics=["room:1"], rate=500, seconds=1.5)
            sending = asyncio.create_task(Pace(request, server.hub).run())
            seen = [(await anext(channel.__aiter__())).payload["i"] for _ in range(750)]

            assert (await sending).sent == 750
            assert seen == list(range(750))
            assert [other["client"] for other in server.clients] == [first]

    run(test)


def test_one_late_heartbeat_is_forgiven() -> None:
    """One missed is too eager, none is too lazy: a link that is slow for a moment is kept (firezone/firezone#12248)."""

    async def test() -> None:
        async with talking(heartbeat_interval=0.2, heartbeat_timeout=0.1) as (server, client):
            await client.join("room:1")
            first = server.clients[0]["client"]
            server.faults.change({"reply_delay": 0.15})
            for _ in range(2):
                await until(lambda: client._socket._heartbeat.missed == 1)
                await until(lambda: client._socket._heartbeat.missed == 0)

            assert [other["client"] for other in server.clients] == [first]

    run(test)
