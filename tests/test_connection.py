"""The shell around the core: dials, sends, keeps one timer, and ends cleanly from every state."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rig import errors
from rig.backoff import RULES, Cause
from rig.connection import Connection
from rig.phoenix import Push, Socket, SocketState, events
from rig.transport.base import BinaryFrame, Closed, Transport, TransportOwner
from rig.transport.memory import MemoryTransport, deliver_all, pair
from tests.running import run

PATIENCE = 5.0
URL = "ws://h/socket"


class Peer:
    """The server's end of one connection: it writes down what it hears."""

    def __init__(self) -> None:
        self.messages: list[list[Any]] = []
        self.closed: Closed | None = None

    def text_received(self, frames: list[bytes]) -> None:
        self.messages += [msgspec.json.decode(frame) for frame in frames]

    def binary_received(self, frames: list[bytes]) -> None:
        raise AssertionError("nothing here pushes bytes")

    def frames_rejected(self, count: int, reason: str) -> None:
        raise AssertionError("nothing here is too large")

    def transport_closed(self, closed: Closed) -> None:
        self.closed = closed


class Dialler:
    """A `Dial` that does what its outcomes say, one a dial: an exception is raised, a future is awaited first; else it opens."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.count = 0
        self.ends: list[MemoryTransport] = []
        self.peers: list[Peer] = []

    async def __call__(self, owner: TransportOwner) -> Transport:
        self.count += 1
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, asyncio.Future):
            await outcome
        elif isinstance(outcome, BaseException):
            raise outcome
        elif isinstance(outcome, Closed):
            owner.transport_closed(outcome)
        peer = Peer()
        ours, theirs = pair(owner, peer)
        self.ends += [ours, theirs]
        self.peers.append(peer)
        return ours

    def say(self, *messages: Any) -> None:
        """Let the server of the latest connection say something."""
        self.ends[-1].send([message if isinstance(message, bytes) else msgspec.json.encode(message) for message in messages])
        deliver_all(*self.ends[-2:])

    @property
    def heard(self) -> list[list[Any]]:
        """What the server of the latest connection has heard."""
        deliver_all(*self.ends[-2:])
        return self.peers[-1].messages


class Shell:
    """A connection, and everything that its owner is told."""

    def __init__(self, *outcomes: Any, random: Callable[[], float] = lambda: 0.0, **settings: Any) -> None:
        self.told: list[events.Event] = []
        self.on_event: Callable[[events.Event], None] = lambda event: None
        self.dialler = Dialler(*outcomes)
        self.socket = Socket(random=random, **settings)
        self.connection = Connection(self.socket, self.dialler, self._on_events)

    def _on_events(self, received: list[events.Event]) -> None:
        for event in received:
            self.told.append(event)
            self.on_event(event)

    def all(self, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Deliver what is under way until something is so."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)
                deliver_all(*self.dialler.ends)

    async def open(self, *topics: str) -> "Shell":
        """Connect, and be accepted into some topics."""
        for topic in topics:
            self.connection.join(topic, {})
        self.connection.start()
        await self.until(lambda: self.connection.open)
        for join_ref, ref, topic, event, _ in list(self.dialler.heard):
            assert event == "phx_join"
            self.dialler.say([join_ref, ref, topic, "phx_reply", {"status": "ok", "response": {}}])
        return self

    async def close(self) -> None:
        """Close while the server answers."""
        async with asyncio.timeout(PATIENCE):
            closing = asyncio.create_task(self.connection.close())
            while not closing.done():
                deliver_all(*self.dialler.ends)
                await asyncio.sleep(0)
            await closing


def test_topics_joined_before_the_start_are_joined_in_order_once_it_is_open() -> None:
    """What is wanted early is asked for as soon as there is a connection."""

    async def test() -> None:
        shell = await Shell().open("room:1", "room:2")

        assert [message[2:4] for message in shell.dialler.heard] == [["room:1", "phx_join"], ["room:2", "phx_join"]]
        assert [event.topic for event in shell.all(events.Joined)] == ["room:1", "room:2"]
        await shell.close()

    run(test)


def test_heartbeats_and_time_outs_come_from_one_timer() -> None:
    """A push's time-out that is due earlier than the heartbeat moves the timer forward, and the heartbeat comes all the same."""

    async def test() -> None:
        shell = await Shell(heartbeat_interval=0.03, heartbeat_timeout=PATIENCE).open("room:1")
        push = Push("room:1", "shout", {}, timeout=0.005)
        shell.connection.push([push])

        await shell.until(lambda: shell.all(events.PushTimedOut))
        assert not any(message[3] == "heartbeat" for message in shell.dialler.heard)
        await shell.until(lambda: any(message[3] == "heartbeat" for message in shell.dialler.heard))

        assert shell.all(events.PushTimedOut) == [events.PushTimedOut(push)]
        await shell.close()

    run(test)


