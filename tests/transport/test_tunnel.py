"""The way through a proxy, and everything that can go wrong on it."""

import asyncio
import errno
import logging
import re
import socket

import psutil
import pytest

from rig.errors import ConnectTimeout, NotWebSocket, ProxyFailed, TlsFailed
from rig.transport import Endpoint, dial
from tests.running import until
from tests.transport.proxy_server import ProxyServer
from tests.transport.raw_server import Owner, Peer, RawServer, close, reached, text
from tests.transport.tls_server import greet, reach

SCHEMES = ["http", "socks5", "socks4"]


async def fail_through(proxy, *, userinfo="", expected=ProxyFailed, target="ws://phoenix.example:4000/socket", **settings):
    """Dial through a proxy that does not let us through, and return the error."""
    endpoint = Endpoint(target, {"token": "hush"}, proxy=proxy.url(userinfo), insecure=True)
    with pytest.raises(expected) as failed:
        await dial(endpoint, Owner(), **settings)
    assert "hush" not in str(failed.value)
    return failed.value


@pytest.mark.parametrize("gap", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_frames_pass_through_a_proxy_that_finds_the_name(scheme, gap, run_on_both):
    """The name is one that only the proxy knows; large frames pass both ways; the answer may come in pieces."""

    async def test():
        async def behaviour(peer: Peer):
            await peer.upgrade(text(b"hello"))
            assert (await peer.receive()).payload == b"x" * 100_000
            peer.write(text(b"y" * 300_000) + close(1001, b"bye"))
            await peer.read_to_end()
            hosts.append(peer.header("Host"))

        owner, hosts = Owner(), []
        async with RawServer(behaviour) as server, ProxyServer(scheme, gap=gap) as proxy:
            endpoint = Endpoint(f"ws://phoenix.example:{server.port}/socket", proxy=proxy.url())
            transport = await dial(endpoint, owner, close_timeout=60)
            transport.send([b"x" * 100_000])
            closed = await owner.wait_closed()
            assert proxy.asked == [("phoenix.example", server.port)]
        assert owner.texts == [b"hello", b"y" * 300_000]
        assert (closed.code, closed.reason) == (1001, "bye")
        assert hosts == [f"phoenix.example:{server.port}"]

    run_on_both(test)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tls_goes_through_a_proxy_and_is_checked_for_the_server(scheme, certificates, run_on_both):
    """The certificate must hold the server's name, not the proxy's."""
    certificates.issue("behind", "DNS:phoenix.example")

    async def test():
        async with RawServer(greet, certificates.server_context("behind")) as server, ProxyServer(scheme, gap=True) as proxy:
            endpoint = Endpoint(f"wss://phoenix.example:{server.port}/socket", ca_file=certificates.ca_pem, proxy=proxy.url())
            await reach(endpoint)

    run_on_both(test)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_an_ipv6_address_goes_to_the_proxy_in_its_form(scheme, run_on_both):
    """With brackets in CONNECT, as bytes in SOCKS5."""

    async def test():
        async with RawServer(greet) as server, ProxyServer(scheme) as proxy:
            await reach(Endpoint(f"ws://[2001:db8::1]:{server.port}/socket", proxy=proxy.url()))
            assert proxy.asked == [("[2001:db8::1]" if scheme == "http" else "2001:db8::1", server.port)]

    run_on_both(test)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_user_and_password_are_given_to_the_proxy(scheme, run_on_both):
    """As they were meant, without the percent signs of the URL."""

    async def test():
        async with (
            RawServer(greet) as server,
            ProxyServer(scheme, credentials=("us@er", "p:ass" if scheme != "socks4" else "")) as proxy,
        ):
            userinfo = "us%40er:p%3Aass@" if scheme != "socks4" else "us%40er@"
            await reach(Endpoint(f"ws://phoenix.example:{server.port}/socket", proxy=proxy.url(userinfo)))

    run_on_both(test)


@pytest.mark.parametrize(
    ("scheme", "userinfo", "reason"),
    [
        ("http", "", r"HTTP 407: it asks for user and password"),
        ("http", "user:hush@", r"HTTP 407: it does not accept this user and password"),
        ("socks5", "", "No acceptable"),
        ("socks5", "user:hush@", "(?i)username and password"),
        ("socks4", "hush@", "user-id"),
    ],
)
def test_a_proxy_that_wants_other_credentials_says_so(scheme, userinfo, reason, run_on_both):
    """The message names the proxy, without what was tried."""

    async def test():
        async with ProxyServer(scheme, credentials=("right", "right")) as proxy:
            error = await fail_through(proxy, userinfo=userinfo)
            assert error.proxy == f"{scheme}://{'***@' if userinfo else ''}127.0.0.1:{proxy.port}"
        assert re.search(reason, error.reason)

    run_on_both(test)


@pytest.mark.parametrize(
    ("scheme", "answer", "reason"),
    [
        ("http", b"HTTP/1.1 403 hush\r\n\r\nhush", "HTTP 403"),
        ("http", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "HTTP 502"),
        ("http", b"HTTP/1.0 504\r\n\r\n", "HTTP 504"),
        ("http", b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", "HTTP 302"),
        ("http", b"", "hung up without an answer"),
        ("http", b"HTTP/1.1 200 OK\r\n", "hung up without an answer"),
        ("http", b"\x05\xff", "not HTTP"),
        ("http", b"SSH-2.0-OpenSSH", "not HTTP"),
        ("http", b"HTTP/2 200\r\n\r\n", "not HTTP"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\nhush", "sent more than its answer"),
        ("http", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "not HTTP"),
        ("socks5", b"\x05\x02\x00\x01" + bytes(6), "not allowed by ruleset"),
        ("socks5", b"\x05\x04\x00\x01" + bytes(6), "Host unreachable"),
        ("socks5", b"\x05\x63\x00\x01" + bytes(6), "Invalid reply code"),
        ("socks5", b"", "closed unexpectedly"),
        ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "version"),
        ("socks4", b"\x00\x5b" + bytes(6), "rejected or failed"),
        ("socks4", b"\x00\x63" + bytes(6), "Invalid reply code"),
        ("socks4", b"", "closed unexpectedly"),
    ],
)  # fmt: skip
def test_a_refusal_of_the_proxy_is_told_as_the_proxys(scheme, answer, reason, run_on_both):
    """It is not mistaken for the server's, and its words are not trusted with more than a number."""

    async def test():
        async with ProxyServer(scheme, refusal=answer) as proxy:
            error = await fail_through(proxy)
            assert error.proxy == proxy.url()
            assert reason in error.reason
            await until(lambda: proxy.live == 0)

    run_on_both(test)


@pytest.mark.parametrize(("scheme", "reason"), [("http", "HTTP 502"), ("socks5", "refused by destination"), ("socks4", "failed")])
def test_a_server_that_the_proxy_cannot_reach_is_told_by_the_proxy(scheme, reason, run_on_both):
    """Only the proxy knows why."""

    async def test():
        with socket.create_server(("127.0.0.1", 0)) as unused:
            closed_port = unused.getsockname()[1]
        async with ProxyServer(scheme) as proxy:
            error = await fail_through(proxy, target=f"ws://phoenix.example:{closed_port}/socket")
        assert reason in error.reason

    run_on_both(test)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_proxy_that_cannot_be_reached_is_proxy_failed(scheme, run_on_both):
    """The message names the proxy and not the server."""

    async def test():
        proxy = ProxyServer(scheme)
        with socket.create_server(("127.0.0.1", 0)) as unused:
            proxy.port = unused.getsockname()[1]
        error = await fail_through(proxy)
        assert "connection refused" in str(error)
        assert "phoenix.example" not in str(error)

    run_on_both(test)


def test_a_proxy_whose_name_is_unknown_is_proxy_failed(monkeypatch, run_on_both):
    """The resolver's words are passed on."""

    async def test():
        async def fail(host, port):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr("rig.transport.tunnel.connect_tcp", fail)
        with pytest.raises(ProxyFailed, match=r"http://nowhere\.example:1 .*name or service not known"):
            await dial(Endpoint("ws://phoenix.example/socket", proxy="http://nowhere.example:1"), Owner())

    run_on_both(test)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_connection_that_breaks_in_the_proxys_handshake_is_proxy_failed(scheme, run_on_both):
    """Even where the kernel calls it a time-out."""

    async def test():
        async def behaviour(peer):
            await peer.reader.read(1)
            peer.reset()

        async with RawServer(behaviour) as server:
            proxy = ProxyServer(scheme)
            proxy.port = server.port
            error = await fail_through(proxy)
        assert "reset" in error.reason

    run_on_both(test)


def test_a_time_out_of_the_kernel_at_the_proxy_is_not_taken_for_ours(monkeypatch, run_on_both):
    """It came earlier than `--connect-timeout`."""

    async def test():
        async def fail(host, port):
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

        monkeypatch.setattr("rig.transport.tunnel.connect_tcp", fail)
        with pytest.raises(ProxyFailed, match="timed out"):
            await dial(Endpoint("ws://phoenix.example/socket", proxy="http://127.0.0.1:1"), Owner())

    run_on_both(test)


@pytest.mark.parametrize("target", ["ws", "wss"])
def test_what_fails_behind_the_proxy_is_told_as_the_servers(target, run_on_both):
    """Once the proxy has agreed, it is not to blame."""

    async def test():
        async def behaviour(peer):
            await peer.reader.read(1000)

        async with RawServer(behaviour) as server, ProxyServer("http") as proxy:
            expected = NotWebSocket if target == "ws" else TlsFailed
            await fail_through(proxy, target=f"{target}://phoenix.example:{server.port}/socket", expected=expected)
            await until(lambda: proxy.live == 0)

    run_on_both(test)


@pytest.mark.parametrize("target", ["ws", "wss"])
@pytest.mark.parametrize("how", ["timeout", "cancel"])
@pytest.mark.parametrize("silent", ["the proxy", "the server"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_stays_open_after_a_time_out_or_a_cancellation(scheme, silent, how, target, run_on_both):
    """Whoever does not answer, the proxy sees the end at once and no descriptor is left."""

    async def test():
        async def behaviour(peer):
            asked.set()
            await peer.read_to_end()

        asked, owner = asyncio.Event(), Owner()
        async with RawServer(behaviour) as server, ProxyServer(scheme, silent=silent == "the proxy") as proxy:
            before = psutil.Process().num_fds()
            endpoint = Endpoint(f"{target}://phoenix.example:{server.port}/socket", proxy=proxy.url())
            endpoint.ssl_context()  # to make it takes a good part of the time limit
            dialling = asyncio.ensure_future(dial(endpoint, owner, connect_timeout=0.1 if how == "timeout" else 60))
            await reached(proxy.connected if silent == "the proxy" else asked, dialling)
            if how == "cancel":
                await asyncio.sleep(0.01)
                dialling.cancel()
            with pytest.raises(ConnectTimeout if how == "timeout" else asyncio.CancelledError):
                await dialling
            await until(lambda: proxy.live == 0)
            await until(lambda: psutil.Process().num_fds() <= before)
        assert owner.heard == []

    run_on_both(test)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_log_shows_a_password(scheme, caplog, run_on_both):
    """Neither ours nor that of a library, however talkative."""
    caplog.set_level(logging.DEBUG)

    async def test():
        async with RawServer(greet) as server, ProxyServer(scheme) as proxy:
            userinfo = "hush:hush@" if scheme != "socks4" else "hush@"
            url = f"ws://hush:hush@phoenix.example:{server.port}/socket"
            await reach(Endpoint(url, {"token": "hush"}, proxy=proxy.url(userinfo), insecure=True))
        async with ProxyServer(scheme, refusal=b"\x00\x5b" + bytes(6)) as proxy:
            await fail_through(proxy, userinfo=userinfo)

    run_on_both(test)
    assert "hush" not in caplog.text
