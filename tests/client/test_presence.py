"""`rig.client.presence` against the mock server's `presence:*` rooms."""

import asyncio
from typing import Any

import pytest
import structlog
import uvloop

import rig
from mock_server.server import MockServer
from rig.client import Presence, connect
from rig.errors import ConnectionLost, HandlerSignatureError, JoinRefused, LocalProtocolError
from tests.client.talking import cut, take, talking
from tests.running import run, until

ROOM = "presence:lobby"


class Diary:
    """A presence that writes down what it is told."""

    def __init__(self, **events: str) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.presence = Presence(on_join=self.joined, on_leave=self.left, on_sync=self.synced, **events)

    def joined(self, key: str, current: Any, new: Any) -> None:
        self.entries.append(("join", key, current and metas(current), metas(new)))

    def left(self, key: str, current: Any, left: Any) -> None:
        self.entries.append(("leave", key, metas(current), metas(left)))

    def synced(self) -> None:
        self.entries.append(("sync",))


def metas(presence: Any) -> list[dict[str, Any]]:
    """Return the metas without their refs."""
    return [{name: value for name, value in meta.items() if not name.startswith("phx_ref")} for meta in presence["metas"]]


def everybody(presence: Presence) -> dict[str, list[dict[str, Any]]]:
    """Return the metas of each key."""
    return dict(presence.list(lambda key, who: (key, metas(who))))


ONLINE = {"online_at": 1700000000}


def test_two_users_see_each_other() -> None:
    """Each has the list after its join, and hears of the other's coming, updates and going."""

    async def test() -> None:
        async with talking() as (server, alice), connect(server.url) as bob:
            diary, bobs = Diary(), Presence()
            await alice.join(ROOM, {"user": "alice"}, presence=diary.presence)
            await diary.presence.wait_synced()
            assert everybody(diary.presence) == {"alice": [ONLINE]}
            assert diary.entries[:2] == [("join", "alice", None, [ONLINE]), ("sync",)]

            channel = await bob.join(ROOM, {"user": "bob"}, presence=bobs)
            await bobs.wait_synced()
            await until(lambda: "bob" in diary.presence)
            assert everybody(bobs) == everybody(diary.presence) == {"alice": [ONLINE], "bob": [ONLINE]}
            assert metas(bobs["alice"]) == [ONLINE]
            assert len(bobs) == 2

            del diary.entries[:]
            await channel.push("update", {"status": "away"})
            await until(lambda: diary.entries)
            assert everybody(diary.presence) == {"alice": [ONLINE], "bob": [{"status": "away"}]}

            await channel.leave()
            await until(lambda: "bob" not in diary.presence)
            assert diary.entries == [
                ("join", "bob", [ONLINE], [{"status": "away"}]),
                ("leave", "bob", [{"status": "away"}], [ONLINE]),
                ("sync",),
                ("leave", "bob", [], [{"status": "away"}]),
                ("sync",),
            ]

    run(test)


def test_nobody_joins_twice() -> None:
    """The server sends the own join as a diff beside the list that has it: the callback hears of it once."""

    async def test() -> None:
        async with talking() as (_, client):
            diary = Diary()
            channel = await client.join(ROOM, {"user": "alice"}, presence=diary.presence)
            events = [event.event for event in await take(aiter(channel), 2)]

            assert sorted(events) == ["presence_diff", "presence_state"]
            assert [entry for entry in diary.entries if entry[0] == "join"] == [("join", "alice", None, [ONLINE])]

    run(test)


def test_a_second_connection_of_a_user_is_a_second_meta() -> None:
    """The key stays until its last connection has left."""

    async def test() -> None:
        async with talking() as (server, watcher), connect(server.url) as one, connect(server.url) as two:
            diary = Diary()
            await watcher.join(ROOM, {"user": "watcher"}, presence=diary.presence)
            first, second = [await client.join(ROOM, {"user": "u"}) for client in (one, two)]
            await until(lambda: everybody(diary.presence).get("u") == [ONLINE, ONLINE])
            del diary.entries[:]
            await first.leave()
            await second.leave()
            await until(lambda: "u" not in diary.presence)

            assert diary.entries == [("leave", "u", [ONLINE], [ONLINE]), ("sync",), ("leave", "u", [], [ONLINE]), ("sync",)]

    run(test)


