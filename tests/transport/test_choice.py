"""Which transport is taken, against a server of which either may be blocked."""

import asyncio
import json
import socket
import ssl

import pytest
import structlog

from rig.errors import (
    AuthenticationRefused,
    ConnectFailed,
    ConnectTimeout,
    HandshakeRefused,
    NotLongPoll,
    NotWebSocket,
    PinMismatch,
    ProxyFailed,
    RedirectRefused,
    TlsFailed,
    TokenUnavailable,
)
from rig.transport import Endpoint, TransportChoice, WebSocketTransport
from rig.transport.choice import may_pass_by_longpoll
from rig.transport.longpoll import LongPollTransport
from tests.running import run
from tests.transport.raw_server import Owner, RawServer, close

URL = "ws://localhost/socket"


def answers(status, *headers, body=b""):
    """Make a behaviour that answers a request with an HTTP status."""

    async def behaviour(peer):
        lines = [f"HTTP/1.1 {status} Whatever", *headers, f"Content-Length: {len(body)}", "", ""]
        peer.write("\r\n".join(lines).encode() + body)
        await peer.read_to_end()

    return behaviour


async def upgrades(peer):
    """Accept the WebSocket, and answer its CLOSE."""
    peer.switch_protocols()
    while (await peer.receive()).opcode != 8:
        pass
    peer.write(close(1000))


async def swallows(peer):
    """Accept the WebSocket, and let nothing through."""
    peer.switch_protocols()
    await peer.read_to_end()


async def stays_silent(peer):
    """Read, and never answer."""
    await peer.read_to_end()


async def resets(peer):
    """Hang up as a firewall does."""
    peer.reset()


def opens(**body):
    """Make a behaviour that answers the opening of long-poll, by default with a session."""
    return answers(200, body=json.dumps(body or {"status": 410, "token": "t"}).encode())


class Network:
    """
    A server, and what is before it.

    Attributes:
        websocket: What happens to a WebSocket's request.
        longpoll: What happens to one of long-poll.
        asked: Which of the two each connection was for.
    """

    def __init__(self, websocket=upgrades, longpoll=None):
        self.websocket, self.longpoll = websocket, longpoll or opens()
        self.asked = []

    async def serve(self, peer):
        try:
            await peer.read_request()
        except asyncio.IncompleteReadError:
            return
        name = "websocket" if "/websocket?" in peer.request.split("\r\n")[0] else "longpoll"
        if "token=t" not in peer.request.split("\r\n")[0]:
            self.asked.append(name)
        await (self.websocket if name == "websocket" else self.longpoll)(peer)


LIMITS = {"connect_timeout": 5.0, "max_frame_bytes": 1024 * 1024}


async def dial(choice, server, **limits):
    """Dial, close, and return which transport it was."""
    owner = Owner()
    transport = await choice.dial(server.endpoint(), owner, **{**LIMITS, **limits})
    transport.close()
    await owner.wait_closed()
    return {WebSocketTransport: "websocket", LongPollTransport: "longpoll"}[type(transport)]


def choose(network, test, mode="auto", *, fallback_timeout=2.5, **settings):
    """Run a test with a choice, a server on this network and the lines that are logged."""
    now = [0.0]

    async def main():
        choice = TransportChoice(mode, fallback_timeout=fallback_timeout, clock=lambda: now[0], **settings)
        async with RawServer(network.serve) as server:
            await test(choice, server, now)

    with structlog.testing.capture_logs() as lines:
        run(main)
    return lines


BLOCKED = {
    "HTTP 200": answers(200, body=b"<html>"),
    "HTTP 400": answers(400),
    "HTTP 404": answers(404),
    "HTTP 426": answers(426),
    "HTTP 500": answers(500),
    "HTTP 502": answers(502),
    "no upgrade": answers(101),
    "reset": resets,
    "silence": stays_silent,
}


