"""`rig.client.connect` against the mock server: how a client comes about, and how it ends."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

import rig
from mock_server.server import MockServer
from rig.client import connect
from rig.errors import (
    AuthenticationRefused,
    ConfigError,
    ConnectError,
    ConnectFailed,
    ConnectionLost,
    HandshakeRefused,
    JoinRefused,
    LocalProtocolError,
    NoEndpoint,
    NotWebSocket,
    TlsFailed,
    TokenUnavailable,
)
from tests.client.talking import cut, talking
from tests.running import PATIENCE, run, until

TLS = Path(__file__).parents[1] / "mock_server" / "tls"


def test_the_package_offers_connect() -> None:
    """`rig.connect` is what a script imports."""
    assert rig.connect is connect


def test_connect_params_can_be_made_for_each_connection() -> None:
    """A callable is asked for the first connection and for every later one; one that raises costs an attempt, and no more."""

    async def test() -> None:
        made = iter([{"n": "1"}, ValueError("no params yet"), {"n": "2"}])

        def params() -> dict[str, str]:
            made_now = next(made)
            if isinstance(made_now, ValueError):
                raise made_now
            return made_now

        async with talking(params=params) as (server, client):
            await client.join("room:1")
            assert server.clients[0]["params"] == {"n": "1", "vsn": "2.0.0"}
            await cut(server)
            assert server.clients[0]["params"] == {"n": "2", "vsn": "2.0.0"}

    run(test)


def test_connect_params_that_cannot_be_made_are_told_at_once() -> None:
    """The first connection is the caller's, and so is what its params raise."""

    async def test() -> None:
        async with MockServer() as server:
            with pytest.raises(ZeroDivisionError):
                await _connect(server.url, params=lambda: 1 / 0)

    run(test)


def test_a_version_that_phoenix_does_not_speak_is_told_at_once() -> None:
    """The server would answer HTTP 403, which says nothing of the version."""

    async def test() -> None:
        for vsn in ("3.0.0", "2.0", ""):
            with pytest.raises(ConfigError, match=r"vsn=.*2\.0\.0.*1\.0\.0"):
                await _connect("ws://127.0.0.1:1/socket", vsn=vsn)

    run(test)


def test_what_cannot_be_connected_to_is_told_at_once() -> None:
    """The first attempt is the caller's; only later ones are tried for ever."""

    async def test() -> None:
        async with MockServer() as server:
            url = server.url
            server.faults.change({"refuse_connections": 403})
            with pytest.raises(AuthenticationRefused):
                await _connect(url)
            server.faults.change({"refuse_connections": 503})
            with pytest.raises(HandshakeRefused, match="503"):
                await _connect(url)
            server.faults.reset()
            with pytest.raises(HandshakeRefused, match="404"):
                await _connect(url + "/nowhere")
        with pytest.raises(ConnectFailed):
            await _connect(url)
        with pytest.raises(ConfigError):
            await _connect("room:lobby")

    run(test)


def test_what_speaks_no_websocket_is_told_as_such() -> None:
    """A port that answers something else."""

    async def test() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"220 smtp.example ready\r\n")
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(NotWebSocket):
                await _connect(f"ws://127.0.0.1:{port}/socket")

    run(test)


