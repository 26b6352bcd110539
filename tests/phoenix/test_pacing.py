"""`rig.phoenix.pacing`, and the joins that it spreads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import LocalProtocolError
from rig.phoenix.channel import ChannelState
from rig.phoenix.events import ChannelClosed, JoinRejected, ReplyReceived
from rig.phoenix.pacing import BURST, Pace

TOPICS = [f"room:{number}" for number in range(50)]


def joins(peer):
    """Return the topics of the joins that are sent now."""
    return [frame[2] for frame in peer.sent() if frame[3] == "phx_join"]


def wanting(peer, *, topics=TOPICS, **options):
    """Return a peer that wants topics, and is not connected."""
    p = peer(heartbeat_interval=1e6, **options)
    for topic in topics:
        p.socket.join(topic, {}, p.now)
    return p


@given(st.floats(0.1, 1e5), st.lists(st.floats(0.0, 1.0), max_size=200))
def test_no_more_than_a_burst_in_the_time_of_a_burst(rate, gaps):
    """However the moments lie at which joins are wanted, each span of a burst's length sees a burst at most."""
    pace, now, allowed = Pace(rate), 0.0, []
    for gap in gaps:
        now += gap * 5 / rate
        if pace.allow(now):
            allowed.append(now)

    for first, later in zip(allowed, allowed[BURST:], strict=False):
        assert later - first >= BURST / rate * (1 - 1e-9)


@given(st.floats(0.1, 1e5))
def test_the_next_moment_is_one_at_which_a_join_is_allowed(rate):
    """A timer that is set for it never fires in vain."""
    pace, now = Pace(rate), 7.0
    for _ in range(5):
        assert [pace.allow(now) for _ in range(BURST + 1)] == [True] * BURST + [False]
        assert pace.next == pytest.approx(now + BURST / rate)
        now = pace.next


def test_topics_are_joined_in_bursts(peer):
    """The first burst at once, each further one when the rate allows it, in the order in which they were wanted."""
    p = wanting(peer, join_rate=1000.0)
    p.open()

    assert joins(p) == TOPICS[:20]
    assert p.socket.deadline == pytest.approx(0.02)
    p.advance(0.0199)
    assert joins(p) == []
    p.advance(0.0002)
    assert joins(p) == TOPICS[20:40]
    p.advance(0.02)
    assert joins(p) == TOPICS[40:]


def test_500_topics_take_half_a_second_at_the_usual_rate(peer):
    """A server hears of a large application over some time, and not in one millisecond."""
    p = wanting(peer, topics=[f"room:{number}" for number in range(500)])
    p.open()
    heard = [len(joins(p))]
    while sum(heard) < 500:
        p.step()
        heard.append(len(joins(p)))

    assert heard == [20] * 25
    assert p.now == pytest.approx(0.48)


def test_a_rate_of_0_joins_all_at_once(peer):
    """As phoenix.js does."""
    p = wanting(peer, join_rate=0.0)
    p.open()

    assert joins(p) == TOPICS


def test_what_is_wanted_while_others_wait_waits_behind_them(peer):
    """Nobody overtakes."""
    p = wanting(peer)
    p.open()
    joins(p)
    p.socket.join("late", {}, p.now)
    assert joins(p) == []
    p.advance(1.0)

    assert joins(p) == [*TOPICS[20:], "late"]


def test_a_payload_that_cannot_be_sent_is_told_at_once_though_the_join_waits(peer):
    """It is a mistake of the caller's, who is there now."""
    p = wanting(peer)
    p.open()
    with pytest.raises(LocalProtocolError, match="cannot be written"):
        p.socket.join("bad", {"x": object()}, p.now)

    assert p.socket.channel_state("bad") is ChannelState.CLOSED
    assert p.socket.join("bad", {}, p.now) == []


