"""What comes before a WebSocket: requests that are no upgrade, subprotocols, paths, and what the server notes of a client."""

from collections.abc import Callable
from typing import Any

import pytest

from mock_server import MockServer

UPGRADE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "cmlnLWdvbGRlbi1rZXktMA==",
    "Sec-WebSocket-Version": "13",
}

Run = Callable[[Any], None]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Connection": None}, "'connection' header must contain 'upgrade', got []"),
        ({"Connection": "keep-alive"}, "'connection' header must contain 'upgrade', got [\"keep-alive\"]"),
        ({"Upgrade": "h2c"}, "'upgrade' header must contain 'websocket', got [\"h2c\"]"),
        ({"Sec-WebSocket-Key": None}, "'sec-websocket-key' header is absent"),
        ({"Sec-WebSocket-Version": "8"}, "'sec-websocket-version' header must equal '13', got [\"8\"]"),
    ],
)
def test_request_that_is_no_upgrade_is_400_and_says_why(change: dict[str, str | None], words: str, run: Run, dial: Any) -> None:
    """In the words of the real server."""
    headers = [(name, value) for name, value in {**UPGRADE, **change}.items() if value is not None]

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port, None)
            await client.request("/socket/websocket?vsn=2.0.0", headers)
            assert (client.status, client.body.decode()) == (400, words)

    run(main())


def test_refusal_comes_before_the_upgrade_is_looked_at(run: Run, dial: Any) -> None:
    """A client that may not connect learns that first."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port, None)
            await client.request("/socket/websocket?vsn=2.0.0&token=bad", [("Host", "localhost")])
            assert (client.status, client.body) == (403, b"")
            assert "content-type" not in client.headers

    run(main())


@pytest.mark.parametrize(
    ("offered", "status", "chosen"),
    [(None, 101, None), ("mqtt", 101, "mqtt"), ("other, mqtt, sip", 101, "sip"), ("other", 403, None), ("", 101, None)],
)
def test_configured_subprotocols_are_required_of_who_offers_any(
    offered: str | None, status: int, chosen: str | None, run: Run, dial: Any
) -> None:
    """The server's own order decides which one is echoed."""
    headers = {} if offered is None else {"Sec_WebSocket_Protocol": offered}

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port, "/subprotocols/websocket?vsn=2.0.0", **headers)
            assert (client.status, client.headers.get("sec-websocket-protocol")) == (status, chosen)

    run(main())


def test_subprotocols_mean_nothing_where_none_is_configured(run: Run, dial: Any) -> None:
    """None is echoed, a token is not looked at."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port, "/default/websocket?vsn=2.0.0", Sec_WebSocket_Protocol="other")
            assert (client.status, client.headers.get("sec-websocket-protocol")) == (101, None)

    run(main())


def test_mount_may_have_several_segments(run: Run, dial: Any) -> None:
    """The path is the mount's, then the transport's."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port, "/ws/admin/websocket?vsn=2.0.0")
            assert (await client.join("room:a"))["status"] == "ok"

    run(main())


@pytest.mark.parametrize("transport", ["live", "poll"])
def test_path_may_be_of_ones_own_and_have_variables(transport: str, run: Run, dial: Any) -> None:
    """A variable is a parameter like those of the query, and wins over them."""
    target = f"/custom/ann/{transport}?vsn=2.0.0&user=bob&x=1"

    async def main() -> None:
        async with MockServer() as server:
            await dial(server.port, target)
            (client,) = server.clients
            assert client["params"] == {"vsn": "2.0.0", "user": "ann", "x": "1"}
            assert client["socket_id"] == "user:ann"
            assert (await dial(server.port, "/custom/ann/websocket?vsn=2.0.0")).status == 404

    run(main())


