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


def test_lasting_join_whose_payload_raises_at_once(opened):
    """It counts as refused, as at a rejoin: the topic stays wanted, and is tried again."""
    fails = [True]

    def payload():
        if fails:
            raise KeyError("no token")
        return {}

    [rejected] = opened.socket.join("room:1", payload, opened.now, lasting=True)

    assert (rejected.topic, rejected.delay) == ("room:1", 0.5)
    assert "no token" in rejected.response["reason"]
    assert opened.sent() == []
    fails.clear()
    assert opened.advance(0.5) == []
    assert opened.accept("room:1")


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
        [rejected] = opened.reply(ref, "room:1", {"reason": "full"}, status="error", join_ref=ref)
        assert rejected == JoinRejected("room:1", {"reason": "full"}, rejected.delay)
        delays.append(rejected.delay)
        opened.advance(rejected.delay)

    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_an_accepted_join_is_sent_once(peer):
    """After the answer nothing more is sent for the channel, however long it lives, and no time-out comes."""
    p = peer(heartbeat_interval=1e9)
    p.open()
    p.joined("room:1")

    assert p.advance(1e6) == []
    assert p.sent() == []


@pytest.mark.parametrize(("first", "second"), [("ok", "error"), ("error", "ok"), ("ok", "ok"), ("error", "error")])
def test_a_second_answer_to_a_join_means_nothing(opened, first, second):
    """The first answer counts."""
    opened.socket.join("room:1", {}, 0.0)
    opened.reply("1", "room:1", status=first, join_ref="1")
    state = opened.socket.channel_state("room:1")

    assert opened.reply("1", "room:1", status=second, join_ref="1") == []
    assert opened.socket.channel_state("room:1") is state


def test_join_time_outs_back_off(peer):
    """Each join that is not answered is taken back by a leave, and the next comes later each time; one that is answered joins."""
    p = peer(heartbeat_interval=1e9)
    p.open()
    p.chance = 1.0
    p.socket.join("room:1", {}, 0.0)
    delays = []
    for _ in range(6):
        [join] = p.sent()
        [timed_out] = p.advance(10.0)
        delays.append(timed_out.delay)
        assert [[f[0], f[3]] for f in p.sent()] == [[join[0], "phx_leave"]]
        p.advance(timed_out.delay)

    assert join[3] == "phx_join"
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    p.accept("room:1")


# Refused as unauthorised.

REFUSED = {"reason": "unauthorized"}


def refuse(peer, response):
    """Let the server refuse the join that is among the frames, and return the event."""
    [ref] = [f[1] for f in peer.sent() if f[3] == "phx_join"]
    [rejected] = peer.reply(ref, "room:1", response, status="error", join_ref=ref)
    return rejected


@pytest.mark.parametrize(
    ("response", "unauthorized"),
    [
        ({"reason": "unauthorized"}, True),
        ({"reason": "Forbidden"}, True),
        ({"reason": "unauthenticated", "more": 1}, True),
        ("unauthorized", True),
        ({"reason": "room is full"}, False),
        ({"reason": None}, False),
        ({}, False),
        ([], False),
    ],
)
def test_a_refusal_tells_whether_it_is_about_the_token(opened, response, unauthorized):
    """The owner hears when a fresh token is called for."""
    opened.socket.join("room:1", {}, 0.0)

    rejected = refuse(opened, response)

    assert (rejected.response, rejected.unauthorized) == (response, unauthorized)


def test_an_expired_token_costs_one_quick_retry(opened):
    """The first retry comes within two seconds, and asks the payload again: with a fresh token it joins."""
    tokens = iter(["old", "fresh"])
    opened.socket.join("room:1", lambda: {"token": next(tokens)}, 0.0)

    assert 1.0 <= refuse(opened, REFUSED).delay < 2.0
    opened.advance(2.0)

    [[ref, _, _, _, payload]] = opened.sent()
    assert payload == {"token": "fresh"}
    assert isinstance(opened.reply(ref, "room:1", join_ref=ref)[0], Joined)


@pytest.mark.parametrize("chance", [0.0, 0.999])
def test_a_token_that_stays_bad_is_tried_once_a_minute(peer, chance):
    """From the second refusal in a row on at least 60 s pass, so that a server that says no is not asked every few seconds."""
    p = peer(heartbeat_interval=1e9)
    p.open()
    p.chance = chance
    p.socket.join("room:1", {}, 0.0)

    delays = []
    for _ in range(6):
        delays.append(refuse(p, REFUSED).delay)
        assert p.advance(delays[-1] - 0.001) == []
        assert p.socket.frames_to_send() == []
        p.advance(0.001)

    assert 1.0 <= delays[0] < 2.0
    assert all(60.0 <= delay <= 90.0 for delay in delays[1:])


def test_an_accepted_join_ends_the_slow_lane(peer):
    """After a join that succeeded, the next refusal is the first one again; and so it is after another answer."""
    p = peer(heartbeat_interval=1e9)
    p.open()
    p.socket.join("room:1", {}, 0.0)
    for _ in range(2):
        p.advance(refuse(p, REFUSED).delay)
    [join_ref] = [f[1] for f in p.sent()]
    p.reply(join_ref, "room:1", join_ref=join_ref)
    p.say(join_ref, join_ref, "room:1", "phx_error", CRASH)
    p.advance(1.0)
    first = refuse(p, REFUSED)
    p.advance(first.delay)
    other = refuse(p, {"reason": "full"})
    p.advance(other.delay)
    again = refuse(p, REFUSED)

    assert first.delay < 2.0
    assert other.delay < 60.0
    assert again.delay < 2.0


def test_the_slow_lane_holds_over_a_reconnect(peer):
    """A reconnect tries at once, as it does with every channel, but a refusal then is no first one."""
    p = peer(heartbeat_interval=1e9)
    p.open()
    p.socket.join("room:1", {}, 0.0)
    p.advance(refuse(p, REFUSED).delay)
    p.sent()
    p.socket.closed(1006, "", p.now)
    p.open()

    assert refuse(p, REFUSED).delay >= 60.0


def test_only_the_refused_channel_is_slow(peer):
    """Another topic's joins have their own count."""
    p = peer(heartbeat_interval=1e9)
    p.open()
    p.socket.join("room:1", {}, 0.0)
    for _ in range(2):
        p.advance(refuse(p, REFUSED).delay)
    p.sent()
    p.socket.join("room:2", {}, p.now)
    [[ref, *_]] = p.sent()

    [rejected] = p.reply(ref, "room:2", REFUSED, status="error", join_ref=ref)

    assert rejected.delay < 2.0


def test_an_accepted_join_resets_the_rejoin_delay(opened):
    """After a join that succeeded the first rejoin is quick again."""
    opened.chance = 1.0
    opened.socket.join("room:1", {}, 0.0)
    opened.reply("1", "room:1", status="error", join_ref="1")
    opened.step()
    opened.reply("2", "room:1", join_ref="2")

    [errored] = opened.say("2", "2", "room:1", "phx_error", CRASH)

    assert errored.delay == 1.0


def test_join_ref_names_the_present_life(opened):
    """Each join has a ref of its own, which the owner can ask for; a channel that is not in life has none."""
    assert opened.socket.join_ref("room:1") is None
    opened.joined("room:1")
    assert opened.socket.join_ref("room:1") == "1"
    opened.say("1", "1", "room:1", "phx_error", CRASH)
    assert opened.socket.join_ref("room:1") is None
    opened.advance(0.5)
    assert opened.socket.join_ref("room:1") == "2"

    opened.socket.leave("room:1", opened.now)
    assert opened.socket.join_ref("room:1") is None


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
