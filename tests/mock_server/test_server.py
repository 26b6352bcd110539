"""What no transcript shows: stopping, stalled readers, tokens, TLS, fan-out, holding a socket up."""

import asyncio
import ssl
import struct
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any

import aiohttp
import pytest

from mock_server import MockServer
from mock_server.behaviour import UnknownPhoenixVersion
from mock_server.scenarios import UnknownScenario
from mock_server.serializer import SerializerV2
from tests.conformance.raw_client import UPGRADE

TLS = Path(__file__).parent / "tls"


def test_stopping_closes_joined_sockets_with_1012_and_others_with_1000(run: Any, dial: Any) -> None:
    """A restart is told from a farewell."""

    async def main() -> None:
        server = MockServer()
        await server.start()
        joined, idle = await dial(server.port), await dial(server.port)
        await joined.join("room:a")
        await server.stop()
        assert [(await client.receive()).code for client in (joined, idle)] == [1012, 1000]
        assert [(await client.receive()).opcode for client in (joined, idle)] == ["eof", "eof"]
        with pytest.raises(ConnectionRefusedError):
            await dial(server.port)

    run(main())


def test_stalled_reader_is_cut_without_a_close_frame(run: Any, dial: Any, post: Any) -> None:
    """Who reads nothing for the send time-out loses the connection and all that was queued; the flood then ends."""

    async def main() -> None:
        async with MockServer(time_scale=0.01) as server:
            client = await dial(server.port, None)
            client.sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 65_536)
            await client.request("/socket/websocket?vsn=2.0.0", UPGRADE)
            await client.join("room:a")
            await asyncio.wait_for(post(f"{server.control_url}/flood", {"topics": ["room:a"], "count": 50_000, "size": 1_000}), 10)
            assert server.clients == []
            opcodes = set()
            while (frame := await client.receive()).opcode != "eof":
                opcodes.add(frame.opcode)
            assert opcodes == {"text"}

    run(main())


