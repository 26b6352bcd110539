"""Everything that can go wrong before a WebSocket is open, and that nothing is left behind when it does."""

import asyncio
import contextlib
import errno
import socket
from datetime import UTC, datetime

import psutil
import pytest
import structlog

from rig.errors import (
    AuthenticationRefused,
    ConfigError,
    ConnectFailed,
    ConnectRefused,
    ConnectTimeout,
    HandshakeRefused,
    HostNotFound,
    NotWebSocket,
    TlsFailed,
)
from rig.transport import Endpoint, dial
from rig.transport.handshake import connect_failed, parse_retry_after
from tests.running import run, until
from tests.transport.raw_server import Owner, Peer, RawServer, close, reached, text
from tests.transport.tls_server import serving


def answers(answer: bytes):
    """Make a server that gives this answer to the upgrade request and hangs up."""

    async def behaviour(peer: Peer) -> None:
        await peer.read_request()
        peer.write(answer)

    return behaviour


async def fail_to_dial(expected, behaviour, **settings):
    """Dial a server with this behaviour, and return the error that comes of it."""
    owner = Owner()
    async with RawServer(behaviour) as server:
        with pytest.raises(expected) as failed:
            await dial(server.endpoint(params={"token": "hush"}), owner, **settings)
    assert owner.heard == []
    assert "hush" not in str(failed.value)
    assert failed.type is expected
    return failed.value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return unused.getsockname()[1]


def test_a_closed_port_is_connect_failed():
    """The message names host and port and says what to check."""

    async def test():
        port = free_port()
        with pytest.raises(ConnectRefused, match=rf"cannot reach localhost:{port} \(connection refused\): check"):
            await dial(Endpoint(f"ws://localhost:{port}/socket"), Owner())

    run(test)


def test_an_unknown_host_is_connect_failed():
    """The resolver's words are passed on."""
    error = connect_failed(Endpoint("ws://nowhere.example/socket"), socket.gaierror(socket.EAI_NONAME, "Name or service not known"))

    assert type(error) is HostNotFound
    assert str(error).startswith("cannot reach nowhere.example:80 (name or service not known)")


def test_a_failure_of_the_resolver_is_connect_failed(monkeypatch):
    """What goes wrong before there is a socket is told as that."""

    async def test():
        async def fail(host, port):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr("rig.transport.upgrade.connect_tcp", fail)
        with pytest.raises(HostNotFound, match="name or service not known"):
            await dial(Endpoint("ws://nowhere.example/socket"), Owner())

    run(test)


def test_what_is_neither_the_name_nor_the_port_is_connect_failed():
    """A host that cannot be reached is told apart from one that does not exist, and from one that refuses."""
    error = connect_failed(Endpoint("ws://h/socket"), OSError(errno.EHOSTUNREACH, "No route to host"))

    assert type(error) is ConnectFailed
    assert str(error).startswith("cannot reach h:80 (no route to host)")


@pytest.mark.parametrize("status", [401, 403])
def test_401_and_403_are_authentication_refused(status):
    """Whoever asks can fetch a fresh token."""

    async def test():
        error = await fail_to_dial(AuthenticationRefused, answers(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status))
        assert error.status == status

    run(test)


