"""`rig.phoenix.socket`: the whole, over several connections."""

import math

import pytest

from rig.backoff import Cause
from rig.errors import LocalProtocolError
from rig.phoenix import Push, SocketState
from rig.phoenix.channel import ChannelState
from rig.phoenix.events import (
    CloseDue,
    ConnectDue,
    FramesRejected,
    HeartbeatMissed,
    HeartbeatReplied,
    PushInterrupted,
    ReplyReceived,
    SocketClosed,
    SocketOpened,
)


def test_unknown_version(peer):
    """Only the two versions that Phoenix speaks can be asked for."""
    with pytest.raises(KeyError):
        peer(vsn="3.0.0")


def test_idle(peer):
    """A new socket wants nothing."""
    p = peer()

    assert p.socket.state is SocketState.IDLE
    assert p.socket.deadline == math.inf
    assert p.socket.handle_timeout(1e9) == []
    assert p.sent() == []


def test_connect_and_open(peer):
    """Connecting asks for a dial; the opened connection is told of before its first refused join."""
    p = peer()
    p.socket.join("room:1", lambda: 1 / 0, 0.0)

    assert p.socket.connect(0.0) == [ConnectDue(0)]
    assert p.socket.state is SocketState.CONNECTING
    received = p.socket.opened(0.0)
    assert received[0] == SocketOpened()
    assert p.socket.state is SocketState.OPEN


def test_connect_twice(peer):
    """A socket that dials or is open is not asked to dial again."""
    p = peer()
    p.socket.connect(0.0)
    with pytest.raises(LocalProtocolError, match="CONNECT in state CONNECTING"):
        p.socket.connect(0.0)
    p.socket.opened(0.0)
    with pytest.raises(LocalProtocolError, match="CONNECT in state OPEN"):
        p.socket.connect(0.0)


def test_connect_while_waiting(peer):
    """The owner may dial before the delay is over; the delay then means nothing."""
    p = peer()
    p.open()
    p.socket.closed(1006, "", 0.0)
    assert p.socket.connect(0.1) == [ConnectDue(1)]
    assert p.advance(5.0) == []

    p.socket.opened(p.now)

    assert p.advance(5.0) == []
    assert p.socket.state is SocketState.OPEN


def test_failed_dial(peer):
    """A failed dial says why, and when the next one is due; it is not due earlier."""
    p = peer()
    p.socket.connect(0.0)

    assert p.socket.connect_failed(Cause.TIMEOUT, "5 s", 1.0) == [
        SocketClosed(Cause.TIMEOUT, None, "5 s", 0.5, "nobody", "reconnect")
    ]
    assert p.socket.handle_timeout(1.4) == []
    assert p.socket.handle_timeout(1.5) == [ConnectDue(1)]


def test_a_close_that_cannot_be(peer):
    """A transport that ends before it was dialled, or twice, is a mistake of the shell."""
    p = peer()
    with pytest.raises(LocalProtocolError):
        p.socket.closed(1006, "", 0.0)
    p.open()
    p.socket.closed(1006, "", 0.0)
    with pytest.raises(LocalProtocolError):
        p.socket.closed(1006, "", 0.0)


# Heartbeats.


def test_heartbeat(opened):
    """Every 15 s a heartbeat goes out on the topic phoenix; its reply gives the round-trip time."""
    for i in range(1, 5):
        assert opened.advance(15.0 if i == 1 else 14.75) == []
        assert opened.now == 15.0 * i
        assert opened.sent() == [[None, str(i), "phoenix", "heartbeat", {}]]
        opened.now += 0.25
        assert opened.reply(str(i), "phoenix") == [HeartbeatReplied(0.25)]


def test_ping(opened):
    """A ping is a heartbeat at once; its reply gives the round-trip time, and the usual beats keep theirs."""
    opened.advance(3.0)
    assert opened.socket.ping(opened.now) == []
    assert opened.sent() == [[None, "1", "phoenix", "heartbeat", {}]]
    opened.advance(0.25)

    assert opened.reply("1", "phoenix") == [HeartbeatReplied(0.25)]
    opened.advance(11.75)
    assert opened.sent() == [[None, "2", "phoenix", "heartbeat", {}]]


