"""The asyncio client against the mock server, both on one loop."""

import asyncio

import pytest

from mock_server.frames import TEXT, encode_frame
from mock_server.server import MockServer
from rig.client import connect
from rig.errors import (
    ConnectionLost,
    JoinRefused,
    JoinTimeout,
    LocalProtocolError,
    PingTimeout,
    PushRefused,
    PushTimeout,
)
from tests.client.talking import cut, take, talking
from tests.running import PATIENCE, run, until


def test_a_push_gets_the_servers_reply() -> None:
    """The way from `connect` to a reply, as in the README."""

    async def test() -> None:
        async with talking() as (_, client):
            channel = await client.join("room:lobby", {"since": 41})

            assert channel.response == {"joined": "room:lobby", "params": {"since": 41}}
            assert await channel.push("echo", {"body": "hi"}) == {"body": "hi"}
            assert await channel.push("ok_only") == {}
            assert client.connected

    run(test)


def test_a_join_payload_can_be_made_for_each_join() -> None:
    """A callable is asked at the first join and at every later one."""

    async def test() -> None:
        tokens = iter(range(10))
        async with talking() as (server, client):
            channel = await client.join("room:1", lambda: {"token": next(tokens)})
            assert channel.response["params"] == {"token": 0}
            await cut(server)

        assert next(tokens) == 2

    run(test)


def test_a_refused_join_can_be_tried_again() -> None:
    """The server's words are in the error, and the topic is free afterwards."""

    async def test() -> None:
        async with talking() as (server, client):
            with pytest.raises(JoinRefused) as caught:
                await client.join("room:forbidden")
            server.faults.change({"refuse_joins": True})
            with pytest.raises(JoinRefused):
                await client.join("room:1")
            server.faults.reset()

            assert caught.value.response == {"reason": "unauthorized"}
            assert caught.value.unauthorized
            assert await (await client.join("room:1")).push("echo", {"n": 1}) == {"n": 1}

    run(test)


def test_a_join_that_cannot_be_sent_leaves_the_topic_free() -> None:
    """A payload that is no JSON is the caller's error, and does no harm."""

    async def test() -> None:
        async with talking() as (_, client):
            with pytest.raises(LocalProtocolError):
                await client.join("room:1", {"what": object()})

            assert await (await client.join("room:1")).push("ok_only") == {}

    run(test)


def test_a_topic_can_be_joined_once() -> None:
    """The second join says so, and the first stays."""

    async def test() -> None:
        async with talking() as (_, client):
            channel = await client.join("room:1")
            with pytest.raises(LocalProtocolError, match="joined already"):
                await client.join("room:1")

            assert await channel.push("ok_only") == {}

    run(test)


def test_a_join_without_an_answer_times_out_and_can_be_tried_again() -> None:
    """What the server has not answered is left; the next join is one of its own, and its events arrive."""

    async def test() -> None:
        async with talking(join_timeout=0.1) as (server, client):
            server.faults.change({"reply_delay": 1.0})
            with pytest.raises(JoinTimeout):
                await client.join("room:1")
            server.faults.reset()
            channel = await client.join("room:1")
            server.publish("room:1", "news", {"n": 1})

            assert [event.payload for event in await take(aiter(channel), 1)] == [{"n": 1}]

    run(test)


def test_a_cancelled_join_leaves_nothing_behind() -> None:
    """The server is told, and the topic can be joined again at once."""

    async def test() -> None:
        async with talking() as (server, client):
            server.faults.change({"reply_delay": 0.2})
            joining = asyncio.create_task(client.join("room:1"))
            await until(lambda: server.clients[0]["channels"])
            joining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await joining
            server.faults.reset()
            channel = await client.join("room:1")
            await until(lambda: server.clients[0]["channels"] == ["room:1"])
            server.publish("room:1", "news", {"n": 1})

            assert [event.payload for event in await take(aiter(channel), 1)] == [{"n": 1}]
            await channel.leave()
            await until(lambda: not server.clients[0]["channels"])

    run(test)