def test_what_is_asked_for_in_the_midst_of_a_turn_waits_for_its_end() -> None:
    """A turn is whole: its frames are sent before anything that its events lead to."""

    async def test() -> None:
        shell = Shell()
        states: list[Any] = []

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.SocketOpened):
                shell.connection.push([Push("room:1", "nested", {}, wants_reply=False)])
                shell.connection.join("room:2", {})
                states.append(shell.socket.joined_topics)

        shell.on_event = on_event
        await shell.open("room:1")

        assert states == [1], "the nested join has not happened while the outer turn was acted on"
        assert [message[2:4] for message in shell.dialler.heard[:2]] == [["room:1", "phx_join"], ["room:2", "phx_join"]]
        await shell.until(lambda: any(message[3] == "nested" for message in shell.dialler.heard))
        await shell.close()

    run(test)


def test_a_push_that_cannot_be_sent_spoils_no_other() -> None:
    """Each push of a batch has a result of its own."""

    async def test() -> None:
        shell = await Shell().open("room:1")
        good, unknown, bad = (
            Push("room:1", "a", {}, wants_reply=False),
            Push("room:9", "b", {}),
            Push("room:1", "c", object()),
        )
        shell.connection.push([unknown, bad, good])

        assert [event.push for event in shell.all(events.PushRejected)] == [unknown, bad]
        assert shell.dialler.heard[-1][3] == "a"
        await shell.close()

    run(test)


def test_a_wrong_call_raises_and_harms_nothing() -> None:
    """Joining a topic twice is the caller's fault, and the connection goes on."""

    async def test() -> None:
        shell = await Shell().open("room:1")
        with pytest.raises(errors.LocalProtocolError, match="joined already"):
            shell.connection.join("room:1", {})

        shell.dialler.say([None, None, "room:1", "tick", {"n": 1}])

        assert len(shell.all(events.MessagesReceived)) == 1
        await shell.close()

    run(test)


def test_an_owner_that_raises_stops_neither_frames_nor_the_timer() -> None:
    """A bug of the owner shows, and heartbeats go on."""

    async def test() -> None:
        shell = await Shell(heartbeat_interval=0.02).open("room:1")

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.PushTimedOut):
                raise RuntimeError("a bug")

        shell.on_event = on_event
        shell.connection.push([Push("room:1", "shout", {}, timeout=0.005)])

        await shell.until(lambda: any(message[3] == "heartbeat" for message in shell.dialler.heard))
        await shell.close()

    run(test, complaint=RuntimeError)