@pytest.mark.parametrize("how", BLOCKED)
def test_where_a_websocket_is_blocked_longpoll_is_taken(how):
    """However it is blocked; one line says so and why, and later dials do not try in vain again."""
    network = Network(websocket=BLOCKED[how])

    async def test(choice, server, now):
        assert (choice.name, choice.reason) == ("websocket", "it is tried first")
        assert await dial(choice, server) == "longpoll"
        assert await dial(choice, server) == "longpoll"
        assert network.asked == ["websocket", "longpoll", "longpoll"]
        assert choice.name == "longpoll"
        assert choice.reason.startswith("a websocket failed: ws://127.0.0.1") or "no answer from ws://" in choice.reason

    lines = choose(network, test, fallback_timeout=0.2)
    assert [(line["log_level"], line["event"]) for line in lines] == [("warning", "taking longpoll")]
    assert "ws://127.0.0.1" in lines[0]["reason"]


def test_where_a_websocket_gets_through_nothing_else_is_tried():
    """And nothing is logged, since nothing has changed."""
    network = Network()

    async def test(choice, server, now):
        assert await dial(choice, server) == "websocket"
        assert network.asked == ["websocket"]
        assert (choice.name, choice.reason) == ("websocket", "it gets through")

    assert choose(network, test) == []


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (answers(401), AuthenticationRefused),
        (answers(403), AuthenticationRefused),
        (answers(429), HandshakeRefused),
        (answers(503, "Retry-After: 5"), HandshakeRefused),
        (answers(302), HandshakeRefused),
    ],
)
def test_what_longpoll_would_meet_too_does_not_lead_to_it(refusal, error):
    """A refused token is refused on any transport, a busy server is not asked twice."""
    network = Network(websocket=refusal)

    async def test(choice, server, now):
        with pytest.raises(error):
            await dial(choice, server)
        assert network.asked == ["websocket"]

    choose(network, test)


def test_a_closed_port_does_not_lead_to_longpoll():
    """It is the same port."""

    async def main():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            endpoint = Endpoint(f"ws://127.0.0.1:{taken.getsockname()[1]}/socket")
            with pytest.raises(ConnectFailed) as caught:
                await TransportChoice("auto", fallback_timeout=2.5).dial(endpoint, Owner(), **LIMITS)
            assert not hasattr(caught.value, "__notes__")

    run(main)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (HandshakeRefused(URL, 407), True),
        (HandshakeRefused(URL, 503), True),
        (HandshakeRefused(URL, 503, retry_after=1.0), False),
        (HandshakeRefused(URL, 308), False),
        (RedirectRefused(URL, 302, "http://elsewhere", "it gives up TLS"), False),
        (AuthenticationRefused(URL, 403), False),
        (NotWebSocket(URL, "its answer is not HTTP"), True),
        (ConnectTimeout(URL, 2.5), True),
        (ConnectFailed("localhost", 80, "connection refused"), False),
        (caused(TlsFailed("localhost", "connection reset by peer"), ConnectionResetError(104, "reset")), True),
        (caused(TlsFailed("localhost", "self-signed"), ssl.SSLCertVerificationError()), False),
        (caused(PinMismatch("localhost", "sha256//x"), ssl.SSLCertVerificationError()), False),
        (ProxyFailed("http://proxy", "HTTP 407"), False),
        (TokenUnavailable("the keyring", "it is locked"), False),
    ],
)
def test_each_error_of_a_websocket_says_whether_longpoll_may_pass(error, passes):
    """What lies on the way of both is no reason to take the other."""
    assert may_pass_by_longpoll(error) is passes


def test_a_websocket_is_tried_again_after_a_while():
    """First after the time that was set, then after twice that, and so on; once it gets through it is taken for good."""
    network = Network(websocket=answers(404))

    async def test(choice, server, now):
        for at, asked in [
            (0, ["websocket", "longpoll"]),
            (599, ["longpoll"]),
            (600, ["websocket", "longpoll"]),
            (1799, ["longpoll"]),
            (1800, ["websocket", "longpoll"]),
            (4199, ["longpoll"]),
        ]:
            now[0], network.asked = at, []
            assert await dial(choice, server) == "longpoll"
            assert network.asked == asked, at
        network.websocket, now[0] = upgrades, 4200
        assert await dial(choice, server) == "websocket"

    lines = choose(network, test)
    assert [line["event"] for line in lines] == ["taking longpoll", "taking websocket again"]