@pytest.mark.parametrize("how", ["kick", "crash"])
def test_after_a_kick_and_a_rejoin_the_list_is_the_servers(how: str) -> None:
    """Who came and went meanwhile is told by the difference, and until the new list is there the old one stands."""

    async def test() -> None:
        async with talking() as (server, client), connect(server.url) as other:
            diary = Diary()
            await client.join(ROOM, {"user": "me"}, presence=diary.presence)
            gone = await other.join(ROOM, {"user": "gone"})
            await until(lambda: "gone" in diary.presence)
            before = dict(diary.presence._list.state)
            me = server.clients[0]["client"]

            server.close_where(1001, client=me) if how == "kick" else server.hub.subscribers(ROOM)[0].end("killed")
            await until(lambda: not diary.presence.synced)
            assert dict(diary.presence._list.state) == before
            del diary.entries[:]
            await gone.leave()
            await other.join(ROOM, {"user": "new"})
            await diary.presence.wait_synced()
            await until(lambda: set(everybody(diary.presence)) == {"me", "new"})

            assert everybody(diary.presence) == {"me": [ONLINE], "new": [ONLINE]}
            assert ("leave", "gone", [], [ONLINE]) in diary.entries
            assert ("join", "new", None, [ONLINE]) in diary.entries

    run(test)


def test_the_list_survives_many_reconnects() -> None:
    """Whatever closes the connection, the list is right again afterwards, without a ghost of the own earlier connections."""

    async def test() -> None:
        async with talking() as (server, client):
            presence = Presence()
            await client.join(ROOM, {"user": "me"}, presence=presence)
            for code in (0, 1000, 1012):
                await presence.wait_synced()
                await cut(server, code)
            await presence.wait_synced()
            await until(lambda: everybody(presence) == {"me": [ONLINE]})

    run(test)


def test_a_channel_whose_events_nobody_wants_still_has_its_presence() -> None:
    """`events=False` passes over events, and the list is kept all the same."""

    async def test() -> None:
        async with talking(max_queued=5) as (server, client):
            presence = Presence()
            channel = await client.join(ROOM, {"user": "me"}, events=False, presence=presence)
            await presence.wait_synced()
            for n in range(20):
                server.publish(ROOM, "tick", {"n": n})
            await channel.push("update", {"n": 1})
            await until(lambda: everybody(presence) == {"me": [{"n": 1}]})

            assert len(channel._queue) == 0
            assert channel.presence is presence

    run(test)


def test_an_iteration_sees_the_list_as_it_is_after_the_event() -> None:
    """The events reach the iteration too, and by then the list has them."""

    async def test() -> None:
        async with talking() as (server, client), connect(server.url) as other:
            presence = Presence()
            channel = await client.join(ROOM, {"user": "me"}, presence=presence)
            events = aiter(channel)
            await take(events, 2)
            await other.join(ROOM, {"user": "you"})
            event = await anext(events)

            assert (event.event, set(event.payload["joins"])) == ("presence_diff", {"you"})
            assert "you" in presence

    run(test)


def test_events_of_other_names() -> None:
    """A server that calls them otherwise is followed if it is said how; a meta is whatever the server says."""

    async def test() -> None:
        async with talking(vsn="1.0.0") as (server, client):
            presence = Presence(state_event="who", diff_event="change")
            channel = await client.join("room:1", presence=presence)
            server.publish("room:1", "change", {"joins": {"b": {"metas": [{"phx_ref": "2"}]}}, "leaves": {}})
            server.publish("room:1", "who", {"a": {"metas": [{"phx_ref": "1"}], "name": "A"}})
            await presence.wait_synced()

            assert presence.list() == [{"metas": [{"phx_ref": "1"}], "name": "A"}, {"metas": [{"phx_ref": "2"}]}]
            await channel.leave()

    run(test)