def test_a_join_that_the_server_ends_says_so_at_once() -> None:
    """A channel that is closed before its join was answered keeps nobody waiting."""

    async def test() -> None:
        async with talking(join_timeout=PATIENCE) as (server, client):
            server.faults.change({"reply_delay": PATIENCE})
            joining = asyncio.create_task(client.join("room:1"))
            await until(lambda: server.clients[0]["channels"])
            next(iter(server.sockets.values())).channels[0].end("normal")
            with pytest.raises(ConnectionLost, match="closed the channel"):
                await joining

    run(test)


def test_a_push_can_be_refused() -> None:
    """A reply that is not ok is an exception with the response."""

    async def test() -> None:
        async with talking() as (_, client):
            channel = await client.join("room:1")
            with pytest.raises(PushRefused) as caught:
                await channel.push("fail", {"why": "no"})
            assert (caught.value.status, caught.value.response) == ("error", {"why": "no"})
            with pytest.raises(PushRefused) as caught:
                await channel.push("custom_status", {"n": 1})
            assert caught.value.status == "retry_later"

    run(test)


def test_a_push_without_a_reply_times_out() -> None:
    """The time-out of the push, or else of the client."""

    async def test() -> None:
        async with talking(push_timeout=0.05) as (_, client):
            channel = await client.join("room:1")
            with pytest.raises(PushTimeout):
                await channel.push("noreply")
            with pytest.raises(PushTimeout) as caught:
                await channel.push("noreply", timeout=0.02)
            assert caught.value.seconds == 0.02
            assert await channel.push("ok_only") == {}

    run(test)


@pytest.mark.parametrize("how", ["kill", "kill_transport", "stop"])
def test_a_push_whose_channel_ends_is_lost(how: str) -> None:
    """A crashed channel, a cut connection or a stopped channel keeps no push waiting."""

    async def test() -> None:
        async with talking(push_timeout=PATIENCE) as (_, client):
            channel = await client.join("room:1")
            waiting = asyncio.create_task(channel.push("noreply"))
            await asyncio.sleep(0)
            await channel.send(how)
            with pytest.raises(ConnectionLost):
                await waiting

    run(test)


def test_a_cancelled_push_leaves_nothing_behind() -> None:
    """A reply that comes after the cancellation is nobody's."""

    async def test() -> None:
        async with talking() as (_, client):
            channel = await client.join("room:1")
            pushing = asyncio.create_task(channel.push("late_reply", {"ms": 30}))
            await asyncio.sleep(0)
            pushing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pushing

            assert await channel.push("late_reply", {"ms": 60}) == {"ms": 60}
            assert not client._waiting

    run(test)


def test_a_payload_that_is_no_json_is_the_callers_error() -> None:
    """It is told at once, before anything is sent."""

    async def test() -> None:
        async with talking() as (_, client):
            channel = await client.join("room:1")
            with pytest.raises(LocalProtocolError, match="JSON"):
                await channel.push("echo", {"what": object()})
            with pytest.raises(LocalProtocolError, match="JSON"):
                await channel.send("echo", object())

    run(test)