def test_the_wait_for_a_websocket_has_an_end():
    """Doubling stops at sixteen times the first wait."""
    network = Network(websocket=answers(404))

    async def test(choice, server, now):
        for _ in range(12):
            await dial(choice, server)
            now[0] += 16.0
        network.websocket, network.asked = upgrades, []
        assert await dial(choice, server) == "websocket"

    choose(network, test, retry_websocket_after=1.0)


def test_a_longpoll_that_fails_brings_the_websocket_back():
    """What was learnt of a network that has changed is forgotten."""
    network = Network(websocket=answers(404))

    async def test(choice, server, now):
        await dial(choice, server)
        network.websocket, network.longpoll, network.asked = upgrades, answers(500), []
        with pytest.raises(HandshakeRefused):
            await dial(choice, server)
        assert await dial(choice, server) == "websocket"
        assert network.asked == ["longpoll", "websocket"]

    lines = choose(network, test)
    assert [line["event"] for line in lines] == [
        "taking longpoll",
        "longpoll failed; a websocket is tried next",
        "taking websocket again",
    ]


def test_a_refused_token_does_not_make_longpoll_forgotten():
    """It says nothing about the way: the fresh token takes the same."""
    network = Network(websocket=answers(404))

    async def test(choice, server, now):
        await dial(choice, server)
        network.longpoll, network.asked = opens(status=403), []
        with pytest.raises(AuthenticationRefused):
            await dial(choice, server)
        network.longpoll = opens()
        assert await dial(choice, server) == "longpoll"
        assert network.asked == ["longpoll", "longpoll"]

    choose(network, test)


def test_where_a_websocket_has_worked_longpoll_is_not_remembered():
    """A server behind a balancer answers 502 while it restarts: that is no network that blocks WebSockets."""
    network = Network()

    async def test(choice, server, now):
        assert await dial(choice, server) == "websocket"
        network.websocket = answers(502)
        assert await dial(choice, server) == "longpoll"
        network.websocket = upgrades
        assert await dial(choice, server) == "websocket"
        assert network.asked == ["websocket", "websocket", "longpoll", "websocket"]

    lines = choose(network, test)
    assert [line["event"] for line in lines] == ["taking longpoll", "taking websocket again"]


def test_a_websocket_that_opens_and_lets_nothing_through_counts_as_blocked():
    """A proxy that swallows frames costs one connection that its heartbeats end, not all that follow."""
    network = Network(websocket=swallows)

    async def test(choice, server, now):
        owner = Owner()
        transport = await choice.dial(server.endpoint(), owner, **LIMITS)
        transport.send([b"[1]"])
        transport.abort()
        await owner.wait_closed()
        assert await dial(choice, server) == "longpoll"
        assert choice.reason.endswith("(it opened, but nothing ever came through): check host, port and path, mostly /socket")
        assert await dial(choice, server) == "longpoll"
        assert network.asked == ["websocket", "longpoll", "longpoll"]

    lines = choose(network, test)
    assert [line["event"] for line in lines] == ["taking longpoll"]


def test_a_websocket_that_is_still_open_is_not_judged():
    """During a hand-over the old connection is there; that nothing has come through it yet says nothing."""
    network = Network(websocket=swallows)

    async def test(choice, server, now):
        owner = Owner()
        first = await choice.dial(server.endpoint(), owner, **LIMITS)
        network.websocket = upgrades
        assert await dial(choice, server) == "websocket"
        assert choice.fallback == ""
        first.abort()
        await owner.wait_closed()

    assert choose(network, test) == []


