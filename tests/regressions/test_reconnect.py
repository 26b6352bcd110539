"""Reconnects that never happened, never stopped, or left half of the client behind. The threads are in THREADS.md."""

import asyncio
import itertools
import random
import time
from contextlib import AsyncExitStack

import pytest

from mock_server.channel import Reply
from mock_server.server import MockServer
from rig.client import connect
from rig.errors import PushTimeout
from tests.client.talking import cut, talking
from tests.regressions.link import linked
from tests.running import run, until
from tests.stage import until as until_soon

HASTY = {"heartbeat_interval": 0.1, "heartbeat_timeout": 0.1}


def test_a_clean_server_close_with_1000_still_reconnects(play) -> None:
    """A worker whose server says goodbye in order comes back, to every topic and every handler (phoenixframework/phoenix#3161)."""

    async def test(stage):
        rig = await stage.run_worker(topics=4, workers=1)
        first = stage.client

        stage.server.close_where(1000)
        await rig.hear("connection lost", code=1000)
        await until_soon(lambda: stage.joined() == set(stage.topics))
        assert stage.client != first
        sent = await stage.flood("tick", 40)
        await until_soon(lambda: len(stage.ledger.all("tick")) == 40)
        await rig.drain()

        assert stage.ledger.repeats("tick", sent) == 0

    play(test)