def test_tls_needs_an_authority_that_is_trusted() -> None:
    """The certificate is checked, unless the caller says otherwise; with the right authority it just works."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "localhost.crt", TLS / "localhost.key")

    async def test() -> None:
        async with MockServer(host="localhost", ssl_context=context) as server:
            with pytest.raises(TlsFailed):
                await _connect(server.url)
            for trust in ({"ca": str(TLS / "localhost.crt")}, {"insecure": True}):
                async with connect(server.url, **trust) as client:
                    channel = await client.join("room:1")
                    assert await channel.push("echo", {"secure": True}) == {"secure": True}

    run(test)


def test_a_file_that_holds_no_certificate_is_told_at_once(tmp_path: Path) -> None:
    """A wrong --ca is a sentence, not a wait without an end."""
    wrong = tmp_path / "ca.pem"
    wrong.write_text("not a certificate")

    async def test() -> None:
        with pytest.raises(ConfigError, match=r"ca\.pem"):
            await _connect("wss://localhost:1/socket", ca=str(wrong))

    run(test)


def test_connecting_can_be_cancelled() -> None:
    """A server that accepts and says nothing holds nobody up."""

    async def test() -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await _connect(f"ws://127.0.0.1:{port}/socket", connect_timeout=PATIENCE)

    run(test)


def test_leaving_the_context_ends_everything_that_waits() -> None:
    """Iterations stop, joins and pushes are told, and the server sees a clean close."""

    async def test() -> None:
        async with MockServer() as server:
            async with connect(server.url, push_timeout=PATIENCE, join_timeout=PATIENCE) as client:
                channel = await client.join("room:1")
                server.faults.change({"reply_delay": PATIENCE})
                iterating = asyncio.create_task(_collect(aiter(channel)))
                everything = asyncio.create_task(_collect(client.events()))
                pushing = asyncio.create_task(channel.push("noreply"))
                joining = asyncio.create_task(client.join("room:2"))
                leaving = asyncio.create_task(channel.leave())
                await until(lambda: server.clients[0]["channels"] == ["room:2"])

            assert await iterating == []
            assert await everything == []
            await leaving
            for waiting in (pushing, joining):
                with pytest.raises(ConnectionLost):
                    await waiting
            await until(lambda: not server.clients)
            with pytest.raises(LocalProtocolError):
                await client.join("room:3")

    run(test)


def test_an_exception_in_the_context_closes_the_connection() -> None:
    """The connection ends with the block, however that ends."""

    async def test() -> None:
        async with MockServer() as server:
            with contextlib.suppress(ZeroDivisionError):
                async with connect(server.url) as client:
                    await client.join("room:1")
                    raise ZeroDivisionError
            await until(lambda: not server.clients)

    run(test)


async def _connect(url: str, **settings: Any) -> None:
    async with connect(url, **settings):
        raise AssertionError("it connected")


async def _collect(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


def test_the_token_is_asked_for_before_each_connection() -> None:
    """A function, plain or async, gives the token of the moment; the server sees it as phoenix.js would send it."""
    tokens = iter(["first", "second"])

    async def current() -> str:
        return next(tokens)

    def seen(server: MockServer) -> list[str | None]:
        return [socket.identity.auth_token for socket in server.sockets.values()]

    async def test() -> None:
        async with talking(auth=current) as (server, client):
            await client.join("room:1")
            assert seen(server) == ["first"]
            await cut(server)
            assert seen(server) == ["second"]

    run(test)


def test_the_token_can_travel_in_every_join() -> None:
    """What the caller joins with stays, and the token of the moment stands beside it, at rejoins too."""
    tokens = iter(["first", "second", "third"])

    async def test() -> None:
        async with talking(auth=lambda: next(tokens), auth_mode="join:access_token") as (_, client):
            channel = await client.join("room:1", {"since": 41})
            assert channel.response["params"] == {"since": 41, "access_token": "first"}

    run(test)


def test_a_join_refused_as_unauthorised_asks_for_a_fresh_token() -> None:
    """Who tries again after the refusal shows another token than the one that was refused."""
    asked: list[str] = []

    def current() -> str:
        asked.append(f"token-{len(asked)}")
        return asked[-1]

    async def test() -> None:
        async with talking(auth=current, auth_mode="join:token") as (_, client):
            with pytest.raises(JoinRefused):
                await client.join("room:forbidden")
            await until(lambda: len(asked) > 1)
            await asyncio.sleep(0)
            channel = await client.join("room:1")
            assert channel.response["params"]["token"] == asked[-1] != "token-0"

    run(test)


def test_connections_of_a_pool_share_one_provider() -> None:
    """Three connections at once are one question."""
    asked: list[str] = []

    async def current() -> str:
        asked.append("token")
        await asyncio.sleep(0)
        return "token"

    async def test() -> None:
        async with talking(auth=current, pool=3) as (server, _):
            assert [socket.identity.auth_token for socket in server.sockets.values()] == ["token"] * 3
            assert asked == ["token"]

    run(test)


@pytest.mark.parametrize("transport", ["longpoll", "auto"])
def test_long_poll_does_all_that_a_websocket_does(transport: Literal["longpoll", "auto"]) -> None:
    """Where the upgrade is blocked, `auto` gets through as well."""

    async def test() -> None:
        async with MockServer(time_scale=0.1) as server:
            server.faults.refuse_websockets = 404 if transport == "auto" else None
            async with connect(server.url, transport=transport) as client:
                channel = await client.join("room:1")
                assert await channel.push("echo", {"n": 1}) == {"n": 1}
                server.publish("room:1", "news", {"n": 2})
                assert (await anext(aiter(channel))).payload == {"n": 2}
                assert server.clients[0]["transport"] == "longpoll"

    run(test)


def test_a_function_that_has_no_token_is_told_at_once() -> None:
    """With what it raised as the cause."""

    def current() -> str:
        raise LookupError("hunter2")

    async def test() -> None:
        async with MockServer() as server:
            with pytest.raises(TokenUnavailable, match="LookupError") as failed:
                await _connect(server.url, auth=current)
            assert "hunter2" not in str(failed.value)

    run(test)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("transport", "carrier pigeon"), ("auth", "hunter2"), ("auth_mode", "cookie"), ("proxy", "ftp://proxy:1"), ("pin", ["x"])],
)
def test_a_setting_that_cannot_be_used_is_told_at_once(setting: str, value: object) -> None:
    """With the form that is expected, before anything is dialled."""

    async def test() -> None:
        with pytest.raises(ConfigError) as refused:
            await _connect("wss://127.0.0.1:1/socket", **{setting: value})
        assert "hunter2" not in str(refused.value)

    run(test)


def test_several_urls_are_tried_in_turn_and_a_drained_one_is_left_for_the_other() -> None:
    """The first that is up is taken, and the client says where it is."""

    async def test() -> None:
        async with MockServer() as first, MockServer() as second:
            dead = "ws://127.0.0.1:1/socket"
            async with connect([dead, first.url, second.url]) as client:
                assert client.endpoint.port == first.port
                await client.join("room:1")
                first.drain()
                await until(lambda: second.clients and second.clients[0]["channels"])
                assert client.endpoint.port == second.port

    run(test)


def test_if_none_of_several_urls_takes_us_the_error_names_each() -> None:
    """Whoever catches ConnectError catches it."""

    async def test() -> None:
        with pytest.raises(ConnectError, match=r"(?s)127\.0\.0\.1:1.*127\.0\.0\.1:2") as raised:
            async with connect(["ws://127.0.0.1:1/socket", "ws://127.0.0.1:2/socket"]):
                pass
        assert isinstance(raised.value, NoEndpoint)
        with pytest.raises(ConfigError, match="there is no URL"):
            async with connect([]):
                pass

    run(test)