@pytest.mark.parametrize("state", ["idle", "connecting", "waiting", "closed"])
def test_no_ping_without_a_connection(peer, state):
    """Where there is no connection a ping says so, and sends nothing later."""
    p = peer()
    if state != "idle":
        p.socket.connect(0.0)
    if state == "waiting":
        p.socket.connect_failed(Cause.UNREACHABLE, "", 0.0)
    if state == "closed":
        p.socket.close(0.0)

    with pytest.raises(LocalProtocolError, match="not open"):
        p.socket.ping(0.0)
    assert p.sent() == []


def test_half_open_link_is_given_up_within_25_seconds(opened):
    """A link that says nothing costs a missed beat, then the connection, then a reconnect, with its cause."""
    opened.joined("room:1")
    last_sign = opened.now

    assert opened.advance(19.9) == []
    assert opened.advance(0.1) == [HeartbeatMissed(1)]
    assert opened.advance(4.9) == []
    assert opened.advance(0.1) == [CloseDue(1000, "heartbeat timeout")]
    assert opened.now - last_sign <= 25.0 + 1e-9
    assert opened.socket.state is SocketState.CLOSING
    assert [f[3] for f in opened.sent()] == ["heartbeat", "heartbeat"]
    [closed] = opened.socket.closed(1006, "", opened.now)
    assert closed.cause is Cause.HEARTBEAT_LOST


@pytest.mark.parametrize(("code", "by"), [(1000, "server"), (1001, "server"), (1005, "server"), (1012, "server"), (1006, "nobody")])
def test_an_end_says_who_ended_it_and_how_long_it_had_been_well(opened, code, by):
    """Who closed, how long ago the server had answered a heartbeat, how long it was open, and what follows."""
    opened.advance(15.0)
    [[_, ref, topic, *_]] = opened.sent()
    opened.reply(ref, topic)
    opened.advance(3.0)

    [closed] = opened.socket.closed(code, "why", opened.now)

    assert (closed.by, closed.decision, closed.heartbeat_age, closed.open_for) == (by, "reconnect", 3.0, 18.0)


def test_an_end_that_we_decided_on_is_ours(opened):
    """Whatever the code that comes back, and a heartbeat that was not answered is as old as it is."""
    opened.advance(25.0)
    [closed] = opened.socket.closed(1006, "", opened.now + 2.0)

    assert (closed.by, closed.reason, closed.heartbeat_age, closed.open_for) == ("us", "heartbeat timeout", 27.0, 27.0)

    [failed] = connect_failed_next(opened)
    assert (failed.by, failed.heartbeat_age, failed.open_for) == ("nobody", None, None)


def connect_failed_next(peer):
    """Let the next attempt fail."""
    while peer.socket.state is not SocketState.CONNECTING:
        peer.step()
    return peer.socket.connect_failed(Cause.REFUSED, "", peer.now)


def test_a_push_on_a_connection_that_is_given_up_waits_for_the_next_one(opened):
    """It was surely not sent, so its caller need not be told that nobody knows; what was sent before is told so."""
    opened.joined("room:1")
    sent = opened.push("room:1", "before", timeout=60.0)
    opened.socket.join("room:2", {}, opened.now)
    opened.sent()
    opened.advance(25.0)
    assert opened.socket.state is SocketState.CLOSING
    opened.sent()

    held = opened.push("room:1", "meanwhile", timeout=60.0)
    opened.socket.join("room:3", {}, opened.now)
    assert opened.sent() == []

    [_, *interrupted] = opened.socket.closed(1006, "", opened.now)
    assert interrupted == [PushInterrupted(sent, "heartbeat_lost: heartbeat timeout")]
    opened.open()
    joins = {frame[2]: frame[0] for frame in opened.sent()}
    assert set(joins) == {"room:1", "room:2", "room:3"}
    opened.reply(joins["room:1"], "room:1", join_ref=joins["room:1"])
    [[join_ref, ref, _, event, _]] = opened.sent()
    assert (join_ref, event) == (joins["room:1"], "meanwhile")
    assert opened.reply(ref, "room:1", join_ref=join_ref) == [ReplyReceived(held, "ok", {})]


