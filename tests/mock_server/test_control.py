"""The control API and the faults it switches on."""

import json
import time
from typing import Any

import pytest

from mock_server import MockServer


def test_clients_are_described(run: Any, dial: Any, post: Any) -> None:
    """Who is connected, as whom, with which serializer and channels."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port, "/socket/websocket?vsn=2.0.0&user=u1&x=1")
            await client.join("room:a")
            (described,) = await post(f"{server.control_url}/clients")
        assert described["params"] == {"vsn": "2.0.0", "user": "u1", "x": "1"}
        assert described["socket_id"] == "user:u1"
        assert described["channels"] == ["room:a"]
        assert described["serializer"] == "2.0.0"
        assert abs(described["connected_at"] - time.time()) < 60
        assert described["bytes_received"] > 30
        assert described["bytes_sent"] > 60

    run(main())


def test_publish_reaches_every_subscriber(run: Any, dial: Any, post: Any) -> None:
    """An event made by hand arrives as a broadcast, and the ledger counts it."""

    async def main() -> None:
        async with MockServer() as server:
            clients = [await dial(server.port) for _ in range(3)]
            for client in clients:
                await client.join("room:a")
            body = {"topic": "room:a", "event": "news", "payload": {"n": 1}}
            assert await post(f"{server.control_url}/publish", body) == {"delivered": 3}
            for client in clients:
                assert await client.receive_json() == [None, None, "room:a", "news", {"n": 1}]
            assert await post(f"{server.control_url}/ledger") == {"room:a": {"count": 1, "last": None}}
            await post(f"{server.control_url}/reset", {})
            assert await post(f"{server.control_url}/ledger") == {}

    run(main())


@pytest.mark.parametrize(("code", "expected"), [(4001, ("close", 4001)), (0, ("eof", None))])
def test_kick_ends_one_client(code: int, expected: tuple[str, int | None], run: Any, dial: Any, post: Any) -> None:
    """One is closed with the code, or dropped with code 0; the other stays."""

    async def main() -> None:
        async with MockServer() as server:
            kicked, other = await dial(server.port), await dial(server.port)
            body = {"client": server.clients[0]["client"], "code": code}
            assert await post(f"{server.control_url}/kick", body) == {"kicked": 1}
            frame = await kicked.receive()
            assert (frame.opcode, frame.code) == expected
            await other.send(None, "1", "phoenix", "heartbeat", {})
            assert (await other.receive_json())[1] == "1"
            assert await post(f"{server.control_url}/kick", {"all": True}) == {"kicked": 1}
            assert (await other.receive()).code == 1000

    run(main())


def test_disconnect_closes_the_sockets_of_a_user(run: Any, dial: Any, post: Any) -> None:
    """As the application's own `disconnect` does."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port, "/socket/websocket?vsn=2.0.0&user=u1")
            assert await post(f"{server.control_url}/disconnect", {"user": "u1"}) == {"disconnected": 1}
            assert (await client.receive()).code == 1001

    run(main())


def test_joins_are_refused_by_pattern(run: Any, dial: Any, post: Any) -> None:
    """A glob refuses some topics, true refuses all."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await post(f"{server.control_url}/settings", {"refuse_joins": "room:b*"})
            assert (await client.join("room:a"))["status"] == "ok"
            assert (await client.join("room:b1", ref="2"))["status"] == "error"
            await post(f"{server.control_url}/settings", {"refuse_joins": True})
            assert (await client.join("room:c", ref="3"))["status"] == "error"

    run(main())


def test_heartbeats_can_be_ignored(run: Any, dial: Any, post: Any) -> None:
    """Everything else is still answered."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await post(f"{server.control_url}/settings", {"ignore_heartbeats": True})
            await client.send(None, "1", "phoenix", "heartbeat", {})
            assert (await client.join("room:a", ref="2"))["status"] == "ok"

    run(main())