def test_binary_frames_and_rejected_ones_reach_the_core() -> None:
    """Text, bytes and what was too large each have their way."""

    async def test() -> None:
        shell = await Shell().open("room:1")
        shell.dialler.say(BinaryFrame(b"\x02\x06\x03room:1pic\xff\xd8"))
        shell.connection.frames_rejected(3, "too large")

        [received] = shell.all(events.MessagesReceived)
        assert (received.binary, received.messages[0].payload) == (True, b"\xff\xd8")
        assert shell.all(events.FramesRejected) == [events.FramesRejected(3, "too large", b"")]
        await shell.close()

    run(test)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (errors.HostNotFound("h", 1, "unknown"), Cause.DNS),
        (errors.ConnectRefused("h", 1, "refused"), Cause.REFUSED),
        (errors.ConnectFailed("h", 1, "no route to host"), Cause.UNREACHABLE),
        (errors.ConnectTimeout(URL, 5), Cause.TIMEOUT),
        (errors.TlsFailed("h", "expired"), Cause.TLS),
        (errors.PinMismatch("h", "sha256//x"), Cause.TLS),
        (errors.ProxyFailed("http://proxy:1", "refused"), Cause.PROXY),
        (errors.TokenUnavailable("env:X", "it is not set"), Cause.NO_TOKEN),
        (errors.NotWebSocket(URL, "garbage"), Cause.NOT_WEBSOCKET),
        (errors.NotLongPoll(URL, "garbage"), Cause.NOT_WEBSOCKET),
        (errors.HandshakeRefused(URL, 200), Cause.NOT_WEBSOCKET),
        (errors.RedirectRefused(URL, 302, "http://x/", "it gives up TLS"), Cause.NOT_WEBSOCKET),
        (errors.HandshakeRefused(URL, 404), Cause.HTTP_4XX),
        (errors.HandshakeRefused(URL, 500), Cause.HTTP_5XX),
        (errors.HandshakeRefused(URL, 503), Cause.BUSY),
        (errors.HandshakeRefused(URL, 429, retry_after=7.0), Cause.BUSY),
        (errors.AuthenticationRefused(URL, 403), Cause.UNAUTHORIZED),
        (errors.ConfigError("the certificate is gone"), Cause.UNREACHABLE),
        (OSError("no descriptors left"), Cause.UNREACHABLE),
    ],
)
def test_a_dial_that_fails_has_a_cause_and_another_attempt(error: Exception, cause: Cause) -> None:
    """Whatever a dial raises, the attempts go on, and the reason is there for the log."""

    async def test() -> None:
        shell = Shell(error)
        known: list[object] = []
        shell.on_event = lambda event: known.append(shell.connection.last_error)
        shell.connection.start()
        await shell.until(lambda: shell.all(events.SocketClosed))

        [closed] = shell.all(events.SocketClosed)
        assert (closed.cause, closed.code) == (cause, None)
        assert str(error) in closed.reason
        assert known[:2] == [None, error]
        if getattr(error, "retry_after", None):
            assert closed.delay == 7.0
        else:
            assert closed.delay == RULES[cause].floor
        if not closed.delay:
            await shell.until(lambda: shell.connection.open)
            assert shell.connection.last_error is None
        await shell.close()

    run(test)


def test_a_transport_that_ends_before_its_dial_returns_never_opened() -> None:
    """A stillborn transport counts as a failed attempt, and the next one works."""

    async def test() -> None:
        shell = Shell(Closed(1011, "no"))
        shell.connection.start()
        await shell.until(lambda: shell.connection.open)

        assert [type(event) for event in shell.told] == [
            events.ConnectDue,
            events.SocketClosed,
            events.ConnectDue,
            events.SocketOpened,
        ]
        assert shell.all(events.SocketClosed)[0].cause is Cause.LINK_LOST
        await shell.close()

    run(test)


def test_a_lost_connection_is_dialled_again_and_its_topics_are_joined_again() -> None:
    """The owner does nothing for it."""

    async def test() -> None:
        shell = await Shell().open("room:1")
        shell.dialler.ends[0].abort()
        await shell.until(lambda: shell.dialler.count == 2 and shell.connection.open)

        assert [message[2:4] for message in shell.dialler.heard] == [["room:1", "phx_join"]]
        await shell.close()

    run(test)


def test_a_lost_heartbeat_closes_the_transport() -> None:
    """A half-open connection is given up, closed with a reason, and dialled anew."""

    async def test() -> None:
        shell = await Shell(heartbeat_interval=0.01, heartbeat_timeout=0.01).open()
        await shell.until(lambda: shell.dialler.count == 2 and shell.connection.open)

        assert shell.dialler.peers[0].closed == Closed(1000, "heartbeat timeout")
        assert shell.all(events.SocketClosed)[0].cause is Cause.HEARTBEAT_LOST
        await shell.close()

    run(test)


def test_a_pause_holds_over_a_reconnect() -> None:
    """Back-pressure belongs to the owner, not to one transport."""

    async def test() -> None:
        shell = await Shell(heartbeat_interval=0.01, heartbeat_timeout=0.01).open("room:1")
        shell.connection.pause_reading()
        assert shell.dialler.ends[0].paused
        shell.dialler.ends[0].abort()
        await shell.until(lambda: shell.dialler.count == 2 and shell.connection.open)

        assert shell.dialler.ends[2].paused
        await shell.until(lambda: len([m for m in shell.dialler.heard if m[3] == "heartbeat"]) > 3)
        assert shell.dialler.count == 2, "nobody is declared dead while we do not read"
        shell.connection.resume_reading()
        assert not shell.dialler.ends[2].paused
        await shell.close()

    run(test)