def test_the_time_out_of_a_join_begins_when_it_is_sent(peer):
    """One that waits for its turn is not late."""
    p = wanting(peer, join_rate=2.0, join_timeout=5.0)
    p.open()
    for topic in joins(p):
        join_ref = p.socket.join_ref(topic)
        p.reply(join_ref, topic, join_ref=join_ref)
    p.advance(9.9)
    assert joins(p) == []
    p.advance(0.2)
    assert joins(p) == TOPICS[20:40]

    assert p.advance(4.8) == []
    assert {type(event).__name__ for event in p.advance(0.2)} == {"JoinTimedOut"}


def test_leaving_a_topic_that_waits_sends_nothing(peer):
    """The server never hears of it, and the others keep their turn."""
    p = wanting(peer)
    p.open()
    joins(p)

    assert p.socket.leave(TOPICS[20], p.now) == [ChannelClosed(TOPICS[20], True)]
    p.advance(1.0)

    assert [frame[2:4] for frame in p.sent()] == [[topic, "phx_join"] for topic in TOPICS[21:]]


def test_a_push_to_a_topic_that_waits_is_sent_once_it_is_joined(peer):
    """As to any topic that is not joined yet."""
    p = wanting(peer)
    p.open()
    p.sent()
    push = p.push(TOPICS[49], "hello")
    assert p.sent() == []
    p.advance(1.0)
    p.accept(TOPICS[49])

    [[join_ref, ref, topic, event, _]] = p.sent()
    assert (topic, event) == (TOPICS[49], "hello")
    assert p.reply(ref, topic, join_ref=join_ref) == [ReplyReceived(push, "ok", {})]


def test_a_push_to_a_topic_that_waits_too_long_times_out(peer, kinds):
    """Its time counts from the call."""
    p = wanting(peer, join_rate=1.0)
    p.open()
    p.sent()
    p.push(TOPICS[49], timeout=3.0)

    assert "PushTimedOut" in kinds(p.advance(3.0))


def test_a_connection_lost_while_topics_wait_joins_all_of_them_on_the_next(peer):
    """In bursts again, and none twice."""
    p = wanting(peer)
    p.open()
    assert joins(p) == TOPICS[:20]
    p.socket.closed(1006, "", p.now)
    p.advance(0.4)
    assert joins(p) == []
    p.open()

    assert joins(p) == TOPICS[:20]
    p.advance(1.0)
    assert joins(p) == TOPICS[20:]


def test_closing_while_topics_wait_ends_all(peer):
    """Nothing is sent and nothing due after it."""
    p = wanting(peer)
    p.open()
    joins(p)
    p.socket.close(p.now)

    assert p.socket.deadline == float("inf")
    assert joins(p) == []


def test_channels_that_crash_together_are_joined_again_in_bursts(peer):
    """A crash of all channels of a server is no flood of joins, however short the delays."""
    p = wanting(peer, join_rate=1000.0)
    p.open()
    p.advance(1.0)
    for join_ref, _, topic, event, _ in p.sent():
        assert event == "phx_join"
        p.reply(join_ref, topic, join_ref=join_ref)
    p.chance = 0.0
    for topic in TOPICS:
        join_ref = p.socket.join_ref(topic)
        p.say(join_ref, join_ref, topic, "phx_error")
    p.socket.handle_timeout(p.now)
    assert len(joins(p)) == 20
    p.advance(0.02)
    assert len(joins(p)) == 20
    p.advance(0.02)
    assert len(joins(p)) == 10


def test_a_payload_that_cannot_be_made_at_its_turn_counts_as_refused(peer):
    """It is tried again later, and the topics behind it are joined."""

    def broken():
        raise RuntimeError("no token")

    p = peer(heartbeat_interval=1e6)
    for topic in TOPICS[:20]:
        p.socket.join(topic, {}, p.now)
    p.socket.join("broken", broken, p.now)
    p.socket.join("last", {}, p.now)
    p.open()
    joins(p)
    received = p.step()

    assert [event.topic for event in received if isinstance(event, JoinRejected)] == ["broken"]
    assert joins(p) == ["last"]
