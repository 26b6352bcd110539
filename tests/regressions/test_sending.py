"""What was pushed and never arrived, arrived twice, or failed where nobody looked. The threads are in THREADS.md."""

import asyncio
import subprocess
import sys
import textwrap

import pytest

from mock_server.server import MockServer
from rig.client import connect
from rig.errors import ConnectionLost, PushTimeout
from tests.client.talking import talking
from tests.running import run, until
from tests.stage import until as until_soon


@pytest.mark.parametrize("phoenix", ["1.8.12", "1.8.3", "1.7.24"])
@pytest.mark.parametrize("vsn", ["2.0.0", "1.0.0"])
def test_python_sends_to_phoenix(vsn, phoenix) -> None:
    """Joins, pushes, broadcasts and binary payloads arrive, whichever the version (supabase/realtime-py#39, #68, #29)."""

    async def test() -> None:
        async with MockServer(phoenix=phoenix) as server, connect(server.url, vsn=vsn) as client, connect(server.url) as other:
            channel = await client.join("room:1", {"user": "ü"})
            assert channel.response == {"joined": "room:1", "params": {"user": "ü"}}
            listening = aiter(await other.join("room:1"))

            assert await channel.push("echo", {"text": 'ü "quoted" \\ \n', "n": 2**53}) == {"text": 'ü "quoted" \\ \n', "n": 2**53}
            await channel.send("broadcast", {"event": "said", "payload": {"n": 1}})
            said = await anext(listening)
            assert (said.event, said.payload) == ("said", {"n": 1})
            if vsn == "2.0.0":
                assert await channel.push("binary_echo", b"\x00\xff") == b"\x00\xff"

    run(test)


def test_a_script_sends_and_ends() -> None:
    """What works in a notebook works in a plain script that ends right after (wwww-wwww/phxsocket#4)."""
    script = """
        import asyncio, sys
        import rig

        async def main():
            async with rig.connect(sys.argv[1]) as client:
                await (await client.join("room:1")).send("broadcast", {"event": "said", "payload": {}})

        asyncio.run(main())
    """

    async def test() -> None:
        async with talking() as (server, client):
            listening = aiter(await client.join("room:1"))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", textwrap.dedent(script), server.url, stderr=subprocess.PIPE
            )
            _, complaints = await process.communicate()
            assert (process.returncode, complaints) == (0, b"")
            assert (await anext(listening)).event == "said"

    run(test)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("phoenix", ["1.8.12", "1.8.3", "1.7.24"])
@pytest.mark.parametrize("how", ["cut", "crash"])
def test_after_a_reconnect_pushes_on_the_same_channel_go_through(how, phoenix) -> None:
    """The channel knows that it was away, and speaks for its present life (phoenixframework/phoenix#3669)."""

    async def test() -> None:
        async with MockServer(phoenix=phoenix) as server, connect(server.url) as client:
            channel = await client.join("room:1")
            for n in range(3):
                if how == "cut":
                    server.close_where(1001)
                else:
                    server.kill_channels("room:1")
                await until(lambda: client._socket.channel_state("room:1").name == "ERRORED")
                assert await channel.push("echo", {"n": n}, timeout=2) == {"n": n}, "one that waits for the rejoin"
                assert await channel.push("echo", {"n": -n}, timeout=2) == {"n": -n}, "and one after it"

    run(test)


@pytest.mark.usefixtures("at_once")
def test_a_push_is_never_sent_twice_behind_its_owners_back() -> None:
    """One that was on its way when the link went is told as lost, and left to its owner (supabase/supabase-py#1543)."""

    async def test() -> None:
        async with talking() as (server, client), connect(server.url) as other:
            listening = aiter(await other.join("room:1"))
            channel = await client.join("room:1")
            pushing = asyncio.create_task(channel.push("broadcast", {"event": "order", "payload": {"n": 1}}))
            assert (await anext(listening)).payload == {"n": 1}
            server.close_where(0, client=server.clients[0]["client"])
            with pytest.raises(ConnectionLost):
                await pushing
            assert await channel.push("broadcast_reply", {"event": "order", "payload": {"n": 2}}) == {}

            assert (await anext(listening)).payload == {"n": 2}, "and not the first one again"

    run(test)


def test_the_failure_of_a_push_reaches_whoever_waits_for_it() -> None:
    """And not a log in the background (supabase/supabase-py#1543)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            pushes = [asyncio.create_task(channel.push("noreply", timeout=5)) for _ in range(3)]
            await until(lambda: client._socket.pending_pushes == 3)
            server.close_where(0)

            for outcome in await asyncio.gather(*pushes, return_exceptions=True):
                assert isinstance(outcome, ConnectionLost)

    run(test)


def test_events_come_in_the_order_of_sending_around_replies() -> None:
    """What the server sends before a reply is there when the reply is (supabase/supabase-py#1543)."""

    async def test() -> None:
        async with talking() as (_, client):
            channel = await client.join("room:1")
            await channel.send("push_n", {"n": 50})
            await channel.push("push_then_reply", {})

            seen = [event.payload["i"] for event in channel._queue._events if event.event == "tick"]
            assert seen == list(range(1, 51))

    run(test)


@pytest.mark.usefixtures("at_once")
def test_pushes_that_cannot_be_sent_in_time_are_told_one_by_one() -> None:
    """None is dropped from a buffer without a word, and none counts as sent (phoenix#1241, hmchangw/newchat#223)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            server.faults.change({"refuse_connections": 503})
            server.close_where(0)
            await until(lambda: not client.connected)
            outcomes = await asyncio.gather(*(channel.push("echo", timeout=0.1) for _ in range(100)), return_exceptions=True)

            assert {type(outcome) for outcome in outcomes} == {PushTimeout}
            assert client._socket.pending_pushes == 0

    run(test)


def test_pushes_that_are_left_at_the_end_are_named(play) -> None:
    """A drain without a connection does not pass over what could not be sent (hmchangw/newchat#223, nats-io/stan.js#168)."""

    async def test(stage):
        rig = await stage.run_worker(topics=2, workers=1)
        stage.server.publish("room:0", "gated_tell", {})
        await until_soon(lambda: stage.ledger.all("waiting"))
        stage.server.faults.refuse_connections = 500
        stage.server.close_where(0)
        await rig.hear("not connected")
        stage.ledger.open_gate()
        await until_soon(lambda: stage.ledger.all("told"))
        await rig.drain()

        [said] = rig.said("push not sent")
        assert (said["topic"], said["event_name"]) == ("room:0", "broadcast")

    play(test)


@pytest.mark.usefixtures("at_once")
def test_pushes_that_wait_survive_a_link_that_dies_again_at_once() -> None:
    """What could not be sent after all goes out with the next connection, in order (firezone/firezone#4294)."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            server.faults.change({"refuse_joins": True})
            await cut_without_join(server, client)
            pushes = [asyncio.create_task(channel.push("echo", {"n": n}, timeout=8)) for n in range(20)]
            for _ in range(3):
                await cut_without_join(server, client)
            server.faults.reset()

            assert await asyncio.gather(*pushes) == [{"n": n} for n in range(20)]

    run(test)


async def cut_without_join(server, client) -> None:
    """End the connection, and return when the next one is there."""
    first = server.clients[0]["client"]
    server.close_where(0)
    await until(lambda: server.clients and server.clients[0]["client"] != first and client.connected)