def test_a_left_channel_ends_its_iteration_and_takes_no_push() -> None:
    """`leave` returns when the server has confirmed it, for everyone who waits for it."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            server.publish("room:1", "news", {"n": 1})
            await asyncio.gather(channel.leave(), channel.leave())

            assert server.clients[0]["channels"] == []
            assert [event.payload async for event in channel] == [{"n": 1}]
            with pytest.raises(LocalProtocolError, match="not joined"):
                await channel.push("echo")
            with pytest.raises(LocalProtocolError, match="not joined"):
                await channel.send("echo")
            await channel.leave()
            assert (await client.join("room:1")).response["joined"] == "room:1"

    run(test)


def test_a_channel_that_has_ended_leaves_no_later_one_of_its_topic() -> None:
    """Whoever still holds the old one takes nothing from whoever joined anew, and does not wait for it."""

    async def test() -> None:
        async with talking() as (server, client):
            old = await client.join("room:1")
            await old.send("stop")
            assert [event async for event in old] == []
            joining = asyncio.create_task(client.join("room:1"))
            await asyncio.sleep(0)
            await old.leave()
            new = await joining
            await old.leave()

            assert server.clients[0]["channels"] == ["room:1"]
            await new.leave()
            assert server.clients[0]["channels"] == []

    run(test)


def test_after_the_end_of_the_client_nobody_waits() -> None:
    """Leaving a channel is done at once, and an iteration that begins then has only what came before."""

    async def test() -> None:
        async with MockServer() as server:
            async with connect(server.url) as client:
                left, channel = await client.join("room:1"), await client.join("room:2")
                server.publish("room:2", "news", {"n": 1})
                await channel.push("ok_only")
                closing = asyncio.create_task(client._close())
                await asyncio.sleep(0)
                await left.leave()
                assert not closing.done(), "the server has not answered the close yet"
                await closing
            await channel.leave()
            assert [event.payload async for event in client.events()] == [{"n": 1}]

    run(test)


def test_each_channel_has_its_own_events() -> None:
    """An iteration over a channel yields the events of its topic, in order, from its join on."""

    async def test() -> None:
        async with talking() as (server, client):
            one, two = await client.join("room:1"), await client.join("room:2")
            for n in range(3):
                server.publish("room:1", "one", {"n": n})
                server.publish("room:2", "two", {"n": n})

            assert [(e.topic, e.event, e.payload["n"]) for e in await take(aiter(two), 3)] == [
                ("room:2", "two", n) for n in range(3)
            ]
            assert [(e.topic, e.event, e.payload["n"]) for e in await take(aiter(one), 3)] == [
                ("room:1", "one", n) for n in range(3)
            ]

    run(test)


def test_all_events_come_by_one_iteration() -> None:
    """`events` yields what has waited in the channels and what comes, each frame as it came too."""

    async def test() -> None:
        async with talking() as (server, client):
            first = await client.join("room:1")
            server.publish("room:1", "early", {"n": 0})
            await first.push("ok_only")
            await client.join("room:2")
            events = client.events()
            early = await anext(events)
            server.publish("room:2", "late", {"n": 1})
            late = await anext(events)

            assert (early.event, late.topic) == ("early", "room:2")
            assert late.raw == b'[null,null,"room:2","late",{"n":1}]'
            await events.aclose()

    run(test)


def test_a_channel_that_is_iterated_over_keeps_its_events() -> None:
    """`events` yields those of all other channels."""

    async def test() -> None:
        async with talking() as (server, client):
            own, other = await client.join("room:1"), await client.join("room:2")
            events, mine = client.events(), aiter(own)
            server.publish("room:1", "mine", {"n": 0})
            assert (await anext(mine)).payload == {"n": 0}
            server.publish("room:2", "others", {"n": 1})
            assert (await anext(events)).payload == {"n": 1}
            server.publish("room:1", "mine", {"n": 2})
            server.publish("room:2", "others", {"n": 3})

            assert (await anext(mine)).payload == {"n": 2}
            assert (await anext(events)).payload == {"n": 3}
            assert other.topic == "room:2"
            await events.aclose()

    run(test)


def test_binary_payloads_go_both_ways() -> None:
    """Bytes are pushed as a binary frame, and come back as bytes, in a reply, a push or a broadcast."""

    async def test() -> None:
        async with talking() as (_, client):
            channel = await client.join("room:1")
            assert await channel.push("binary_echo", b"\x00\xff") == b"\x00\xff"
            await channel.send("binary_push", bytearray(b"\x01\x02"))
            await channel.send("binary_broadcast", memoryview(b"\x03"))

            events = await take(aiter(channel), 2)
            assert [(event.event, event.payload) for event in events] == [
                ("binary_push", b"\x01\x02"),
                ("binary_broadcast", b"\x03"),
            ]
            with pytest.raises(PushRefused) as caught:
                await channel.push("binary_fail", b"no")
            assert caught.value.response == b"no"

    run(test)


def test_a_ping_tells_how_long_a_round_trip_takes() -> None:
    """Several pings at once are all answered; one without a connection, or whose connection ends, says so."""

    async def test() -> None:
        async with talking() as (server, client):
            times = await asyncio.gather(client.ping(), client.ping())
            assert all(0.0 < seconds < 5.0 for seconds in times)

            server.faults.change({"ignore_heartbeats": True})
            pinging = asyncio.create_task(client.ping())
            await asyncio.sleep(0)
            server.close_where(1001)
            with pytest.raises(ConnectionLost):
                await pinging
            with pytest.raises(ConnectionLost, match="not open"):
                await client.ping()

    run(test)


def test_a_ping_that_is_not_answered_times_out() -> None:
    """It says after how long, and the next ping is answered by its own reply."""

    async def test() -> None:
        async with talking() as (server, client):
            server.faults.change({"ignore_heartbeats": True})
            with pytest.raises(PingTimeout, match=r"within 0\.02 s"):
                await client.ping(timeout=0.02)
            assert not client._pinging

            server.faults.change({"ignore_heartbeats": False})
            assert 0.0 < await client.ping(timeout=5.0) < 5.0

    run(test)


def test_a_ping_ends_with_the_client() -> None:
    """Leaving the context keeps nobody waiting."""

    async def test() -> None:
        async with MockServer() as server:
            async with connect(server.url) as client:
                server.faults.change({"ignore_heartbeats": True})
                pinging = asyncio.create_task(client.ping())
                await asyncio.sleep(0)
            with pytest.raises(ConnectionLost):
                await pinging

    run(test)


def test_the_first_version_of_the_serializer_works_too() -> None:
    """V1 is objects instead of lists, and nothing that a user sees."""

    async def test() -> None:
        async with talking(vsn="1.0.0") as (server, client):
            channel = await client.join("room:1")
            server.publish("room:1", "news", {"n": 1})

            assert server.clients[0]["serializer"] == "1.0.0"
            assert await channel.push("echo", {"n": 2}) == {"n": 2}
            assert [event.payload for event in await take(aiter(channel), 1)] == [{"n": 1}]

    run(test)


@pytest.mark.parametrize("code", [0, 1000, 1001, 1012, 4001])
def test_whatever_the_server_closes_with_it_is_there_again(code: int) -> None:
    """A kick or a cut is followed by a reconnect and a rejoin; the channel object stays the same."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1", {"since": 1})
            await cut(server, code)
            server.publish("room:1", "news", {"n": 1})

            assert [event.payload for event in await take(aiter(channel), 1)] == [{"n": 1}]
            assert await channel.push("echo", {"n": 2}) == {"n": 2}

    run(test)