def test_a_join_accepted_on_a_connection_that_is_given_up_sends_nothing(opened):
    """The answer is late, and pushes that waited for it wait for the next connection."""
    opened.joined("room:1")
    opened.socket.join("room:2", {}, opened.now)
    [[join_ref, *_]] = opened.sent()
    held = opened.push("room:2", timeout=60.0)
    opened.socket.reconnect("a fresh token")

    opened.reply(join_ref, "room:2", join_ref=join_ref)
    assert opened.sent() == []
    assert [type(event) for event in opened.socket.closed(1000, "", opened.now)] == [SocketClosed]

    opened.open()
    opened.accept("room:2")
    assert [frame[3] for frame in opened.sent()] == [held.event]


def test_the_cause_is_that_of_this_connection(opened):
    """A connection lost after one that was given up has its own cause."""
    opened.advance(25.0)
    opened.socket.closed(1006, "", opened.now)
    opened.open()

    assert opened.socket.closed(1001, "", opened.now)[0].cause is Cause.SERVER_CLOSED


@pytest.mark.parametrize("sign", ["receive", "receive_binary", "frames_rejected"])
def test_anything_received_is_a_sign_of_life(opened, sign):
    """Frames keep a link alive whose heartbeat replies are late, even frames that are no use."""
    received = []
    for _ in range(50):
        received += opened.advance(1.0)
        match sign:
            case "receive":
                opened.say(None, None, "room:9", "tick")
            case "receive_binary":
                opened.socket.receive_binary([b"\xff"], opened.now)
            case "frames_rejected":
                assert opened.socket.frames_rejected(2, "too large", opened.now) == [FramesRejected(2, "too large", b"")]
    assert received == []


def test_no_heartbeat_reply_for_60_seconds(opened):
    """A server that goes on sending but answers no heartbeat is given up after 60 s."""
    received = []
    while not received and opened.now < 100.0:
        received = opened.advance(1.0)
        opened.say(None, None, "room:9", "tick")

    assert received == [CloseDue(1000, "heartbeat timeout")]
    assert 60.0 <= opened.now <= 65.0


def test_no_verdict_while_reading_is_paused(opened):
    """While the shell does not read, heartbeats go on, and none is missed; reading on, the old rule holds."""
    assert opened.socket.reading_paused() == []
    assert opened.advance(200.0) == []
    assert len(opened.sent()) == 13
    assert opened.socket.reading_resumed(opened.now) == []

    assert opened.advance(9.0) == []
    assert [type(event) for event in opened.advance(16.0)] == [HeartbeatMissed, CloseDue]


def test_a_beat_of_the_old_connection_never_hurts_the_new_one(opened):
    """A heartbeat that was on its way when the connection was lost is forgotten with it."""
    opened.advance(20.0)
    opened.sent()
    opened.socket.closed(1006, "", opened.now)
    opened.open()
    born = opened.now

    assert opened.reply("1", "phoenix") == []
    assert opened.advance(14.9) == []
    opened.advance(born + 15.0 - opened.now)
    assert [f[3] for f in opened.sent()] == ["heartbeat"]
    assert opened.socket.state is SocketState.OPEN


def test_no_heartbeat_without_a_connection(peer):
    """While it waits or dials, the socket sends nothing."""
    p = peer()
    p.open()
    p.socket.closed(1006, "", 0.0)
    p.step()

    assert p.socket.deadline == math.inf
    assert p.sent() == []


# Closing for good.


def test_close_while_idle(peer):
    """A socket that never connected is closed at once."""
    p = peer()
    assert p.socket.close(0.0) == []
    assert p.socket.state is SocketState.CLOSED
    with pytest.raises(LocalProtocolError):
        p.socket.connect(0.0)