def test_a_presence_message_that_does_not_fit_costs_nothing() -> None:
    """It is logged; the list stays, the channel stays, and the event still reaches whoever wants it."""

    async def test() -> None:
        async with talking() as (server, client):
            presence = Presence()
            channel = await client.join(ROOM, {"user": "me"}, presence=presence)
            await presence.wait_synced()
            await take(events := aiter(channel), 2)
            with structlog.testing.capture_logs() as logs:
                server.publish(ROOM, "presence_diff", {"joins": [], "leaves": {}})
                assert (await anext(events)).payload == {"joins": [], "leaves": {}}

            assert [(entry["log_level"], entry["topic"]) for entry in logs] == [("warning", ROOM)]
            assert everybody(presence) == {"me": [ONLINE]}
            await channel.push("update", {"n": 1})
            await until(lambda: everybody(presence) == {"me": [{"n": 1}]})

    run(test)


def test_a_callback_that_raises_is_reported_and_harms_nothing() -> None:
    """The loop's exception handler gets it; the other callbacks, the list and the events go on."""
    reported: list[dict[str, Any]] = []

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        synced = asyncio.Event()
        async with talking() as (_, client):
            presence = Presence(on_join=lambda key, current, new: 1 / 0, on_sync=synced.set)
            channel = await client.join(ROOM, {"user": "me"}, presence=presence)
            await synced.wait()

            assert "me" in presence
            assert await channel.push("update", {"n": 1}) == {}

    uvloop.run(asyncio.wait_for(test(), 10))
    assert {type(context["exception"]) for context in reported} == {ZeroDivisionError}


@pytest.mark.parametrize("end", ["leave", "close", "stop"])
def test_waiting_for_a_list_ends_with_the_channel(end: str) -> None:
    """Nobody waits for the list of a channel that is gone."""

    async def test() -> None:
        async with MockServer() as server:
            async with connect(server.url) as client:
                presence = Presence()
                channel = await client.join("room:1", presence=presence)
                waiting = asyncio.create_task(presence.wait_synced())
                await asyncio.sleep(0)
                if end == "leave":
                    await channel.leave()
                elif end == "stop":
                    await channel.send("stop")
                if end != "close":
                    await _fails(waiting)
            if end == "close":
                await _fails(waiting)
            assert not presence.synced

    run(test)


def test_a_refused_join_ends_its_presence() -> None:
    """What could not be joined has no list."""

    async def test() -> None:
        async with talking() as (_, client):
            presence = Presence()
            with pytest.raises(JoinRefused):
                await client.join("room:forbidden", presence=presence)
            with pytest.raises(ConnectionLost):
                await presence.wait_synced()

    run(test)


def test_a_presence_follows_one_channel() -> None:
    """A list of two channels would be nobody's; the second join says so, and leaves its topic free."""

    async def test() -> None:
        async with talking() as (_, client):
            presence = Presence()
            await client.join(ROOM, {"user": "me"}, presence=presence)
            with pytest.raises(LocalProtocolError, match="one channel"):
                await client.join("presence:other", {"user": "me"}, presence=presence)
            await client.join("presence:other", {"user": "me"})

    run(test)


@pytest.mark.parametrize("name", ["on_join", "on_leave", "on_sync"])
def test_a_callback_that_could_never_be_called_is_told_at_once(name: str) -> None:
    """Not when the first user joins, in a place where nobody looks."""

    async def asynchronous(*_: object) -> None:
        raise AssertionError("it is never called")

    for wrong in (lambda a, b, c, d: None, asynchronous, lambda *, key: None):
        with pytest.raises(HandlerSignatureError, match=name):
            Presence(**{name: wrong})


def test_callbacks_of_any_shape_that_fits() -> None:
    """Defaults, `*args` and built-in functions are fine."""
    seen: list[Any] = []
    Presence(on_join=lambda *args: None, on_leave=lambda key, current, left, more=1: None, on_sync=seen.clear)
    Presence(on_join=print, on_leave=max)


def test_the_package_offers_presence() -> None:
    """`rig.Presence` is what a script imports."""
    assert rig.Presence is Presence


async def _fails(waiting: "asyncio.Task[None]") -> None:
    with pytest.raises(ConnectionLost):
        await waiting