def test_request_is_noted_and_its_secrets_are_masked(run: Run, dial: Any) -> None:
    """Path, query, headers and peer are there to look at; no token, cookie or password is."""
    bearer = "base64url.bearer.phx.c2VjcmV0"

    async def main() -> None:
        async with MockServer() as server:
            await dial(
                server.port,
                "/socket/websocket?vsn=2.0.0&token=s3cret&a=%26b",
                X_Trace="t1",
                User_Agent="tester",
                Cookie="s3cret",
                Authorization="Bearer s3cret",
                Sec_WebSocket_Protocol=f"phoenix, {bearer}",
            )
            (client,) = server.clients
            request, headers = client["request"], dict(client["request"]["headers"])
            assert request["path"] == "/socket/websocket"
            assert request["query"] == "vsn=2.0.0&token=***&a=%26b"
            assert request["peer"] == "127.0.0.1"
            assert (headers["X-Trace"], headers["User-Agent"], headers["Cookie"]) == ("t1", "tester", "***")
            assert headers["Sec-WebSocket-Protocol"] == "phoenix, base64url.bearer.phx.***"
            assert client["params"]["token"] == "***"
            (socket,) = server.sockets.values()
            assert (socket.identity.params["token"], socket.identity.auth_token) == ("s3cret", "secret")
            for shown in (str(client), repr(socket.identity)):
                assert "s3cret" not in shown
                assert "c2VjcmV0" not in shown

    run(main())


def test_expired_tokens_are_refused_and_fresh_ones_are_not(run: Run, dial: Any, post: Any) -> None:
    """Whoever connects again needs a token that was not shown before; who is connected stays."""

    async def main() -> None:
        async with MockServer() as server:
            connected = await dial(server.port, "/socket/websocket?vsn=2.0.0&token=one")
            await dial(server.port, Sec_WebSocket_Protocol="phoenix, base64url.bearer.phx.dHdv")
            assert await post(f"{server.control_url}/expire_tokens", {}) == {"expired": 2}
            assert (await connected.join("room:a"))["status"] == "ok"
            assert (await dial(server.port, "/socket/websocket?vsn=2.0.0&token=one")).status == 403
            assert (await dial(server.port, Sec_WebSocket_Protocol="phoenix, base64url.bearer.phx.dHdv")).status == 403
            assert (await dial(server.port, "/socket/websocket?vsn=2.0.0&token=three")).status == 101
            assert (await dial(server.port)).status == 101
            assert await post(f"{server.control_url}/expire_tokens", {}) == {"expired": 1}

    run(main())


def test_expired_session_is_refused_where_its_client_is(run: Run, dial: Any, post: Any) -> None:
    """A long-poll session's token expires, too; a new session needs whatever connecting needs."""

    async def main() -> None:
        async with MockServer() as server:
            opened = await dial(server.port, None)
            await opened.request("/socket/longpoll?vsn=2.0.0", [("Host", "localhost"), ("x-phoenix-authtoken", "one")])
            token = opened.body.decode().split('"token":"')[1].rstrip('"}')
            for headers, answer in (([], '"status":410'), ([("x-phoenix-authtoken", "one")], '"status":403'), ([], '"status":410')):
                await post(f"{server.control_url}/expire_tokens", {})
                again = await dial(server.port, None)
                await again.request(f"/socket/longpoll?vsn=2.0.0&token={token}", [("Host", "localhost"), *headers])
                assert answer in again.body.decode()

    run(main())


@pytest.mark.parametrize("topic", ["room:a", None])
def test_drain_closes_what_is_joined_with_1012(topic: str | None, run: Run, dial: Any, post: Any) -> None:
    """Of one topic, or of any."""

    async def main() -> None:
        async with MockServer() as server:
            joined, elsewhere, idle = [await dial(server.port) for _ in range(3)]
            await joined.join("room:a")
            await elsewhere.join("room:b")
            body = {} if topic is None else {"topic": topic}
            assert await post(f"{server.control_url}/drain", body) == {"drained": 1 if topic else 2}
            assert (await joined.receive()).code == 1012
            await idle.send(None, "1", "phoenix", "heartbeat", {})
            assert (await idle.receive_json())[1] == "1"

    run(main())