@pytest.mark.parametrize(
    ("answer", "status", "retry_after"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 404, None),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nbody", 500, None),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: 17\r\n\r\n", 429, 17.0),
        (b"HTTP/1.1 503 Busy\r\nX: y\r\nretry-after:  5  \r\n\r\n", 503, 5.0),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n", 503, 0.0),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: soon\r\n\r\n", 503, None),
        (b"HTTP/1.1 302 Found\r\n\r\n", 302, None),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, None),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", 503, None),
        (b"HTTP/1.1 520 \r\n\r\n", 520, None),
        (b"HTTP/1.1 429\r\nRetry-After: 3\r\n\r\n", 429, 3.0),
    ],
)  # fmt: skip
def test_any_other_status_is_handshake_refused(answer, status, retry_after):
    """Redirects are not followed, odd statuses and old versions are understood, Retry-After is read."""

    async def test():
        error = await fail_to_dial(HandshakeRefused, answers(answer))
        assert (error.status, error.retry_after) == (status, retry_after)

    run(test)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0), ("120", 120.0), ("-5", None), ("1.5", None), ("", None), ("never", None), ("\N{SUPERSCRIPT TWO}", None),
        ("9" * 400, 3600.0), ("3601", 3600.0), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0), ("Mon, 02 Mar " + "9" * 30, None),
        ("Mon, 02 Mar 99999999999999999999 12:01:40 GMT", None), ("Mon, 02 Mar 2026 12:01:40 +9999", None),
        ("Mon, 02 Mar 2026 12:01:40 GMT", 100.0), ("Mon, 02 Mar 2026 11:00:00 GMT", 0.0), ("Mon, 02 Mar 2026 12:00:10 -0000", 10.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value, seconds):
    """Both forms are read, nonsense is no answer, and no server sends a client away for more than an hour."""
    assert parse_retry_after(value, now=datetime(2026, 3, 2, 12, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 101 Swit",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"HTTP/1.1 101 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_handshake_is_not_websocket(answer):
    """A server that hangs up or speaks something else is told apart from one that refuses."""

    async def test():
        await fail_to_dial(NotWebSocket, answers(answer))

    run(test)


@pytest.mark.parametrize("wrong", ["Sec-WebSocket-Accept", "Upgrade", "Connection"])
def test_a_wrong_header_in_the_answer_is_not_websocket(wrong):
    """The message names the header."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": peer.accept().decode()} | {
                wrong: "wrong"
            }
            peer.write(
                b"HTTP/1.1 101 Switching Protocols\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode() + b"\r\n"
            )

        error = await fail_to_dial(NotWebSocket, behaviour)
        assert wrong in str(error)

    run(test)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(b"HTTP/1.1 101 OK\r\nX: ", NotWebSocket), (b"HTTP/1.1 200 OK\r\n", HandshakeRefused), (b"", NotWebSocket)],
)
def test_an_answer_that_does_not_end_is_not_read_on(answer, expected):
    """A server cannot fill our memory before there is a connection: it is hung up on long before the connect time-out."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            peer.write(answer)
            with contextlib.suppress(ConnectionError):
                while len(sent) < 100_000:
                    sent.append(peer.write(b"x" * 10_000))
                    await peer.writer.drain()

        sent = []
        await fail_to_dial(expected, behaviour, connect_timeout=60)
        assert len(sent) < 10_000

    run(test)


def test_an_answer_that_drips_is_given_up():
    """A byte now and then does not keep an attempt alive."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            with contextlib.suppress(ConnectionError):
                while not peer.writer.is_closing():
                    peer.write(b"H")
                    await peer.writer.drain()
                    await asyncio.sleep(0.005)

        await fail_to_dial(ConnectTimeout, behaviour, connect_timeout=0.1)

    run(test)


def test_a_refusal_with_a_long_page_is_told_as_what_it_is():
    """Only the headers of an answer are counted."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            peer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000)

        assert (await fail_to_dial(HandshakeRefused, behaviour)).retry_after == 7.0

    run(test)


def chooses(header: bytes):
    """Make a server that opens a WebSocket with this header in its answer."""

    async def behaviour(peer: Peer) -> None:
        await peer.upgrade(close(1000), header=header)
        await peer.read_to_end()

    return behaviour


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({}, b"Sec-WebSocket-Protocol: phoenix\r\n"),
        ({}, b"Sec-WebSocket-Protocol: \r\n"),
        ({"auth_token": "hush"}, b"sec-websocket-protocol: mqtt\r\n"),
        ({"auth_token": "hush"}, b"Sec-WebSocket-Protocol: Phoenix\r\n"),
        ({"auth_token": "hush"}, b"Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.aHVzaA\r\n"),
        ({"headers": [("Sec-WebSocket-Protocol", "a, b")]}, b"Sec-WebSocket-Protocol: c\r\n"),
        ({}, b"Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    ],
)
def test_what_was_not_offered_cannot_be_chosen(settings, header):
    """Whoever speaks another subprotocol, or compresses, would be misunderstood."""

    async def test():
        owner = Owner()
        async with RawServer(chooses(header)) as server:
            with pytest.raises(NotWebSocket, match="that was not offered") as failed:
                await dial(server.endpoint(**settings), owner)
        assert "aHVzaA" not in str(failed.value)
        assert owner.heard == []

    run(test)


@pytest.mark.parametrize(
    ("settings", "header", "lines"),
    [
        ({"auth_token": "hush"}, b"", 1),
        ({"auth_token": "hush"}, b"Sec-WebSocket-Protocol: phoenix\r\n", 0),
        ({}, b"", 0),
        ({"headers": [("Sec-WebSocket-Protocol", "a, b")]}, b"Sec-WebSocket-Protocol: b\r\n", 0),
    ],
)
def test_a_server_that_reads_no_token_is_let_pass_and_told_of_once(settings, header, lines):
    """Phoenix before 1.8 lets us in without a look at the token, and an operator should know: from one line, not from many."""

    async def test():
        async with RawServer(chooses(header)) as server:
            with structlog.testing.capture_logs() as logs:
                for _ in range(3):
                    owner = Owner()
                    await dial(server.endpoint(**settings), owner)
                    assert (await owner.wait_closed()).code == 1000
            about = {"server": f"127.0.0.1:{server.port}", "log_level": "info"}
        told = "the server does not read auth tokens from the subprotocol (Phoenix before 1.8?)"
        assert logs == [{"event": told, **about}] * lines

    run(test)


def test_a_reset_during_the_handshake_is_not_websocket():
    """picows reports it as success; we do not."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            peer.reset()

        await fail_to_dial(NotWebSocket, behaviour)

    run(test)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_silent_server_is_hung_up_on_at_once(scheme, how):
    """After a time-out or a cancellation no socket stays open behind the caller's back, in the handshake of TLS or of HTTP."""

    async def test():
        async def behaviour(peer):
            started.set()
            await peer.read_to_end()
            hung_up.set()

        started, hung_up, owner = asyncio.Event(), asyncio.Event(), Owner()
        before = psutil.Process().num_fds()
        async with RawServer(behaviour) as server:
            listening = psutil.Process().num_fds()
            endpoint = Endpoint(f"{scheme}://127.0.0.1:{server.port}/socket")
            endpoint.ssl_context()  # to make it takes a good part of the time limit
            dialling = asyncio.ensure_future(dial(endpoint, owner, connect_timeout=0.1 if how == "timeout" else 60))
            await reached(started, dialling)
            if how == "cancel":
                await asyncio.sleep(0.01)
                dialling.cancel()
            with pytest.raises(ConnectTimeout if how == "timeout" else asyncio.CancelledError):
                await dialling
            await until(lambda: hung_up.is_set() or not started.is_set())
            await until(lambda: psutil.Process().num_fds() <= listening)
        assert owner.heard == []
        assert psutil.Process().num_fds() <= before + 1

    run(test)


def test_a_timeout_says_how_long_and_where():
    """The message names the URL without its secrets, and the option to raise."""

    async def test():
        async def behaviour(peer):
            await peer.read_to_end()

        error = await fail_to_dial(ConnectTimeout, behaviour, connect_timeout=0.05)
        assert "token=*** " not in str(error)
        assert "token=***&vsn=2.0.0 within 0.05 s" in str(error)

    run(test)


def test_a_cancellation_while_the_answer_arrives_leaves_nothing_behind(run_on_both):
    """Whichever came first: the server sees the end, the owner hears nothing, and the next connection is not disturbed."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(text(b"hello"))
            dialling.cancel()
            await peer.read_to_end()
            hung_up.set()

        async def behaves(peer):
            await peer.upgrade(close(1000))
            await peer.read_to_end()

        hung_up, owner = asyncio.Event(), Owner()
        async with RawServer(behaviour) as server, RawServer(behaves) as other:
            dialling = asyncio.ensure_future(dial(server.endpoint(), owner))
            with pytest.raises(asyncio.CancelledError):
                await dialling
            await dial(other.endpoint(), next_owner := Owner())  # with the descriptor that has become free
            await next_owner.wait_closed()
            await asyncio.wait_for(hung_up.wait(), 1)
        assert owner.heard == []

    run_on_both(test)


def test_tls_works_with_the_authority_named(certificates):
    """Frames of every size pass in both directions, and the connection ends in order."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(text(b"hello"))
            assert (await peer.receive()).payload == b"x" * 100_000
            peer.write(text(*[b"%d" % i for i in range(5000)]) + text(b"y" * 300_000) + close(1001, b"bye"))
            await peer.read_to_end()

        owner = Owner()
        async with RawServer(behaviour, certificates.server_context()) as server:
            transport = await dial(server.endpoint(ca_file=certificates.ca_pem), owner, close_timeout=60)
            transport.send([b"x" * 100_000])
            closed = await owner.wait_closed()
        assert owner.texts == [b"hello", *[b"%d" % i for i in range(5000)], b"y" * 300_000]
        assert (closed.code, closed.reason) == (1001, "bye")

    run(test)


def test_reading_can_be_paused_under_tls(certificates):
    """The owner's word counts there as well."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(text(b"start"))
            await paused.wait()
            peer.write(text(b"x" * 100) * 100 + close(1000))
            await peer.writer.drain()
            written.set()
            await peer.read_to_end()

        paused, written, owner = asyncio.Event(), asyncio.Event(), Owner()
        async with RawServer(behaviour, certificates.server_context()) as server:
            transport = await dial(server.endpoint(ca_file=certificates.ca_pem), owner, close_timeout=60)
            await owner.wait_until(lambda: owner.texts)
            transport.pause_reading()
            paused.set()
            await written.wait()
            await asyncio.sleep(0.02)
            assert owner.texts == [b"start"]
            transport.resume_reading()
            await owner.wait_closed()
        assert len(owner.texts) == 101

    run(test)


async def fail_to_dial_tls(expected, context, url, **settings):
    async def ignore_failed_handshakes(reader, writer):
        writer.close()

    async with serving(ignore_failed_handshakes, context) as port:
        with pytest.raises(expected) as failed:
            await dial(Endpoint(url.format(port=port), **settings), Owner())
    return str(failed.value)


def test_an_unknown_authority_is_tls_failed(certificates):
    """The message says what to do about it."""

    async def test():
        message = await fail_to_dial_tls(TlsFailed, certificates.server_context(), "wss://localhost:{port}/socket")
        assert "TLS with localhost failed" in message
        assert "--ca" in message

    run(test)


def test_a_certificate_for_another_name_is_tls_failed(certificates):
    """The name in the URL must be in the certificate."""

    async def test():
        message = await fail_to_dial_tls(
            TlsFailed, certificates.server_context(), "wss://127.0.0.1:{port}/socket", ca_file=certificates.ca_pem
        )
        assert "IP address mismatch" in message

    run(test)


def test_insecure_accepts_an_unknown_certificate(certificates):
    """The user has taken the risk."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(close(1000))
            await peer.read_to_end()

        owner = Owner()
        async with RawServer(behaviour, certificates.server_context()) as server:
            await dial(server.endpoint(insecure=True), owner, close_timeout=60)
            assert (await owner.wait_closed()).code == 1000

    run(test)


def test_a_client_certificate_is_shown_when_asked_for(certificates):
    """The server knows who we are."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(close(1000))
            await peer.read_to_end()
            names.append(peer.writer.get_extra_info("peercert")["subjectAltName"])

        names, owner = [], Owner()
        files = {"ca_file": certificates.ca_pem, "cert_file": certificates.client_pem, "key_file": certificates.client_key}
        async with RawServer(behaviour, certificates.server_context(ask_client=True)) as server:
            await dial(server.endpoint(**files), owner, close_timeout=60)
            await owner.wait_closed()
        assert names == [(("DNS", "client"),)]

    run(test)


def test_tls_to_a_port_without_tls_is_tls_failed():
    """The message says that the port does not speak TLS."""

    async def test():
        async def behaviour(peer):
            await peer.reader.read(100)
            peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with RawServer(behaviour) as server:
            with pytest.raises(TlsFailed, match="the port does not speak TLS"):
                await dial(Endpoint(f"wss://127.0.0.1:{server.port}/socket"), Owner())

    run(test)


def test_a_hang_up_during_the_tls_handshake_is_tls_failed():
    """It is not mistaken for an answer."""

    async def test():
        async def behaviour(peer):
            await peer.reader.read(100)

        async with RawServer(behaviour) as server:
            with pytest.raises(TlsFailed):
                await dial(Endpoint(f"wss://127.0.0.1:{server.port}/socket"), Owner())

    run(test)


def test_no_tls_to_a_port_with_tls_is_not_websocket(certificates):
    """The message gives the hint that TLS may be spoken there."""

    async def test():
        message = await fail_to_dial_tls(NotWebSocket, certificates.server_context(), "ws://localhost:{port}/socket")
        assert "TLS" in message

    run(test)


def test_a_tls_file_that_cannot_be_read_stops_before_anything_is_sent(tmp_path):
    """A wrong setting is a wrong setting, not a failed connection."""

    async def test():
        with pytest.raises(ConfigError, match=r"missing\.pem"):
            await dial(Endpoint("wss://localhost:1/socket", ca_file=str(tmp_path / "missing.pem")), Owner())

    run(test)