def test_broadcast_is_encoded_once_for_all_subscribers(run: Any, dial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a subscriber is a write, not an encoding."""
    encoded = []
    original = SerializerV2.encode_broadcast

    def counting(self: SerializerV2, topic: str, event: str, payload: Any) -> bytes:
        encoded.append(topic)
        return original(self, topic, event, payload)

    monkeypatch.setattr(SerializerV2, "encode_broadcast", counting)

    async def main() -> None:
        async with MockServer() as server:
            clients = [await dial(server.port) for _ in range(5)]
            for client in clients:
                await client.join("room:a")
            assert server.publish("room:a", "news", {"n": 1}) == 5
            assert {str(await client.receive_json()) for client in clients} == {"[None, None, 'room:a', 'news', {'n': 1}]"}
        assert encoded == ["room:a"]

    run(main())


@pytest.mark.parametrize("padding", ["", "="])
def test_token_comes_in_the_subprotocol(padding: str, run: Any, dial: Any) -> None:
    """Standard base64, padded or not; `phoenix` is echoed, and the application sees the token and the parameters."""

    async def main() -> None:
        async with MockServer() as server:
            offer = f"phoenix, base64url.bearer.phx.c2VlY3JldC90b2srZW4{padding}"
            client = await dial(server.port, "/socket/websocket?vsn=2.0.0&user=js", Sec_WebSocket_Protocol=offer)
            reply = await client.join("room:auth")
        assert client.headers["sec-websocket-protocol"] == "phoenix"
        assert reply["response"] == {"auth_token": "seecret/tok+en", "connect_params": {"user": "js", "vsn": "2.0.0"}}

    run(main())


@pytest.mark.parametrize(
    ("phoenix", "offer", "status", "echo"),
    [
        ("1.8.12", "phoenix, base64url.bearer.phx.a-b_", 500, None),
        ("1.8.12", "graphql-ws", 403, None),
        ("1.8.12", "base64url.bearer.phx.YQ", 101, None),
        ("1.8.12", "phoenix", 101, "phoenix"),
        ("1.7.24", "phoenix, base64url.bearer.phx.YQ", 101, None),
    ],
)
def test_subprotocols_are_judged_as_by_phoenix(
    phoenix: str, offer: str, status: int, echo: str | None, run: Any, dial: Any
) -> None:
    """1.8 refuses what it does not know and crashes on URL-safe base64; 1.7 ignores the header."""

    async def main() -> None:
        async with MockServer(phoenix=phoenix) as server:
            client = await dial(server.port, Sec_WebSocket_Protocol=offer)
        assert client.status == status
        assert client.headers.get("sec-websocket-protocol") == echo

    run(main())


def test_strict_join_ref_drops_pushes_without_one(run: Any, dial: Any) -> None:
    """As 1.8.3 to 1.8.11 do."""

    async def main() -> None:
        async with MockServer(strict_join_ref=True) as server:
            client = await dial(server.port)
            await client.join("room:a")
            await client.send(None, "2", "room:a", "echo", {})
            await client.send("1", "3", "room:a", "echo", {})
            assert (await client.receive_json())[1] == "3"

    run(main())


def test_plain_http_on_a_socket_path_is_400_and_other_paths_are_404(run: Any) -> None:
    """A browser that opens the socket's address gets an answer."""

    async def main() -> None:
        async with MockServer() as server, aiohttp.ClientSession() as session:
            async with session.get(f"{server.http_url}/socket/websocket?vsn=2.0.0") as response:
                assert response.status == 400
                assert "'connection' header must contain 'upgrade'" in await response.text()
            async with session.post(f"{server.http_url}/socket/websocket") as response:
                assert response.status == 400
            async with session.get(f"{server.http_url}/nowhere") as response:
                assert response.status == 404
            async with session.get(f"{server.http_url}/info") as response:
                assert (await response.json())["phoenix"] == "1.8.12"

    run(main())


def test_wss_works_with_a_certificate(run: Any, post: Any) -> None:
    """The same server over TLS, floods included."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(TLS / "localhost.crt", TLS / "localhost.key")
    trusting = ssl.create_default_context(cafile=str(TLS / "localhost.crt"))

    async def main() -> None:
        async with MockServer(ssl_context=serving, control_port=0) as server, aiohttp.ClientSession() as session:
            assert server.url.startswith("wss://")
            async with session.ws_connect(f"{server.url}/websocket?vsn=2.0.0", ssl=trusting) as client:
                await client.send_json(["1", "1", "room:a", "phx_join", {}])
                assert (await client.receive_json())[4]["status"] == "ok"
                flood = asyncio.create_task(post(f"{server.control_url}/flood", {"topics": ["room:a"], "count": 2_000}))
                assert [(await client.receive_json())[4]["i"] for _ in range(2_000)] == list(range(2_000))
                await flood

    run(main())


def test_slow_join_holds_up_broadcasts_and_pings_too(run: Any, dial: Any) -> None:
    """The socket process does one thing at a time, and sends what gathered behind the join's reply."""

    async def main() -> None:
        async with MockServer(time_scale=0.05) as server:
            client = await dial(server.port)
            await client.join("room:a")
            await client.send("2", "2", "room:slow", "phx_join", {})
            await client.send_frame("ping", b"p")
            await asyncio.sleep(0.03)
            server.publish("room:a", "news", {})
            frames = [await client.receive() for _ in range(3)]
        assert [frame.opcode for frame in frames] == ["text", "text", "pong"]
        assert [frame.json[3] for frame in frames[:2]] == ["phx_reply", "news"]

    run(main())


def test_slow_join_asked_for_twice_takes_twice_as_long(run: Any, dial: Any) -> None:
    """Reply, reply, and only then the close of the first."""

    async def main() -> None:
        async with MockServer(time_scale=0.01) as server:
            client = await dial(server.port)
            for ref in ("1", "2"):
                await client.send(ref, ref, "room:slow", "phx_join", {})
            came = [await client.receive_json() for _ in range(3)]
        assert [(m[0], m[3]) for m in came] == [("1", "phx_reply"), ("2", "phx_reply"), ("1", "phx_close")]

    run(main())


@pytest.mark.parametrize(("room", "last"), [("room:after_join", "joined"), ("room:stop_soon", "phx_close")])
def test_odd_rooms_do_what_they_are_for(room: str, last: str, run: Any, dial: Any) -> None:
    """A push and a broadcast behind the reply; a channel that soon stops by itself."""

    async def main() -> None:
        async with MockServer(time_scale=0.05) as server:
            client = await dial(server.port)
            await client.join(room)
            while (await client.receive_json())[3] != last:
                pass

    run(main())


def test_killed_channels_report_an_error(run: Any, dial: Any) -> None:
    """The crash payload follows the version."""

    async def main(phoenix: str, payload: dict[str, str]) -> None:
        async with MockServer(phoenix=phoenix) as server:
            client = await dial(server.port)
            await client.join("room:a")
            assert server.kill_channels("room:a") == 1
            assert await client.receive_json() == ["1", "1", "room:a", "phx_error", payload]

    run(main("1.8.12", {"reason": "channel_crash"}))
    run(main("1.7.24", {}))


def test_frames_right_behind_the_upgrade_request_are_read(run: Any, dial: Any, frame_bytes: Any) -> None:
    """A client need not wait for the answer to its upgrade before it sends."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port, None)
            head = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in UPGRADE)
            heartbeat = frame_bytes(1, b'[null,"1","phoenix","heartbeat",{}]')
            await client.write(head.encode() + b"\r\n" + heartbeat)
            while b'"ok"' not in client.buffer:
                client.buffer += await asyncio.get_running_loop().sock_recv(client.sock, 4_096)
            assert client.buffer.startswith(b"HTTP/1.1 101")

    run(main())


def test_client_that_vanishes_is_forgotten(run: Any, dial: Any) -> None:
    """A reset connection leaves no subscription behind."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("room:a")
            client.sock.setsockopt(SOL_SOCKET, 13, struct.pack("ii", 1, 0))
            client.close()
            (connection,) = server.sockets
            await asyncio.wait_for(asyncio.shield(connection.lost), 5)
            assert server.publish("room:a", "news", {}) == 0

    run(main())


def test_unknown_version_and_scenario_are_named() -> None:
    """The message says what there is."""
    with pytest.raises(UnknownPhoenixVersion, match=r"such as 1\.8\.12"):
        MockServer(phoenix="8")
    with pytest.raises(UnknownScenario, match="max, reference"):
        MockServer(scenario="min")
