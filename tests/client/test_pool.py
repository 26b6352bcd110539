"""`rig.client.pool` against the mock server: several connections that look like one."""

import asyncio
import importlib

import pytest

from mock_server.server import MockServer
from rig.client import Client, ClientChannel, Pool, Presence, connect
from rig.errors import AuthenticationRefused, ConfigError, ConnectFailed, ConnectionLost, JoinRefused, LocalProtocolError
from rig.routing import rendezvous
from tests.client.talking import take, talking
from tests.running import PATIENCE, run, until

TOPICS = [f"room:{n}" for n in range(12)]


def on_each(sockets: int) -> list[str]:
    """Return one topic for each connection of a pool, in its order."""
    return [next(topic for topic in TOPICS if rendezvous(topic, sockets) == socket) for socket in range(sockets)]


def test_each_topic_is_on_one_connection() -> None:
    """The topics are spread as the hash says, and what is pushed and received is each topic's own."""

    async def test() -> None:
        async with talking(pool=3) as (server, pool):
            assert isinstance(pool, Pool)
            assert len(server.clients) == 3
            assert pool.connected
            assert 0.0 < await pool.ping() < 5.0
            channels = [await pool.join(topic, {"t": topic}) for topic in TOPICS]
            shares = sorted(sorted(client["channels"]) for client in server.clients)
            expected = [[topic for topic in TOPICS if rendezvous(topic, 3) == socket] for socket in range(3)]
            assert shares == sorted(sorted(share) for share in expected)

            for channel in channels:
                assert channel.response["params"] == {"t": channel.topic}
                assert await channel.push("echo", {"t": channel.topic}) == {"t": channel.topic}
                server.publish(channel.topic, "news", {"t": channel.topic})
            for channel in channels:
                [event] = await take(aiter(channel), 1)
                assert (event.topic, event.payload) == (channel.topic, {"t": channel.topic})

    run(test)


def test_a_pool_of_one_is_a_client() -> None:
    """The usual case pays nothing for the other."""

    async def test() -> None:
        async with talking(pool=1) as (server, client):
            assert isinstance(client, Client)
            assert len(server.clients) == 1

    run(test)


@pytest.mark.parametrize("pool", [0, -1])
def test_a_pool_without_connections_is_refused(pool: int) -> None:
    """It says so before anything is dialled."""

    async def test() -> None:
        with pytest.raises(ConfigError, match="1 or more"):
            async with connect("ws://127.0.0.1:1/socket", pool=pool):
                pass

    run(test)


def test_all_events_come_by_one_iteration() -> None:
    """`events` yields what waited in the channels of every connection, and what comes; a channel's own iteration keeps its."""

    async def test() -> None:
        async with talking(pool=2) as (server, pool):
            first, second = on_each(2)
            early = await pool.join(first)
            server.publish(first, "early", {"n": 0})
            await early.push("ok_only")
            own = await pool.join(TOPICS[-1])
            await pool.join(second)
            mine = aiter(own)
            events = pool.events()
            assert (await anext(events)).event == "early"
            server.publish(own.topic, "mine", {"n": 0})
            for topic in (first, second):
                server.publish(topic, "late", {"n": 1})

            assert {event.topic for event in await take(events, 2)} == {first, second}
            assert (await anext(mine)).event == "mine"
            await events.aclose()

    run(test)


def test_slow_readers_push_back_on_every_connection() -> None:
    """What waits for the common iteration counts for all; taking it lets all of them read on, and nothing is missed."""

    async def test() -> None:
        async with talking(pool=2, max_queued=20) as (server, pool):
            topics = on_each(2)
            for topic in topics:
                await pool.join(topic)
            events = pool.events()
            server.publish(topics[0], "tick", {"n": 0})
            await anext(events)
            for n in range(40):
                server.publish(topics[0], "tick", {"n": n})
            await until(lambda: pool._clients[0]._paused)
            server.publish(topics[1], "tick", {"n": 0})
            await until(lambda: pool._clients[1]._paused)

            received = await take(events, 41)

            assert [e.payload["n"] for e in received if e.topic == topics[0]] == list(range(40))
            assert not any(client._paused for client in pool._clients)
            await events.aclose()

    run(test)


def test_one_lost_connection_does_not_touch_the_others() -> None:
    """The pool is not connected as a whole, the other topics go on meanwhile, and the lost one comes back with its topics."""

    async def test() -> None:
        async with talking(pool=2) as (server, pool):
            lost, other = [await pool.join(topic) for topic in on_each(2)]
            server.faults.change({"refuse_connections": 503})
            server.close_where(0, topic=lost.topic)
            await until(lambda: not pool.connected)

            assert await other.push("echo", {"n": 1}) == {"n": 1}
            assert [client.connected for client in pool._clients] == [False, True]
            with pytest.raises(ConnectionLost):
                await pool.ping()

    run(test)


def test_a_lost_connection_comes_back_with_its_topics() -> None:
    """A push that is made meanwhile waits for it."""

    async def test() -> None:
        async with talking(pool=2) as (server, pool):
            lost, _ = [await pool.join(topic) for topic in on_each(2)]
            server.close_where(1001, topic=lost.topic)
            await until(lambda: not pool.connected)

            assert await lost.push("echo", {"n": 1}) == {"n": 1}
            assert pool.connected
            assert len(server.clients) == 2

    run(test)