def test_a_websocket_beside_one_that_works_is_not_taken_for_swallowed():
    """A hand-over that is called off before anything came is no reason to leave WebSockets."""
    network = Network()

    async def test(choice, server, now):
        first, second = Owner(), Owner()
        old = await choice.dial(server.endpoint(), first, **LIMITS)
        network.websocket = swallows
        new = await choice.dial(server.endpoint(), second, **LIMITS)
        new.abort()
        old.close()
        await asyncio.gather(first.wait_closed(), second.wait_closed())
        assert old.bytes_received
        network.websocket = upgrades
        assert await dial(choice, server) == "websocket"
        assert network.asked == ["websocket"] * 3

    assert choose(network, test) == []


def test_a_websocket_is_tried_again_if_longpoll_does_not_help_against_swallowing():
    """Both are blocked, so neither is settled on."""
    network = Network(websocket=swallows, longpoll=answers(404))

    async def test(choice, server, now):
        owner = Owner()
        (await choice.dial(server.endpoint(), owner, **LIMITS)).abort()
        await owner.wait_closed()
        with pytest.raises(NotWebSocket, match="nothing ever came through"):
            await dial(choice, server)
        network.websocket = upgrades
        assert await dial(choice, server) == "websocket"
        assert network.asked == ["websocket", "longpoll", "websocket"]

    choose(network, test)


def test_if_both_fail_the_error_of_the_websocket_is_raised():
    """It tells the user more; the other one stands beside it."""
    network = Network(websocket=answers(404), longpoll=answers(200, body=b"<html>"))

    async def test(choice, server, now):
        for _ in range(2):
            with pytest.raises(HandshakeRefused, match=r"ws://.*HTTP 404") as caught:
                await dial(choice, server)
            assert any("Long-poll failed, too" in note and "/longpoll?" in note for note in caught.value.__notes__)
            assert isinstance(caught.value.__cause__, NotLongPoll)
        assert network.asked == ["websocket", "longpoll"] * 2
        assert choice.name == "websocket"

    assert choose(network, test) == []


def test_a_token_that_only_longpoll_hears_refused_is_reported_as_refused():
    """So that whoever dials asks for a fresh one."""
    network = Network(websocket=answers(404), longpoll=opens(status=403))

    async def test(choice, server, now):
        with pytest.raises(AuthenticationRefused, match="/longpoll") as caught:
            await dial(choice, server)
        assert any("HTTP 404" in note for note in caught.value.__notes__)

    choose(network, test)


@pytest.mark.parametrize(("mode", "taken"), [("websocket", "websocket"), ("longpoll", "longpoll")])
def test_a_transport_that_was_asked_for_is_the_only_one(mode, taken):
    """No other is tried, whatever happens."""
    network = Network()

    async def test(choice, server, now):
        assert (choice.name, choice.reason) == (taken, "it was asked for")
        assert await dial(choice, server) == taken
        network.websocket = network.longpoll = answers(404)
        with pytest.raises(HandshakeRefused):
            await dial(choice, server)
        assert network.asked == [taken, taken]

    assert choose(network, test, mode=mode) == []


def test_a_websocket_has_no_longer_than_the_fallback_timeout():
    """A proxy that swallows the upgrade costs that long, not the connect time-out."""
    network = Network(websocket=stays_silent)

    async def test(choice, server, now):
        started = asyncio.get_running_loop().time()
        assert await dial(choice, server, connect_timeout=5.0) == "longpoll"
        assert 0.1 <= asyncio.get_running_loop().time() - started < 2
        assert "within 0.1 s" in choice.reason

    choose(network, test, fallback_timeout=0.1)


def test_the_limit_of_a_message_holds_on_either_transport():
    """What is set for one is set for both."""
    session = json.dumps({"status": 410, "token": "t"}).encode()
    poll = json.dumps({"status": 200, "messages": ["[" + "x" * 100 + "]"]}).encode()

    async def speaks(peer):
        for body in (session, poll):
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            if body is session:
                await peer.read_request()
        await peer.read_to_end()

    network = Network(websocket=answers(404), longpoll=speaks)

    async def test(choice, server, now):
        owner = Owner()
        transport = await choice.dial(server.endpoint(), owner, **{**LIMITS, "max_frame_bytes": 50})
        await owner.wait_until(lambda: owner.rejected)
        transport.abort()
        await owner.wait_closed()

    choose(network, test)