@pytest.mark.slow
def test_after_a_restart_of_the_server_events_are_handled_again(play) -> None:
    """It does not sit there with all its processes alive and consume nothing (celery#8030, celery#8091, celery#9054, arq#435)."""

    async def test(stage):
        rig = await stage.run_worker(topics=8)
        await stage.flood("tick", 800)
        await until_soon(lambda: len(stage.ledger.all("tick")) == 800)
        await stage.server.stop()
        await rig.hear("not connected")
        stage.server = MockServer(port=stage.server.port)
        async with stage.server:
            await until_soon(lambda: stage.joined() == set(stage.topics))
            await stage.flood("tick", 800)
            await until_soon(lambda: len(stage.ledger.all("tick")) == 1_600)
            await rig.drain()

    play(test)


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_every_kind_of_close_leads_to_a_reconnect() -> None:
    """Clean or not, with whatever code, a close that we did not ask for is an interruption (supabase/realtime-py#311)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            events = aiter(channel)
            for code in (1000, 1001, 1002, 1003, 1006, 1007, 1009, 1011, 1012, 1014, 3000, 4001, 4999):
                await cut(server, 0 if code == 1006 else code)
                server.publish("room:1", "after", {"code": code})
                assert (await anext(events)).payload == {"code": code}

    run(test)


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_a_connection_given_up_for_its_heartbeats_is_tried_again_until_it_is_there() -> None:
    """A dead link is closed with 1000 by us, and that is no reason to stay away (phoenixframework/phoenix#4944)."""

    async def test() -> None:
        async with MockServer() as server, linked(server.url) as link, connect(link.url, **HASTY) as client:
            channel = await client.join("room:1")
            events = aiter(channel)
            assert link.freeze() == 1
            answer = asyncio.create_task(channel.push("echo", {"n": 1}, timeout=8))
            await until(lambda: any(other["channels"] for other in server.clients[1:]))
            server.publish("room:1", "news", {"n": 2})

            assert (await anext(events)).payload == {"n": 2}
            [outcome] = await asyncio.gather(answer, return_exceptions=True)
            assert "heartbeat" in str(outcome), "whoever pushed into the dead link is told why there is no answer"

    run(test)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("code", [0, 1000, 1001])
def test_after_each_of_several_reconnects_the_same_iteration_goes_on(code: int) -> None:
    """Not only after the first one (supabase/realtime-py#258, davidstump/SwiftPhoenixClient#176)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            events = aiter(channel)
            for n in range(4):
                server.publish("room:1", "news", {"n": n})
                assert (await anext(events)).payload == {"n": n}
                await cut(server, code)

    run(test)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("how", ["cut", "crash"])
def test_a_rejoin_says_all_that_the_join_said(how: str) -> None:
    """What a channel was joined with holds for each of its lives (supabase/realtime-py#213)."""
    wanted = {"config": {"postgres_changes": [{"event": "*", "table": "orders"}]}, "since": 41}

    async def test() -> None:
        async with talking() as (server, client):
            await client.join("room:1", wanted)
            for _ in range(3):
                [joined] = server.hub.subscribers("room:1")
                assert joined.join_payload == wanted
                if how == "cut":
                    server.close_where(1001)
                else:
                    server.kill_channels("room:1")
                await until(lambda before=joined: server.hub.subscribers("room:1") not in ([], [before]))

    run(test)


@pytest.mark.usefixtures("at_once")
def test_a_reply_with_an_unknown_ref_does_not_kill_the_connection() -> None:
    """Late, repeated or invented replies mean nothing, and the connection goes on (supabase/supabase-py#1387)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            events = aiter(channel)
            [socket] = server.sockets.values()
            [joined] = server.hub.subscribers("room:1")
            with pytest.raises(PushTimeout):
                await channel.push("late_reply", {"ms": 60}, timeout=0.02)
            for topic, ref in itertools.product(("room:1", "room:never", "phoenix"), ("999999", "", 7, ["3"])):
                socket.reply(joined.join_ref, ref, topic, Reply())
            server.faults.change({"duplicate_replies": True})
            assert await channel.push("echo", {"n": 1}) == {"n": 1}
            await asyncio.sleep(0.06)
            server.publish("room:1", "news", {"n": 2})

            assert (await anext(events)).payload == {"n": 2}
            assert list(server.sockets.values()) == [socket], "on the same connection"

    run(test)


@pytest.mark.slow
def test_a_server_that_is_down_is_not_dialled_every_millisecond(monkeypatch) -> None:
    """The waits grow from the first failure on (braverhealth/phoenix-socket-dart#34)."""
    monkeypatch.setattr(random, "random", lambda: 0.9)
    dials: list[float] = []

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dials.append(time.monotonic())
        writer.close()

    async def test() -> None:
        server = MockServer()
        await server.start()
        async with connect(server.url) as client:
            await client.join("room:1")
            await server.stop()
            async with await asyncio.start_server(hang_up, "127.0.0.1", server.port):
                await until(lambda: len(dials) == 3)

    run(test)
    assert dials[1] - dials[0] >= 0.45
    assert dials[2] - dials[1] >= 0.9


def test_clients_that_are_cut_off_together_do_not_come_back_together(monkeypatch) -> None:
    """A server that restarts gets its hundred clients back over a second, and not within 10 ms (phoenixframework/phoenix#4045)."""
    monkeypatch.setattr(random, "random", random.Random(4045).random)

    async def test() -> None:
        async with MockServer() as server, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(server.url)) for _ in range(100)]
            await asyncio.gather(*(client.join("room:1") for client in clients))
            before = {client["client"] for client in server.clients}

            assert server.drain() == 100
            await until(lambda: len({client["client"] for client in server.clients} - before) == 100)
            back = sorted(client["connected_at"] for client in server.clients)
            assert back[-1] - back[0] > 0.5
            assert max(sum(start <= at < start + 0.1 for at in back) for start in back) < 50

    run(test)


@pytest.mark.usefixtures("at_once")
def test_every_reconnect_leaves_as_many_tasks_as_before() -> None:
    """After any number of reconnects there are as many tasks, and one connection (supabase/realtime-py#289)."""

    async def test() -> None:
        async with talking() as (server, client):
            await client.join("room:1")
            before = len(asyncio.all_tasks())
            for _ in range(5):
                await cut(server)

            await until(lambda: len(asyncio.all_tasks()) <= before)
            assert len(server.clients) == 1

    run(test)


@pytest.mark.usefixtures("at_once")
def test_a_client_that_was_closed_while_it_waited_makes_no_further_attempt() -> None:
    """Closed on purpose is closed (phoenixframework/phoenix#6578, #6583, #2187, #4616)."""

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
