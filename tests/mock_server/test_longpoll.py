"""Long-poll sessions over real HTTP: what no transcript shows."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from mock_server import MockServer
from mock_server.longpoll import Session, Sessions
from tests.mock_server.poller import Poller, serving
from tests.running import until

FAST = 0.05

Run = Callable[[Any], None]


def test_join_push_and_broadcast_are_polled_back(run: Run) -> None:
    """A session is a socket like any other: replies and broadcasts come, in order, with the next poll."""

    async def main() -> None:
        async with serving() as (server, poller):
            await poller.open()
            assert (await poller.join("room:a"))["status"] == "ok"
            assert await poller.post(["1", "2", "room:a", "echo", {"n": 2}], ["1", "3", "room:a", "echo", {"n": 3}]) == 200
            assert server.publish("room:a", "news", {}) == 1
            assert [(message[1], message[3]) for message in await poller.poll()] == [
                ("2", "phx_reply"),
                ("3", "phx_reply"),
                (None, "news"),
            ]

    run(main())


def test_parked_poll_returns_with_the_first_message(run: Run) -> None:
    """A poll that waits is answered as soon as there is something."""

    async def main() -> None:
        async with serving() as (server, poller):
            await poller.open()
            await poller.join("room:a")
            poll = asyncio.create_task(poller.poll())
            await until(lambda: server._sessions._polls)
            assert not poll.done()
            server.publish("room:a", "news", {"n": 1})
            assert await asyncio.wait_for(poll, 1) == [[None, None, "room:a", "news", {"n": 1}]]

    run(main())


def test_later_of_two_polls_gets_the_messages(run: Run) -> None:
    """The earlier one runs into its window."""

    async def main() -> None:
        async with serving(time_scale=0.2) as (server, poller):
            await poller.open()
            await poller.join("room:a")
            earlier = asyncio.create_task(poller.poll())
            await until(lambda: len(server._sessions._polls) == 1)
            later = asyncio.create_task(poller.poll())
            await until(lambda: len(server._sessions._polls) == 2)
            server.publish("room:a", "news", {})
            assert len(await later) == 1
            assert await earlier == []

    run(main())


def test_events_of_a_topic_that_is_not_joined_are_unmatched(run: Run) -> None:
    """The reply has no join_ref, whatever the message had."""

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.post(["1", "2", "room:a", "echo", {}])
            unmatched = {"response": {"reason": "unmatched topic"}, "status": "error"}
            assert await poller.poll() == [[None, "2", "room:a", "phx_reply", unmatched]]

    run(main())


@pytest.mark.parametrize("event", ["phx_leave", "echo"])
def test_stale_join_ref_is_ignored_and_null_is_accepted(event: str, run: Run) -> None:
    """A leave with an old join_ref does not end the channel; one without does."""

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.join("room:a", ref="4")
            assert await poller.post(["3", "5", "room:a", event, {}], [None, "6", "room:a", event, {}]) == 200
            messages = await poller.poll()
            expected = [["4", "6", "phx_reply"], ["4", "4", "phx_close"]] if event == "phx_leave" else [["4", "6", "phx_reply"]]
            assert [[message[0], message[1], message[3]] for message in messages] == expected

    run(main())


def test_crashed_channel_reports_an_error(run: Run) -> None:
    """Its ref is the join_ref."""

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.join("room:a")
            await poller.post(["1", "2", "room:a", "crash", {}])
            assert await poller.poll() == [["1", "1", "room:a", "phx_error", {"reason": "channel_crash"}]]

    run(main())


def test_101st_join_is_refused(run: Run) -> None:
    """The limit is that of a WebSocket."""

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.post(*(["1", "1", f"room:{number}", "phx_join", {}] for number in range(100)))
            assert len(await poller.poll()) == 100
            assert (await poller.join("room:last"))["response"] == {"reason": "too many channels joined"}

    run(main())


def test_slow_join_times_the_request_out_but_not_the_message(run: Run) -> None:
    """A POST that waits longer than the window gets 408; what it sent is handled all the same, and answered later."""

    async def main() -> None:
        async with serving(time_scale=FAST) as (_, poller):
            await poller.open()
            assert await poller.post(["1", "1", "room:slow", "phx_join", {}]) == 408
            (reply,) = await poller.poll_until_found()
            assert reply[4]["status"] == "ok"

    run(main())


def test_session_that_is_held_up_looks_like_one_that_has_ended(run: Run) -> None:
    """While a join takes long no request finds the session: messages get 410, and a poll opens another one."""

    async def main() -> None:
        async with serving(time_scale=0.2) as (server, poller):
            await poller.open()
            joining = asyncio.create_task(poller.post(["1", "1", "room:slow", "phx_join", {}]))
            await until(lambda: next(iter(server.sockets)).held)
            assert await poller.post([None, "2", "phoenix", "heartbeat", {}]) == 410
            assert (await poller.call("GET"))["token"] != poller.token
            await joining
            (reply,) = await poller.poll_until_found()
            assert reply[3] == "phx_reply"

    run(main())


def test_session_without_polls_ends(run: Run) -> None:
    """One and a half windows after the last poll, or twice that, its channels are gone, and so is the client."""

    async def main() -> None:
        async with serving(time_scale=FAST) as (server, poller):
            await poller.open()
            await poller.join("room:a")
            (connection,) = server.sockets
            await asyncio.wait_for(asyncio.shield(connection.lost), 6 * FAST + 1)
            assert server.clients == []
            assert server.hub.subscribers("room:a") == []
            assert await poller.post(["1", "2", "room:a", "echo", {}]) == 410

    run(main())


def test_session_with_polls_lives_on(run: Run) -> None:
    """Empty polls are enough."""

    async def main() -> None:
        async with serving(time_scale=0.2) as (_, poller):
            await poller.open()
            await poller.join("room:a")
            for _ in range(3):
                assert await poller.poll() == []
            assert await poller.post(["1", "2", "room:a", "echo", {}]) == 200

    run(main())


def test_ended_session_is_forgotten(run: Run) -> None:
    """A server that runs for months does not keep every client that ever polled."""

    async def main() -> None:
        lost = []
        sessions, session = Sessions(), Session(1.0, lost.append)
        sessions.add("token", session)
        assert sessions.get("token") is session
        session.drop()
        session.drop()
        await asyncio.sleep(0)
        assert sessions.get("token") is None
        assert lost == [session]

    run(main())


@pytest.mark.parametrize("ends_it", ["disconnect", "kick", "drain"])
def test_server_can_end_a_session(ends_it: str, run: Run) -> None:
    """A poll that waits is not told: it runs into its window, and the next one opens a new session."""

    async def main() -> None:
        async with serving("/socket/longpoll?vsn=2.0.0&user=u1", time_scale=0.2) as (server, poller):
            await poller.open()
            await poller.join("room:a")
            poll = asyncio.create_task(poller.poll())
            await until(lambda: server._sessions._polls)
            (client,) = server.clients
            assert (client["transport"], client["channels"]) == ("longpoll", ["room:a"])
            ended = {
                "disconnect": lambda: server.disconnect("user:u1"),
                "kick": lambda: server.close_where(1000, client=client["client"]),
                "drain": server.drain,
            }[ends_it]()
            assert ended == 1
            assert server.clients == []
            assert await poll == []
            assert (await poller.call("GET"))["status"] == 410

    run(main())


def test_killed_transport_is_a_session_that_has_ended(run: Run) -> None:
    """The POST that did it was taken."""

    async def main() -> None:
        async with serving(time_scale=0.2) as (_, poller):
            await poller.open()
            await poller.join("room:a")
            assert await poller.post(["1", "2", "room:a", "kill_transport", {}]) == 200
            assert await poller.post(["1", "3", "room:a", "echo", {}]) == 410

    run(main())


def test_faults_and_floods_reach_long_poll_too(run: Run, post: Any) -> None:
    """A session is a client like any other."""

    async def main() -> None:
        async with serving() as (server, poller):
            await poller.open()
            await poller.join("room:a")
            await post(f"{server.control_url}/settings", {"duplicate_replies": True})
            await poller.post(["1", "2", "room:a", "echo", {}])
            assert [message[1] for message in await poller.poll()] == ["2", "2"]
            flood = asyncio.create_task(post(f"{server.control_url}/flood", {"topics": ["room:a"], "count": 1_000}))
            await asyncio.wait([flood], timeout=0.1)
            assert not flood.done()
            came: list[Any] = []
            while len(came) < 1_000:
                came += await poller.poll()
            assert [message[4]["i"] for message in came] == list(range(1_000))
            assert (await flood)["deliveries"] == 1_000
            await post(f"{server.control_url}/settings", {"refuse_connections": 503})
            assert (await poller.request("GET"))[0] == 503

    run(main())


def test_stopping_answers_the_poll_that_waits(run: Run, dial: Any) -> None:
    """Joined clients are drained at once; others are closed only when every request has its answer."""

    async def main() -> None:
        server = MockServer(time_scale=0.2)
        await server.start()
        async with aiohttp.ClientSession() as http:
            poller = Poller(http, f"{server.http_url}/socket/longpoll?vsn=2.0.0")
            await poller.open()
            await poller.join("room:a")
            joined, idle = await dial(server.port), await dial(server.port)
            await joined.join("room:a")
            poll = asyncio.create_task(poller.poll())
            await until(lambda: server._sessions._polls)
            stopping = asyncio.create_task(server.stop())
            assert (await joined.receive()).code == 1012
            assert not poll.done()
            assert (await idle.receive()).code == 1000
            assert await poll == []
            await stopping

    run(main())
