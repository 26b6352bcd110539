"""`rig.phoenix.channels`: joins, leaves, and what ends a channel."""

import pytest

from rig.errors import LocalProtocolError
from rig.phoenix.channel import ChannelState
from rig.phoenix.events import Joined, JoinRejected, JoinTimedOut

CRASH = {"reason": "channel_crash"}


def test_join(opened):
    """A join carries its own ref as join_ref, and its payload; the answer's response is handed on."""
    assert opened.socket.join("room:1", {"a": 1}, 0.0) == []
    assert opened.sent() == [["1", "1", "room:1", "phx_join", {"a": 1}]]
    assert opened.socket.channel_state("room:1") is ChannelState.JOINING

    assert opened.reply("1", "room:1", {"x": [1]}, join_ref="1") == [Joined("room:1", {"x": [1]}, rejoined=False)]
    assert opened.socket.channel_state("room:1") is ChannelState.JOINED
    assert opened.socket.joined_topics == 1


def test_join_before_the_connection(peer):
    """A topic joined early is joined when the connection opens, in the order of the calls."""
    p = peer()
    for topic in ("a", "b"):
        assert p.socket.join(topic, {}, 0.0) == []
    assert p.sent() == []
    p.open()

    assert [f[2] for f in p.sent()] == ["a", "b"]


@pytest.mark.parametrize("state", ["before", "joining", "joined", "errored"])
def test_join_twice(peer, state):
    """A topic that is wanted already cannot be joined again, and nothing changes."""
    p = peer()
    p.socket.join("room:1", {}, 0.0)
    if state != "before":
        p.open()
    if state in ("joined", "errored"):
        p.accept("room:1")
    if state == "errored":
        p.say("1", "1", "room:1", "phx_error")
    p.sent()

    with pytest.raises(LocalProtocolError, match="joined already"):
        p.socket.join("room:1", {}, 0.0)
    assert p.sent() == []


def test_join_payload_is_asked_at_each_join(opened):
    """A callable payload is called for the first join, for a rejoin, and after a reconnect."""
    asked = []
    payload = lambda: asked.append(1) or {"last_seen_id": len(asked)}  # noqa: E731
    opened.socket.join("room:1", payload, 0.0)
    assert opened.sent()[0][4] == {"last_seen_id": 1}
    opened.reply("1", "room:1", join_ref="1")
    opened.say("1", "1", "room:1", "phx_error", CRASH)
    opened.step()
    assert opened.sent()[0][4] == {"last_seen_id": 2}
    opened.socket.closed(1006, "", opened.now)
    opened.open()

    assert opened.sent()[0][4] == {"last_seen_id": 3}


def test_join_payload_that_cannot_be_written(peer):
    """A payload that is no JSON is refused when it is named, whether the connection is open or not; nothing is kept of it."""
    p = peer()
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="cannot be written"):
            p.socket.join("room:1", {"a": object()}, p.now)
        assert p.socket.channel_state("room:1") is ChannelState.CLOSED
        if p.socket.state.name == "IDLE":
            p.open()

    assert p.joined("room:1")


def test_join_payload_that_raises_at_a_rejoin(opened):
    """A payload callable that fails at a reconnect costs its own join, which is tried again, and no other."""
    fails = []

    def payload():
        if fails:
            raise KeyError("no token")
        return {}

    opened.joined("room:1", payload)
    opened.joined("room:2")
    opened.socket.closed(1006, "", opened.now)
    fails.append(True)

    rejected = [e for e in opened.open() if isinstance(e, JoinRejected)]

    assert [(e.topic, e.delay) for e in rejected] == [("room:1", 0.5)]
    assert "no token" in rejected[0].response["reason"]
    assert [f[2] for f in opened.sent()] == ["room:2"]
    fails.clear()
    assert opened.advance(0.5) == []
    assert opened.accept("room:1")


def test_join_payload_that_raises_at_once(opened):
    """A payload callable that fails at the first join raises there, and the topic stays free."""
    with pytest.raises(ZeroDivisionError):
        opened.socket.join("room:1", lambda: 1 / 0, 0.0)

    assert opened.joined("room:1")


def test_refused_join_is_tried_again(peer):
    """A refused join is reported with its response and tried again with a new ref, each time with a longer ceiling."""
    opened = peer(heartbeat_interval=1e9)
    opened.open()
    opened.socket.join("room:1", {}, 0.0)
    opened.chance = 1.0
    delays = []
    for i in range(1, 8):
        [[join_ref, ref, *_]] = opened.sent()
        assert join_ref == ref == str(i)
        [rejected] = opened.reply(ref, "room:1", {"reason": "unauthorized"}, status="error", join_ref=ref)
        assert rejected == JoinRejected("room:1", {"reason": "unauthorized"}, rejected.delay)
        delays.append(rejected.delay)
        opened.advance(rejected.delay)

    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_an_accepted_join_resets_the_rejoin_delay(opened):
    """After a join that succeeded the first rejoin is quick again."""
    opened.chance = 1.0
    opened.socket.join("room:1", {}, 0.0)
    opened.reply("1", "room:1", status="error", join_ref="1")
    opened.step()
    opened.reply("2", "room:1", join_ref="2")

    [errored] = opened.say("2", "2", "room:1", "phx_error", CRASH)

    assert errored.delay == 1.0


def test_unrouted_join_has_no_join_ref(peer):
    """The server's "unmatched topic" has a null join_ref, and refuses the join all the same."""
    p = peer()
    p.open()
    p.socket.join("nope:1", {}, 0.0)

    [rejected] = p.reply("1", "nope:1", {"reason": "unmatched topic"}, status="error", join_ref=None)

    assert isinstance(rejected, JoinRejected)


def test_topic_named_phoenix_can_be_refused(opened):
    """A join of the topic of heartbeats is answered like any other."""
    opened.socket.join("phoenix", {}, 0.0)

    assert isinstance(opened.reply("1", "phoenix", status="error")[0], JoinRejected)


def test_join_timeout_leaves_and_joins_again(opened):
    """A join that is not answered in 10 s is taken back with a leave, and tried again; the late answer means nothing."""
    opened.socket.join("room:1", {}, 0.0)
    opened.sent()
    assert opened.advance(9.9) == []
    assert opened.advance(0.1) == [JoinTimedOut("room:1", 0.5)]
    assert opened.sent() == [["1", "2", "room:1", "phx_leave", {}]]
    assert opened.socket.channel_state("room:1") is ChannelState.ERRORED

    assert opened.reply("1", "room:1", join_ref="1") == []
    assert opened.advance(0.5) == []
    assert opened.sent() == [["3", "3", "room:1", "phx_join", {}]]
    assert opened.reply("1", "room:1", join_ref="1") == []
    assert opened.reply("2", "room:1", join_ref="1") == []
    assert opened.say("1", "1", "room:1", "phx_close") == []
    assert opened.reply("3", "room:1", {"n": 2}, join_ref="3") == [Joined("room:1", {"n": 2}, rejoined=False)]
