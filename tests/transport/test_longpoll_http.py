"""How a long-poll session is opened, and in which words it is told that it was not."""

import asyncio
import contextlib
import shutil
import socket
import traceback

import pytest

from rig.errors import (
    AuthenticationRefused,
    ConfigError,
    ConnectRefused,
    ConnectTimeout,
    HandshakeRefused,
    HostNotFound,
    NotLongPoll,
    PinMismatch,
    ProxyFailed,
    TlsFailed,
)
from rig.transport import Endpoint
from rig.transport.longpoll import dial_longpoll
from tests.running import run
from tests.transport.longpoll_server import PollServer, breaks, hangs, leads_away
from tests.transport.proxy_server import ProxyServer
from tests.transport.raw_server import Owner, RawServer

SECRET = "s3cr3t"
SCHEMES = ["http", "socks5", "socks4"]


async def refused(server, **settings):
    """Try to open a session, and return the error, which must not know the secret."""
    owner = Owner()
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await dial_longpoll(server.endpoint(params={"token": SECRET}), owner, **settings)
    assert owner.heard == []
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return caught.value


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (401, AuthenticationRefused, "answered HTTP 401: check the token"),
        (403, AuthenticationRefused, "answered HTTP 403: check the token"),
        ({"status": 403}, AuthenticationRefused, "answered HTTP 403: check the token"),
        (404, HandshakeRefused, "answered HTTP 404: check the path"),
        (leads_away, HandshakeRefused, "answered HTTP 307"),
        (500, HandshakeRefused, "answered HTTP 500: the server failed"),
        ({"status": 500}, HandshakeRefused, "answered HTTP 500: the server failed"),
        ({"status": 204, "token": "t"}, NotLongPoll, "it opened no session, but said 204"),
        ({"status": 410}, NotLongPoll, "its answer has no token"),
        (b"<html>", NotLongPoll, "its answer is not what Phoenix says"),
        (b'{"status":410,"token":"\xff"}', NotLongPoll, "its answer is not what Phoenix says"),
        ({"status": 410, "token": "t\r\nX-Evil: 1"}, NotLongPoll, "its answer is not what Phoenix says"),
        (breaks, NotLongPoll, "the connection was closed without an answer"),
    ],
)
def test_an_opening_that_is_refused_says_what_to_do(answer, kind, says):
    """The same errors as with a WebSocket, with the URL that was asked."""

    async def test():
        async with PollServer() as server:
            server.opening.append(answer)
            error = await refused(server)
            assert type(error) is kind
            assert f"http://127.0.0.1:{server.port}/socket/longpoll?token=***&vsn=2.0.0" in str(error)
            assert says in str(error)
            assert len(server.asked) == 1

    run(test)


def test_a_busy_server_says_when_to_come_back():
    """Retry-After is kept for whoever decides on the next attempt."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            peer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n")
            await peer.read_to_end()

        async with RawServer(behaviour) as server:
            error = await refused(server)
            assert (error.status, error.retry_after) == (503, 17.0)

    run(test)


def test_what_is_not_http_is_told_so():
    """Another protocol on that port is not a mystery."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            peer.write(b"220 smtp.example ESMTP\r\n")
            await peer.read_to_end()

        async with RawServer(behaviour) as server:
            error = await refused(server)
            assert isinstance(error, NotLongPoll)
            assert "the answer is not HTTP" in str(error)

    run(test)


def test_a_server_that_does_not_answer_is_given_up():
    """Within the connect time-out, and with nothing left behind."""

    async def test():
        async with PollServer() as server:
            server.opening.append(hangs)
            error = await refused(server, connect_timeout=0.1)
            assert isinstance(error, ConnectTimeout)
            assert "within 0.1 s" in str(error)

    run(test)


def test_an_opening_that_is_cancelled_leaves_nothing():
    """Whoever stops dialling needs to clean up nothing."""

    async def test():
        async with PollServer() as server:
            server.opening.append(hangs)
            dialling = asyncio.create_task(dial_longpoll(server.endpoint(), Owner()))
            await server.wait_until(lambda: server.asked)
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling

    run(test)