def test_a_slow_join_holds_up_no_topic_of_another_connection() -> None:
    """Phoenix answers a connection's messages one after the other: a join that takes long is nothing to the rest of the pool."""

    async def test() -> None:
        async with MockServer(time_scale=0.1) as server, connect(server.url, pool=2) as pool:
            other = next(topic for topic in TOPICS if rendezvous(topic, 2) != rendezvous("room:slow", 2))
            channel = await pool.join(other)
            joining = asyncio.create_task(pool.join("room:slow"))
            assert await channel.push("echo", {"n": 1}, timeout=1.0) == {"n": 1}

            assert not joining.done()
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)

    run(test)


def test_joins_leaves_and_presence_are_those_of_a_client() -> None:
    """Errors, a second join, a leave and a list behave as on one connection."""

    async def test() -> None:
        async with talking(pool=3) as (server, pool):
            presence = Presence()
            channel = await pool.join("presence:1", {"user": "me"}, presence=presence)
            await presence.wait_synced()
            assert "me" in presence
            with pytest.raises(LocalProtocolError, match="joined already"):
                await pool.join("presence:1", {"user": "me"})
            with pytest.raises(JoinRefused):
                await pool.join("room:forbidden")
            with pytest.raises(LocalProtocolError, match="UTF-8"):
                await pool.join("room:\ud800")
            await channel.leave()

            assert [client["channels"] for client in server.clients] == [[], [], []]

    run(test)


def test_what_cannot_be_connected_to_is_told_at_once() -> None:
    """All of the first connections must come about, and none is left if they do not."""

    async def test() -> None:
        async with MockServer() as server:
            url = server.url
            server.faults.change({"refuse_connections": 403})
            with pytest.raises(AuthenticationRefused):
                async with connect(url, pool=3):
                    raise AssertionError("it connected")
            assert server.clients == []
        with pytest.raises(ConnectFailed):
            async with connect(url, pool=3):
                raise AssertionError("it connected")

    run(test)


def test_one_connection_that_does_not_come_about_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three open, and are closed again."""

    async def test() -> None:
        async with MockServer() as server:
            dials = 0
            module = importlib.import_module("rig.transport.choice")
            dial = module.dial

            async def third_fails(*arguments: object, **options: object) -> object:
                nonlocal dials
                dials += 1
                if dials == 3:
                    await until(lambda: len(server.clients) == 2)
                    raise ConnectFailed("localhost", 1, "refused")
                return await dial(*arguments, **options)

            monkeypatch.setattr(module, "dial", third_fails)
            with pytest.raises(ConnectFailed):
                async with connect(server.url, pool=3):
                    raise AssertionError("it connected")
            await until(lambda: not server.clients)

    run(test)


def test_leaving_the_context_closes_every_connection() -> None:
    """Iterations stop, waiting pushes are told, and the server sees all of them go."""

    async def test() -> None:
        async with MockServer() as server:
            async with connect(server.url, pool=3, push_timeout=PATIENCE) as pool:
                channel = await pool.join("room:1")
                server.publish("room:1", "news", {"n": 1})
                await channel.push("ok_only")
                everything = asyncio.create_task(_collect(pool))
                pushing = asyncio.create_task(channel.push("noreply"))
                await until(lambda: everything.done() or pool._all is not None)
                await asyncio.sleep(0)

            assert await everything == ["news"]
            with pytest.raises(ConnectionLost):
                await pushing
            assert not pool.connected
            await until(lambda: not server.clients)

    run(test)


@pytest.mark.parametrize("pool", [1, 3])
def test_a_close_that_is_cancelled_leaves_nothing_that_goes_on(pool: int) -> None:
    """No connection comes back, no iteration waits, and the token is not asked for again."""

    async def test() -> None:
        asked = 0

        def token() -> str:
            nonlocal asked
            asked += 1
            return "t"

        async def use(server: MockServer) -> None:
            async with connect(server.url, pool=pool, auth=token) as client:
                channels.append(await client.join("room:1"))
                closing.set()

        async with MockServer() as server:
            closing, channels = asyncio.Event(), list[ClientChannel]()
            using = asyncio.create_task(use(server))
            await closing.wait()
            before = asked
            using.cancel()
            with pytest.raises(asyncio.CancelledError):
                await using
            assert [event async for event in channels[0]] == []
            await until(lambda: not server.clients)
            assert asked == before

    run(test)


def test_an_iteration_that_begins_after_the_end_has_only_what_came_before() -> None:
    """Nobody waits for events of connections that are closed."""

    async def test() -> None:
        async with MockServer() as server:
            async with connect(server.url, pool=3) as pool:
                channel = await pool.join("room:1")
                server.publish("room:1", "news", {"n": 1})
                await channel.push("ok_only")
            assert await _collect(pool) == ["news"]

    run(test)


async def _collect(pool: Client | Pool) -> list[str]:
    return [event.event async for event in pool.events()]