def test_pausing_twice_is_pausing_once() -> None:
    """One resume is enough, and one that comes without a pause does nothing."""

    async def test() -> None:
        shell = await Shell().open()
        shell.connection.pause_reading()
        shell.connection.pause_reading()
        shell.connection.resume_reading()
        shell.connection.resume_reading()

        assert not shell.dialler.ends[0].paused
        await shell.close()

    run(test)


def test_a_pause_before_the_first_connection_holds_for_it() -> None:
    """A ring can be full before anybody has dialled."""

    async def test() -> None:
        shell = Shell()
        shell.connection.pause_reading()
        shell.connection.start()
        await shell.until(lambda: shell.connection.open)

        assert shell.dialler.ends[0].paused
        await shell.close()

    run(test)


def test_closing_before_the_start_is_the_end() -> None:
    """A connection that never began ends at once."""

    async def test() -> None:
        shell = Shell()
        await shell.close()

        assert (shell.socket.state, shell.dialler.count) == (SocketState.CLOSED, 0)

    run(test)


def test_closing_while_it_dials_gives_the_dial_up() -> None:
    """Nobody waits for a connect time-out at the end of a program."""

    async def test() -> None:
        dialling = asyncio.get_running_loop().create_future()
        shell = Shell(dialling)
        shell.connection.start()
        await shell.until(lambda: shell.dialler.count)
        await shell.close()

        assert dialling.cancelled()
        assert not shell.connection.open

    run(test)


def test_closing_an_open_connection_waits_for_its_transport() -> None:
    """The server sees a clean close, and whoever closes knows that it is over."""

    async def test() -> None:
        shell = await Shell().open("room:1")
        closing = asyncio.create_task(shell.connection.close())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not closing.done()
        deliver_all(*shell.dialler.ends)
        await closing

        assert shell.dialler.peers[0].closed == Closed(1000)
        assert shell.all(events.SocketClosed)[0].delay is None
        assert shell.dialler.count == 1

    run(test)


def test_closing_while_it_waits_means_no_further_attempt() -> None:
    """A delay that was running is dropped."""

    async def test() -> None:
        shell = Shell(errors.ConnectFailed("h", 1, "refused"), random=lambda: 0.02)
        shell.connection.start()
        await shell.until(lambda: shell.socket.state is SocketState.WAITING)
        await shell.close()
        await asyncio.sleep(0.03)

        assert shell.dialler.count == 1

    run(test)


def test_closing_while_a_dead_transport_ends_waits_for_it() -> None:
    """A connection whose heartbeat was lost, and whose peer does not answer the close, is not left behind."""

    async def test() -> None:
        shell = Shell(heartbeat_interval=0.005, heartbeat_timeout=0.005)
        shell.connection.start()
        await shell.until(lambda: shell.connection.open)
        async with asyncio.timeout(PATIENCE):
            while shell.socket.state is not SocketState.CLOSING:  # noqa: ASYNC110 - nothing here may be delivered
                await asyncio.sleep(0.001)
        await shell.close()

        assert shell.dialler.peers[0].closed is not None
        assert shell.dialler.count == 1

    run(test)


def test_closing_a_paused_connection_reads_to_the_end() -> None:
    """The peer's answer to the close is behind what was not read."""

    async def test() -> None:
        shell = await Shell().open("room:1")
        shell.connection.pause_reading()
        shell.dialler.say([None, None, "room:1", "tick", {}])
        assert not shell.all(events.MessagesReceived)
        await shell.close()

        assert shell.dialler.peers[0].closed is not None

    run(test)


def test_closing_twice_is_closing_once() -> None:
    """The second time there is nothing left to do."""

    async def test() -> None:
        shell = await Shell().open("room:1")
        await shell.close()
        await shell.close()

        assert len(shell.all(events.SocketClosed)) == 1
        with pytest.raises(errors.LocalProtocolError, match="closed"):
            shell.connection.join("room:2", {})

    run(test)
