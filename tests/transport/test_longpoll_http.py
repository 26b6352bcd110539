"""How a long-poll session is opened, and in which words it is told that it was not."""

import asyncio
import socket
import traceback

import pytest

from rig.errors import (
    AuthenticationRefused,
    ConfigError,
    ConnectFailed,
    ConnectTimeout,
    HandshakeRefused,
    NotLongPoll,
    ProxyFailed,
    TlsFailed,
)
from rig.transport import Endpoint
from rig.transport.longpoll import dial_longpoll
from tests.running import run
from tests.transport.longpoll_server import PollServer, breaks, hangs, leads_away
from tests.transport.raw_server import Owner, RawServer

SECRET = "s3cr3t"


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
            with pytest.raises(ConnectFailed, match=f"cannot reach 127.0.0.1:{port} .*refused"):
                await dial_longpoll(Endpoint(f"http://127.0.0.1:{port}/socket"), Owner())

    run(test)


def test_an_unknown_host_is_told_so():
    """A name that does not exist."""

    async def test():
        with pytest.raises(ConnectFailed, match=r"cannot reach nowhere\.invalid:80"):
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


# Through a proxy.


class Proxied:
    """An endpoint behind a proxy."""

    def __init__(self, endpoint, proxy):
        self._endpoint, self._proxy = endpoint, proxy

    def proxy_url(self):
        return self._proxy

    def __getattr__(self, name):
        return getattr(self._endpoint, name)


def tunnels(seen):
    """Make a proxy that connects whoever asks for it."""

    async def behaviour(peer):
        request = await peer.read_request()
        seen.append((request.split("\r\n")[0], peer.header("Proxy-Authorization")))
        host, _, port = request.split(" ")[1].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pipe(source, target):
            while data := await source.read(65536):
                target.write(data)
            target.close()

        await asyncio.gather(pipe(peer.reader, writer), pipe(reader, peer.writer))

    return behaviour


def test_every_connection_goes_through_the_proxy():
    """Polls and POSTs alike, the server's name and all."""

    async def test():
        seen = []
        async with PollServer() as server, RawServer(tunnels(seen)) as proxy:
            owner = Owner()
            endpoint = Proxied(server.endpoint(), f"http://user:{SECRET}@127.0.0.1:{proxy.port}")
            transport = await dial_longpoll(endpoint, owner)
            transport.send([b"[1]"])
            server.says("[2]")
            await owner.wait_until(lambda: owner.texts)
            await server.wait_until(lambda: server.posted)
            transport.close()
            await owner.wait_closed()
            assert {line for line, _ in seen} == {f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"}
            assert all(authorization.startswith("Basic ") for _, authorization in seen)

    run(test)


def test_through_a_proxy_the_certificate_must_be_trusted_too(certificates):
    """The proxy is not who we talk to."""

    async def test():
        async with PollServer(certificates.server_context()) as server, RawServer(tunnels([])) as proxy:
            with pytest.raises(TlsFailed, match="TLS with localhost failed"):
                await dial_longpoll(Proxied(server.endpoint(), f"http://127.0.0.1:{proxy.port}"), Owner())

    run(test)


def test_a_proxy_that_refuses_is_named_without_its_password():
    """Whoever reads the error can tell which of the two machines to look at."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            peer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await peer.read_to_end()

        async with PollServer() as server, RawServer(behaviour) as proxy:
            endpoint = Proxied(server.endpoint(), f"http://user:{SECRET}@127.0.0.1:{proxy.port}")
            with pytest.raises(
                ProxyFailed, match=f"the proxy http://127.0.0.1:{proxy.port} did not let us through .*407"
            ) as caught:
                await dial_longpoll(endpoint, Owner())
            assert SECRET not in "".join(traceback.format_exception(caught.value))

    run(test)