def test_a_closed_port_is_told_so():
    """With host and port, as with a WebSocket."""

    async def test():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with pytest.raises(ConnectRefused, match=f"cannot reach 127.0.0.1:{port} .*refused"):
                await dial_longpoll(Endpoint(f"http://127.0.0.1:{port}/socket"), Owner())

    run(test)


def test_an_unknown_host_is_told_so():
    """A name that does not exist."""

    async def test():
        with pytest.raises(HostNotFound, match=r"cannot reach nowhere\.invalid:80"):
            await dial_longpoll(Endpoint("http://nowhere.invalid/socket"), Owner())

    run(test)


@pytest.mark.parametrize("trusted", [True, False])
def test_over_tls_the_certificate_must_be_trusted(certificates, trusted):
    """The settings of the endpoint count for long-poll, too."""

    async def test():
        async with PollServer(certificates.server_context()) as server:
            server.says("[1]")
            server.says(status=410)
            owner = Owner()
            dialling = dial_longpoll(server.endpoint(ca_file=certificates.ca_pem if trusted else None), owner)
            if not trusted:
                with pytest.raises(TlsFailed, match="TLS with localhost failed"):
                    await dialling
                return
            await dialling
            await owner.wait_closed()
            assert owner.texts == [b"[1]"]

    run(test)


def test_tls_with_a_port_that_speaks_none_is_told_so():
    """The likeliest mistake in a URL."""

    async def test():
        async with PollServer() as server:
            with pytest.raises(TlsFailed, match="the port does not speak TLS"):
                await dial_longpoll(Endpoint(f"wss://localhost:{server.port}/socket"), Owner())

    run(test)


def test_a_token_that_no_header_can_carry_is_refused_before_anything_is_sent():
    """A line break in a token cannot become a header of its own, and is not shown."""

    async def test():
        async with PollServer() as server:
            with pytest.raises(ConfigError, match="control character") as caught:
                await dial_longpoll(server.endpoint(auth_token=f"{SECRET}\r\nX-Admin: 1"), Owner())
            assert SECRET not in str(caught.value)
            assert not server.asked

    run(test)


def test_cookies_are_kept_for_the_session():
    """A load balancer that sends a client to one server by a cookie gets it back."""

    async def test():
        async def behaviour(peer):
            for answer in (b'{"status":410,"token":"t"}', b'{"status":410}'):
                await peer.read_request()
                peer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: node=7\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
            assert peer.header("Cookie") == "node=7"
            await peer.read_to_end()

        async with RawServer(behaviour) as server:
            owner = Owner()
            await dial_longpoll(Endpoint(f"http://localhost:{server.port}/socket"), owner)
            assert (await owner.wait_closed()).code == 3410

    run(test)


@pytest.mark.parametrize("token", ["a\\r\\nX-Admin: 1", "a b", "\u00e9", "x" * 5000])
def test_a_session_token_that_cannot_be_sent_back_is_no_answer_of_phoenix(token, caplog):
    """A server cannot make us write headers of its own, or requests without an end; and it is not told as a fault of ours."""

    async def test():
        async with PollServer() as server:
            server.opening.append(f'{{"status":410,"token":"{token}"}}'.encode())
            error = await refused(server)
            assert isinstance(error, NotLongPoll)
            assert len(server.asked) == 1
            server.polls.put_nowait(f'{{"status":200,"token":"{token}","messages":[]}}'.encode())
            owner = Owner()
            await dial_longpoll(server.endpoint(), owner)
            assert (await owner.wait_closed()).code == 1007

    run(test)
    assert "Traceback" not in caplog.text


def drips(head):
    """Make a server that begins to answer and sends a byte now and then, for ever."""

    async def behaviour(peer):
        await peer.read_request()
        peer.write(head)
        with contextlib.suppress(ConnectionError):
            while not peer.writer.is_closing():
                peer.write(b"a")
                await peer.writer.drain()
                await asyncio.sleep(0.005)

    return behaviour


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
def test_an_answer_that_drips_is_given_up(head):
    """A byte now and then does not keep an attempt alive, neither in the headers nor in the body."""

    async def test():
        async with RawServer(drips(head)) as server:
            assert isinstance(await refused(server, connect_timeout=0.1), ConnectTimeout)

    run(test)