def test_a_push_made_while_it_is_disconnected_is_sent_after_the_rejoin() -> None:
    """Within its time-out a push waits for its channel."""

    async def test() -> None:
        async with talking() as (server, client):
            channel = await client.join("room:1")
            server.close_where(0)
            await until(lambda: not client.connected)

            assert await channel.push("echo", {"n": 1}) == {"n": 1}

    run(test)


def test_a_crashed_channel_is_joined_again() -> None:
    """One channel's crash is no other's."""

    async def test() -> None:
        async with talking() as (server, client):
            channel, other = await client.join("room:1"), await client.join("room:2")
            server.kill_channels("room:1")

            assert await other.push("echo", {"n": 2}) == {"n": 2}
            assert await channel.push("echo", {"n": 1}) == {"n": 1}

    run(test)


def test_slow_readers_push_back_on_the_server_and_miss_nothing() -> None:
    """Above `max_queued` reading pauses; what was sent meanwhile comes in order, on the same connection."""

    async def test() -> None:
        async with talking(max_queued=100) as (server, client):
            channel = await client.join("room:1")
            flood = asyncio.create_task(_flood(server, "room:1", count=20_000, size=1000))
            await until(lambda: client._paused)
            connection = next(iter(server.sockets))
            await until(lambda: connection._paused)
            assert len(channel._queue) < 2000, "one read at most is above the limit"

            events = await take(aiter(channel), 20_000)

            await flood
            assert [event.payload["i"] for event in events] == list(range(20_000))
            assert next(iter(server.sockets)) is connection

    run(test)


