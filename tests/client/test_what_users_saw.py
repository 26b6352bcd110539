"""
What users of other Phoenix clients reported, and must never see with this one, over real connections. Each test is named after the
complaint; the thread is in its docstring.
"""

import asyncio

import pytest

from mock_server.server import MockServer
from rig.client import connect
from rig.errors import ConnectionLost, PushTimeout
from tests.client.talking import cut, take, talking
from tests.running import run, until


@pytest.mark.parametrize("code", [0, 1000, 1001])
def test_after_a_reconnect_it_never_received_any_update_again(code: int) -> None:
    """Several reconnects in a row: each time the same iteration goes on (supabase/realtime-py#258)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            events = aiter(channel)
            for n in range(4):
                server.publish("room:1", "news", {"n": n})
                assert (await anext(events)).payload == {"n": n}
                await cut(server, code)

    run(test)


def test_is_connected_was_true_although_the_link_was_lost() -> None:
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


def test_heartbeats_were_sent_and_unanswered_for_hours() -> None:
    """A server that takes heartbeats and answers none is left for a new connection (supabase/supabase-py#1299)."""

    async def test() -> None:
        async with talking(heartbeat_interval=0.05, heartbeat_timeout=0.05) as (server, client):
            channel = await client.join("room:1")
            first = server.clients[0]["client"]
            server.faults.change({"ignore_heartbeats": True})
            await until(lambda: server.clients and server.clients[0]["client"] != first and server.clients[0]["channels"])
            server.faults.reset()
            server.publish("room:1", "news", {"n": 1})

            assert [event.payload for event in await take(aiter(channel), 1)] == [{"n": 1}]

    run(test)


def test_a_removed_channel_came_back_with_every_reconnect() -> None:
    """What was left is neither joined again nor kept in memory (supabase/supabase-py#1371)."""

    async def test() -> None:
        async with talking() as (server, client):
            await client.join("room:stays")
            for n in range(20):
                await (await client.join(f"room:{n}")).leave()
            await cut(server)

            assert server.clients[0]["channels"] == ["room:stays"]
            assert list(client._channels) == ["room:stays"]
            assert not client._leaving
            assert not client._joining

    run(test)


def test_every_reconnect_left_a_task_behind() -> None:
    """After any number of reconnects there are as many tasks as before, and one connection (supabase/realtime-py#289)."""

    async def test() -> None:
        async with talking() as (server, client):
            await client.join("room:1")
            before = len(asyncio.all_tasks())
            for _ in range(5):
                await cut(server)

            await until(lambda: len(asyncio.all_tasks()) <= before)
            assert len(server.clients) == 1

    run(test)


def test_the_joined_channel_had_not_been_answered_yet() -> None:
    """`await join` returns when the server has accepted, not before (supabase/supabase-py#1209)."""

    async def test() -> None:
        async with talking() as (server, client):
            server.faults.change({"reply_delay": 0.05})
            joining = asyncio.create_task(client.join("room:1"))
            await until(lambda: server.clients[0]["channels"])
            assert not joining.done()

            assert (await joining).response["joined"] == "room:1"

    run(test)


def test_events_came_in_no_order_around_replies() -> None:
    """What the server sends before a reply is there when the reply is, in the order of sending (supabase/supabase-py#1543)."""

    async def test() -> None:
        async with talking() as (_, client):
            channel = await client.join("room:1")
            await channel.send("push_n", {"n": 50})
            await channel.push("push_then_reply", {})

            seen = [event.payload["i"] for event in channel._queue._events if event.event == "tick"]
            assert seen == list(range(1, 51))

    run(test)


def test_a_push_of_an_exception_was_lost_in_the_background() -> None:
    """Whoever waits for a push gets its failure there, and not in a log (supabase/supabase-py#1543)."""

    async def test() -> None:
        async with MockServer() as server, connect(server.url) as client:
            channel = await client.join("room:1")
            pushes = [asyncio.create_task(channel.push("noreply", timeout=5)) for _ in range(3)]
            await asyncio.sleep(0)
            server.close_where(0)

            for outcome in await asyncio.gather(*pushes, return_exceptions=True):
                assert isinstance(outcome, ConnectionLost)

    run(test)


def test_it_connected_again_after_it_had_been_disconnected_on_purpose() -> None:
    """A client that is closed while it waits for its next attempt makes none (phoenixframework/phoenix#6578, #2187)."""

    async def test() -> None:
        async with MockServer() as server:
            async with connect(server.url) as client:
                await client.join("room:1")
                server.faults.change({"refuse_connections": 503})
                server.close_where(1001)
                await until(lambda: not client.connected)
            server.faults.reset()

            assert client._connection._timer is not None
            assert client._connection._timer.cancelled()
            assert not [task for task in asyncio.all_tasks() if task.get_name() == "dial"]

    run(test)