def test_a_poll_that_drips_ends_the_session():
    """Within the time that an answer may take."""

    async def test():
        drip = drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")

        async def behaviour(peer):
            await peer.read_request()
            peer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\n{"status":410,"token":"abc"}')
            await drip(peer)

        async with RawServer(behaviour) as server:
            owner = Owner()
            await dial_longpoll(server.endpoint(), owner, answer_timeout=0.1)
            closed = await owner.wait_closed()
            assert (closed.code, closed.reason) == (1006, "no answer to a poll within 0.1 s")

    run(test)


def test_cookies_without_end_are_forgotten():
    """A server that sends new ones with each answer does not fill our memory, or our requests."""

    async def test():
        counts = []

        async def behaviour(peer):
            for number in range(40):
                await peer.read_request()
                counts.append((peer.header("Cookie") or "").count("="))
                body = b'{"status":410,"token":"t"}' if number == 0 else b'{"status":200,"messages":["[1]"]}'
                cookies = b"".join(b"Set-Cookie: n%d-%d=x\r\n" % (number, cookie) for cookie in range(10))
                peer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (cookies, len(body), body))

        async with RawServer(behaviour) as server:
            owner = Owner()
            await dial_longpoll(Endpoint(f"http://localhost:{server.port}/socket"), owner)
            await owner.wait_closed()
        assert len(counts) == 40
        assert max(counts) <= 70

    run(test)


# Through a proxy.