def test_close_while_connecting(peer):
    """A dial that succeeds after the close is closed, one that fails is not repeated."""
    p = peer()
    p.socket.connect(0.0)
    assert p.socket.close(0.0) == []
    assert p.socket.opened(0.0) == [CloseDue(1000, "")]
    assert p.socket.closed(1000, "", 0.0) == [SocketClosed(Cause.REQUESTED, 1000, "", None, "us", "end")]

    p = peer()
    p.socket.connect(0.0)
    p.socket.close(0.0)
    assert p.socket.connect_failed(Cause.TLS, "x", 0.0) == [SocketClosed(Cause.REQUESTED, None, "x", None, "us", "end")]
    assert p.socket.deadline == math.inf


def test_close_while_open(opened):
    """Closing resolves what waits, asks for a normal close, and nothing is tried again."""
    opened.joined("room:1")
    opened.socket.join("room:2", {}, 0.0)
    sent, held = opened.push("room:1"), opened.push("room:2")

    received = opened.socket.close(0.0)

    assert received == [
        PushInterrupted(sent, "the connection was closed"),
        PushInterrupted(held, "the connection was closed"),
        CloseDue(1000, ""),
    ]
    assert opened.socket.deadline == math.inf
    assert opened.socket.channel_state("room:1") is ChannelState.CLOSED
    assert opened.socket.closed(1005, "", 0.0) == [SocketClosed(Cause.REQUESTED, 1005, "", None, "us", "end", 0.0, 0.0)]
    assert opened.socket.deadline == math.inf


def test_close_while_closing(opened):
    """Closing a socket that is giving its connection up does not ask for a second close."""
    opened.advance(25.0)
    assert opened.socket.state is SocketState.CLOSING

    assert opened.socket.close(opened.now) == []
    assert opened.socket.closed(1006, "", opened.now) == [SocketClosed(Cause.REQUESTED, 1006, "", None, "us", "end", 25.0, 25.0)]


def test_close_while_waiting(opened):
    """Closing between two attempts calls the next one off, and resolves the pushes that wait for it."""
    opened.joined("room:1")
    opened.socket.closed(1006, "", 0.0)
    push = opened.push("room:1")

    assert opened.socket.close(0.0) == [PushInterrupted(push, "the connection was closed")]
    assert opened.socket.deadline == math.inf


def test_close_twice(opened):
    """Closing a closed socket does nothing."""
    opened.socket.close(0.0)

    assert opened.socket.close(0.0) == []


def test_a_closed_socket_takes_nothing(opened):
    """After the close nothing can be joined or pushed; what still arrives breaks nothing."""
    opened.joined("room:1")
    opened.socket.close(0.0)
    with pytest.raises(LocalProtocolError, match="closed"):
        opened.socket.join("room:2", {}, 0.0)
    with pytest.raises(LocalProtocolError):
        opened.socket.push(Push("room:1", "e", {}), 0.0)

    assert opened.socket.leave("room:1", 0.0) == []
    assert opened.reply("1", "room:1", join_ref="1") == []
    assert opened.say("1", "1", "room:1", "phx_close") == []
    assert opened.sent() == []
    assert opened.socket.joined_topics == opened.socket.pending_pushes == 0


def test_a_connection_can_be_given_up_for_the_next_one(opened):
    """The owner closes it, and dials again within a second; what was joined is joined again."""
    opened.joined("room:1")

    assert opened.socket.reconnect("a fresh token") == [CloseDue(1000, "a fresh token")]
    assert opened.socket.reconnect("again") == []
    [closed, *_] = opened.socket.closed(1000, "", opened.now)

    assert (closed.cause, closed.delay is not None and closed.delay < 1.0) == (Cause.REQUESTED, True)
    assert opened.socket.reconnect("while it waits") == []
    opened.open()
    opened.accept("room:1")


def test_a_connection_that_is_closed_for_good_is_not_given_up(opened):
    """Closing counts more."""
    opened.socket.close(opened.now)

    assert opened.socket.reconnect("a fresh token") == []