def test_channel_that_only_pushes_is_not_stopped_by_its_events() -> None:
    """Where nobody wants the events, any number of them may come, and replies still arrive."""

    async def test() -> None:
        async with talking(max_queued=10) as (server, client):
            channel = await client.join("room:1", events=False)
            await _flood(server, "room:1", count=1_000, size=200)
            assert await channel.push("echo", {"n": 1}, timeout=5) == {"n": 1}
            assert not client._paused

    run(test)


def test_a_reconnect_does_not_end_the_pause() -> None:
    """A queue that is full stays so when the server comes back, whatever it sends then."""

    async def test() -> None:
        async with talking(max_queued=10, heartbeat_interval=0.02) as (server, client):
            channel = await client.join("room:1")
            for n in range(10):
                server.publish("room:1", "tick", {"n": n})
            await until(lambda: client._paused)
            await cut(server)
            for n in range(10, 20):
                server.publish("room:1", "tick", {"n": n})
            heard = server.clients[0]["bytes_received"]
            await until(lambda: server.clients[0]["bytes_received"] > heard + 100)

            assert len(channel._queue) == 10
            assert [event.payload["n"] for event in await take(aiter(channel), 20)] == list(range(20))

    run(test)


def test_a_full_channel_that_is_left_makes_room() -> None:
    """Events that nobody will take do not stop the others."""

    async def test() -> None:
        async with talking(max_queued=10) as (server, client):
            full, other = await client.join("room:1"), await client.join("room:2")
            for n in range(20):
                server.publish("room:1", "tick", {"n": n})
            await until(lambda: client._paused)
            async with asyncio.timeout(2):
                await full.leave()

                assert await other.push("echo", {"n": 1}) == {"n": 1}

    run(test)


def test_a_full_channel_that_the_server_closes_makes_room() -> None:
    """What is left of it can still be taken, and holds up no other channel."""

    async def test() -> None:
        async with talking(max_queued=10) as (server, client):
            full, other = await client.join("room:1"), await client.join("room:2")
            for n in range(20):
                server.publish("room:1", "tick", {"n": n})
            server.hub.subscribers("room:1")[0].end("normal")

            assert await other.push("echo", {"n": 1}, timeout=2) == {"n": 1}
            assert [event.payload["n"] async for event in full] == list(range(20))

    run(test)


def test_garbage_from_the_server_costs_no_event() -> None:
    """Frames that nobody can read are dropped, and those around them arrive, on the same connection."""

    async def test() -> None:
        async with talking(max_frame_bytes=10_000) as (server, client):
            channel = await client.join("room:1")
            connection = next(iter(server.sockets))
            for n, garbage in enumerate(
                (b"{", b"[1]", b"7", b"[" * 5000, b'[null,null,"room:1","x",{"\\ud800":1}]', b"x" * 20_000)
            ):
                connection.write(encode_frame(TEXT, garbage))
                server.publish("room:1", "good", {"n": n})

            events = [event for event in await take(aiter(channel), 6) if event.event == "good"]

            assert [event.payload["n"] for event in events] == list(range(len(events)))
            assert len(events) >= 5
            assert next(iter(server.sockets)) is connection

    run(test)


async def _flood(server: MockServer, topic: str, *, count: int, size: int) -> None:
    from mock_server.flood import Flood, FloodRequest

    await Flood(FloodRequest(topics=[topic], count=count, size=size), server.hub).run()