def test_replies_can_be_late_doubled_and_garbled(run: Any, dial: Any, post: Any) -> None:
    """Each fault is a switch of its own, and reset ends them all."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await post(f"{server.control_url}/settings", {"reply_delay": 0.1})
            started = time.monotonic()
            await client.join("room:a")
            assert time.monotonic() - started >= 0.09
            await post(f"{server.control_url}/settings", {"reply_delay": 0, "duplicate_replies": True})
            await client.join("room:b", ref="2")
            assert (await client.receive_json())[1] == "2"
            await post(f"{server.control_url}/settings", {"duplicate_replies": False, "garble_replies": True})
            await client.send(None, "3", "phoenix", "heartbeat", {})
            with pytest.raises(ValueError, match="Expecting"):
                await client.receive_json()
            await post(f"{server.control_url}/reset", {})
            await client.send(None, "4", "phoenix", "heartbeat", {})
            assert (await client.receive_json())[1] == "4"

    run(main())


def test_upgrades_alone_can_be_refused(run: Any, dial: Any, post: Any) -> None:
    """As by something on the way that lets only plain HTTP through."""

    async def main() -> None:
        async with MockServer() as server:
            await post(f"{server.control_url}/settings", {"refuse_websockets": 426})
            assert (await dial(server.port)).status == 426
            client = await dial(server.port, None)
            await client.request("/socket/longpoll?vsn=2.0.0", [("Host", "localhost")])
            assert (client.status, json.loads(client.body)["status"]) == (200, 410)

    run(main())


def test_connections_can_be_refused(run: Any, dial: Any, post: Any) -> None:
    """With whatever status a proxy or an overloaded server might give."""

    async def main() -> None:
        async with MockServer() as server:
            await post(f"{server.control_url}/settings", {"refuse_connections": 503})
            assert (await dial(server.port)).status == 503
            await post(f"{server.control_url}/settings", {"refuse_connections": None})
            assert (await dial(server.port)).status == 101

    run(main())


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("settings", {"refuse_jions": True}),
        ("settings", {"reply_delay": "soon"}),
        ("flood", {"count": 1}),
        ("flood", {"topics": [], "count": 1}),
        ("flood", {"topics": ["room:a"], "count": 1, "size": 10}),
        ("publish", {"topic": "room:a"}),
        ("kick", {}),
    ],
)
def test_wrong_request_is_answered_with_the_reason(route: str, body: Any, run: Any, post: Any) -> None:
    """A typing mistake in a test must not look like a fault that is on."""

    async def main() -> None:
        async with MockServer() as server:
            answer = await post(f"{server.control_url}/{route}", body)
            assert isinstance(answer["error"], str)
            assert await post(f"{server.control_url}/settings") == {
                "refuse_joins": False,
                "ignore_heartbeats": False,
                "reply_delay": 0.0,
                "duplicate_replies": False,
                "garble_replies": False,
                "refuse_connections": None,
                "refuse_websockets": None,
                "hang_connections": False,
                "hang_websockets": False,
                "event_delay": 0.0,
                "duplicate_events": False,
                "ledger_error_every": 0,
                "ledger_ignore_every": 0,
                "ledger_mute_every": 0,
                "ledger_crash_every": 0,
            }

    run(main())


def test_events_can_be_late_and_doubled(run: Any, dial: Any, post: Any) -> None:
    """Broadcasts come late, in their order, or twice; replies are not touched."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("room:a")
            await post(f"{server.control_url}/settings", {"event_delay": 0.1, "duplicate_events": True})
            started = time.monotonic()
            for n in (1, 2):
                server.publish("room:a", "news", {"n": n})
            await client.send(None, "2", "phoenix", "heartbeat", {})
            assert (await client.receive_json())[1] == "2"
            assert [(await client.receive_json())[4]["n"] for _ in range(4)] == [1, 1, 2, 2]
            assert time.monotonic() - started >= 0.09

    run(main())


def test_joins_are_remembered_with_their_moment_and_their_payload(run: Any, dial: Any, post: Any) -> None:
    """So that a test can see how fast a client joined and what it said that it had seen; secrets are masked, reset forgets."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("room:a", {"last_seen_id": 7, "token": "hush"})
            await client.join("room:forbidden", ref="2")
            first, second = await post(f"{server.control_url}/joins")
            assert (first["topic"], first["payload"]) == ("room:a", {"last_seen_id": 7, "token": "***"})
            assert (second["topic"], second["client"]) == ("room:forbidden", first["client"])
            assert time.monotonic() - 60 < first["at"] <= second["at"] <= time.monotonic()
            assert [join.payload["token"] for join in server.joins.of("room:a")] == ["hush"]
            await post(f"{server.control_url}/reset", {})
            assert await post(f"{server.control_url}/joins") == []

    run(main())


def test_the_control_api_lists_itself(run: Any, post: Any) -> None:
    """Each request that is understood, in a sentence."""

    async def main() -> None:
        async with MockServer() as server:
            listed = await post(server.control_url)
            assert listed["GET /control/received"].startswith("Say for each topic of ledger:*")
            assert all(listed.values())
            for request in listed:
                method, path = request.split(" /control", 1)
                if method == "GET":
                    assert await post(server.control_url + path) is not None

    run(main())


def test_control_api_can_have_a_port_of_its_own(run: Any, dial: Any, post: Any) -> None:
    """Then the main port, which may go through a fault proxy, does not serve it."""

    async def main() -> None:
        async with MockServer(control_port=0) as server:
            assert f":{server.port}/" not in server.control_url
            assert await post(f"{server.control_url}/clients") == []
            assert (await dial(server.port, "/control/clients")).status == 404

    run(main())