@pytest.mark.parametrize("gap", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_over_tls_every_connection_goes_through_the_proxy(scheme, gap, certificates, run_on_both):
    """Polls and POSTs alike; the proxy finds the name, and the certificate is the server's, not the proxy's."""
    certificates.issue("behind", "DNS:phoenix.example")

    async def test():
        credentials = ("us@er", "p:ass" if scheme != "socks4" else "")
        userinfo = "us%40er:p%3Aass@" if scheme != "socks4" else "us%40er@"
        async with (
            PollServer(certificates.server_context("behind")) as server,
            ProxyServer(scheme, credentials=credentials, gap=gap) as proxy,
        ):
            url = f"wss://phoenix.example:{server.port}/socket"
            await talk(server, Endpoint(url, {"token": SECRET}, proxy=proxy.url(userinfo), ca_file=certificates.ca_pem))
            assert set(proxy.asked) == {("phoenix.example", server.port)}
            assert set(proxy.methods) <= {"CONNECT"}

    run_on_both(test)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_tls_every_request_goes_through_the_proxy(scheme, run_on_both):
    """An HTTP proxy is asked for the URL itself, since many make tunnels to port 443 only; it does not pass its password on."""

    async def test():
        credentials = ("user", "pass" if scheme != "socks4" else "")
        async with PollServer() as server, ProxyServer(scheme, credentials=credentials) as proxy:
            userinfo = f"{':'.join(credentials)}@".replace(":@", "@")
            url = f"ws://phoenix.example:{server.port}/socket"
            await talk(server, Endpoint(url, proxy=proxy.url(userinfo)))
            assert set(proxy.asked) == {("phoenix.example", server.port)}
            assert "CONNECT" not in proxy.methods
            assert {asked.headers["Host"] for asked in server.asked} == {f"phoenix.example:{server.port}"}

    run_on_both(test)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_through_a_proxy_the_certificate_must_be_trusted_too(scheme, certificates, run_on_both):
    """The proxy is not who we talk to, and could be anybody."""

    async def test():
        async with PollServer(certificates.server_context()) as server, ProxyServer(scheme) as proxy:
            with pytest.raises(TlsFailed, match="TLS with localhost failed"):
                await dial_longpoll(server.endpoint(proxy=proxy.url()), Owner())
            assert proxy.asked
            assert not server.asked

    run_on_both(test)


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_a_certificate_that_is_not_the_pinned_one_is_told_so(scheme, certificates, run_on_both):
    """With the pin that would fit, and before anything was sent, whatever leads to the server."""

    async def test():
        async with PollServer(certificates.server_context()) as server, ProxyServer(scheme or "http") as proxy:
            settings = {"ca_file": certificates.ca_pem, "proxy": proxy.url() if scheme else None}
            with pytest.raises(PinMismatch, match=certificates.pin_of_key().replace("+", r"\+")):
                await dial_longpoll(server.endpoint(pins=[certificates.pin_of_key("client")], **settings), Owner())
            assert not server.asked
            await talk(server, server.endpoint(pins=[certificates.pin_of_key()], **settings))

    run_on_both(test)


def test_certificates_that_were_renewed_count_from_the_next_session_on(certificates, tmp_path):
    """Nobody has to restart a worker because the authority in a file was replaced."""
    trusted = tmp_path / "ca.pem"
    shutil.copy(certificates.issue_authority("former"), trusted)

    async def test():
        async with PollServer(certificates.server_context()) as server:
            endpoint = server.endpoint(ca_file=str(trusted))
            with pytest.raises(TlsFailed):
                await dial_longpoll(endpoint, Owner())
            shutil.copy(certificates.ca_pem, tmp_path / "new.pem")
            (tmp_path / "new.pem").replace(trusted)
            await talk(server, endpoint)

    run(test)


@pytest.mark.parametrize(
    ("scheme", "target", "userinfo", "reason"),
    [
        ("http", "wss", "", "HTTP 407: it asks for user and password"),
        ("http", "wss", f"user:{SECRET}@", "HTTP 407: it does not accept this user and password"),
        ("http", "ws", "", "HTTP 407: it asks for user and password"),
        ("http", "ws", f"{SECRET}:{SECRET}@", "HTTP 407: it does not accept this user and password"),
        ("socks5", "wss", f"{SECRET}:{SECRET}@", "(?i)username and password"),
        ("socks4", "ws", f"{SECRET}@", "user-id"),
    ],
)
def test_a_proxy_that_refuses_is_named_without_user_and_password(scheme, target, userinfo, reason, run_on_both):
    """Whoever reads the error can tell which of the two machines to look at."""

    async def test():
        async with ProxyServer(scheme, credentials=("right", "right")) as proxy:
            endpoint = Endpoint(
                f"{target}://phoenix.example:4000/socket", {"token": SECRET}, proxy=proxy.url(userinfo), insecure=True
            )
            with pytest.raises(ProxyFailed, match=reason) as caught:
                await dial_longpoll(endpoint, Owner())
            assert caught.value.proxy == f"{scheme}://{'***@' if userinfo else ''}127.0.0.1:{proxy.port}"
            assert SECRET not in "".join(traceback.format_exception(caught.value))
            assert SECRET not in repr(caught.value.__cause__)

    run_on_both(test)


@pytest.mark.parametrize("target", ["ws", "wss"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_proxy_that_cannot_be_reached_is_told_so(scheme, target, run_on_both):
    """It is not mistaken for the server, and its password is in no part of the error."""

    async def test():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            proxy = f"{scheme}://user:{SECRET}@127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(ProxyFailed, match=r"\*\*\*@127\.0\.0\.1:.*(?i:refused|connect)") as caught:
                await dial_longpoll(Endpoint(f"{target}://phoenix.example/socket", proxy=proxy), Owner())
            assert SECRET not in "".join(traceback.format_exception(caught.value))
            assert SECRET not in repr(caught.value.__cause__)

    run_on_both(test)


async def talk(server, endpoint):
    """Have a session: one frame each way, and its end."""
    owner = Owner()
    transport = await dial_longpoll(endpoint, owner)
    transport.send([b"[1]"])
    server.says("[2]")
    await owner.wait_until(lambda: owner.texts == [b"[2]"])
    await server.wait_until(lambda: server.frames[-1:] == [b"[1]"])
    transport.close()
    await owner.wait_closed()
