"""
What users of other Phoenix clients reported, and must never see with this one. Each test is named after the complaint; the thread
is in its docstring. Those that need a real connection are in tests/regressions.
"""

import random

import pytest

from rig.backoff import Cause
from rig.phoenix import SocketState
from rig.phoenix.channel import ChannelState
from rig.phoenix.events import CloseDue, ConnectDue, Joined, PushInterrupted, PushTimedOut, SocketClosed


def test_a_network_blip_closed_with_1000_and_the_reconnect_was_never_scheduled(opened):
    """A close that nobody here asked for is followed by a reconnect, 1000 too (phoenixframework/phoenix#3161)."""
    opened.joined("room:1")

    [closed] = opened.socket.closed(1000, "", opened.now)

    assert closed.delay is not None
    assert opened.advance(closed.delay) == [ConnectDue(1)]
    opened.socket.opened(opened.now)
    opened.accept("room:1")


def test_the_heartbeat_timed_out_and_it_was_never_retried_again(opened):
    """Giving a dead link up is no wish to leave, whatever code the close then has (phoenixframework/phoenix#4944)."""
    opened.joined("room:1")
    for code in (1000, 1006):
        given_up = opened.advance(25.0)
        assert CloseDue(1000, "heartbeat timeout") in given_up

        [closed] = opened.socket.closed(code, "heartbeat timeout", opened.now)

        assert closed.cause is Cause.HEARTBEAT_LOST
        assert any(isinstance(event, ConnectDue) for event in opened.advance(closed.delay))
        opened.socket.opened(opened.now)
        opened.accept("room:1")


def test_only_an_abnormal_close_reconnected(peer):
    """A clean close by the server (1000, 1001, 1012) is an interruption like any other (supabase/realtime-py#311)."""
    for code in (1000, 1001, 1005, 1012):
        p = peer()
        p.open()
        p.socket.closed(code, "", p.now)
        assert p.socket.state is SocketState.WAITING
        assert ConnectDue(1) in p.advance(1.0)


def test_the_reconnect_lost_what_the_channel_had_been_joined_with(opened):
    """A rejoin says what the join said (supabase/realtime-py#213)."""
    opened.joined("room:1", {"filter": {"table": "orders"}, "since": 41})
    for _ in range(3):
        opened.socket.closed(1006, "", opened.now)
        opened.open()
        [join] = opened.sent()
        assert join[3:] == ["phx_join", {"filter": {"table": "orders"}, "since": 41}]
        opened.reply(join[1], "room:1", join_ref=join[0])


def test_a_late_reply_with_an_unknown_ref_killed_the_listener(opened):
    """A reply that nobody waits for means nothing, and what follows in the same read counts (supabase/supabase-py#1387)."""
    opened.joined("room:1")
    late = opened.push("room:1", timeout=1.0)
    assert opened.advance(1.0) == [PushTimedOut(late)]
    waiting = opened.push("room:1")
    ok = {"status": "ok", "response": {}}

    received = opened.socket.receive(
        [
            opened.frame("1", late.ref, "room:1", "phx_reply", ok),
            opened.frame("77", "999", "room:9", "phx_reply", ok),
            opened.frame(None, "998", "phoenix", "phx_reply", ok),
            opened.frame("1", waiting.ref, "room:1", "phx_reply", ok),
        ],
        opened.now,
    )

    assert [event.push for event in received] == [waiting]


@pytest.mark.parametrize("seed", range(5))
def test_it_kept_on_reconnecting_every_millisecond(peer, seed):
    """A server that is down is dialled a few times in the first minute, then every half minute (phoenix-socket-dart#34)."""
    p = peer()
    p.socket._link._random = random.Random(seed).random
    p.socket.connect(0.0)
    dials = []
    while p.now < 3600.0:
        dials.append(p.now)
        p.socket.connect_failed(Cause.UNREACHABLE, "refused", p.now)
        p.step()

    assert len([at for at in dials if at < 60.0]) < 20
    assert 120 < len(dials) < 400


def test_it_received_nothing_any_more_without_giving_an_error(opened):
    """A link that looks open and says nothing is found within 25 s, and told (supabase/supabase-py#1134)."""
    opened.joined("room:1")

    received = opened.advance(25.0)

    assert CloseDue(1000, "heartbeat timeout") in received
    assert [event for event in opened.socket.closed(1006, "", opened.now) if isinstance(event, SocketClosed)]
    assert opened.socket.channel_state("room:1") is ChannelState.ERRORED


def test_it_was_closed_every_30_seconds_for_a_heartbeat_of_the_old_connection(opened):
    """Nothing that the old connection waited for is held against the new one (phoenixframework/phoenix#3083)."""
    opened.advance(15.0)
    opened.sent()
    opened.socket.closed(1006, "", opened.now)
    opened.open()

    for _ in range(20):
        received = opened.step()
        assert not any(isinstance(event, CloseDue) for event in received)
        for _, ref, topic, _, _ in opened.sent():
            opened.reply(ref, topic)


def test_heartbeats_were_not_sent_at_their_interval(opened):
    """Whatever else goes on, no two heartbeats are further apart than their interval (firezone/firezone#4484)."""
    opened.joined("room:1")
    opened.sent()
    times = []
    while opened.now < 120.0:
        opened.advance(0.5)
        opened.say(None, None, "room:1", "tick")
        for _, ref, topic, _, _ in opened.sent():
            times.append(opened.now)
            opened.reply(ref, topic)

    assert times == [15.0 * i for i in range(1, 9)]


def test_a_channel_that_was_removed_joined_again_on_every_reconnect(opened):
    """A channel that was left, is being left or was stopped is gone for good, and leaves nothing (supabase/supabase-py#1371)."""
    for how in ("left", "leaving", "stopped"):
        ref = opened.joined(how)
        if how == "stopped":
            opened.say(ref, ref, how, "phx_close")
        else:
            opened.socket.leave(how, opened.now)
            [leave] = opened.sent()
            if how == "left":
                opened.reply(leave[1], how, join_ref=ref)
    opened.joined("stays")

    for _ in range(3):
        opened.socket.closed(1006, "", opened.now)
        opened.open()
        assert [f[2] for f in opened.sent() if f[3] == "phx_join"] == ["stays"]
    assert len(opened.socket._channels) == 1


def test_after_a_reconnect_every_push_on_the_old_channel_failed(opened):
    """After the rejoin pushes carry the new join_ref; before it they wait (phoenixframework/phoenix#3669)."""
    first = opened.joined("room:1")
    opened.socket.closed(1006, "", opened.now)
    waiting = opened.push("room:1")
    opened.open()
    second = opened.accept("room:1")
    [sent] = opened.sent()
    later = opened.push("room:1")

    assert second != first
    assert (sent[0], sent[1]) == (second, waiting.ref)
    assert [f[:2] for f in opened.sent()] == [[second, later.ref]]


def test_nobody_knew_if_a_message_had_been_sent_twice(opened):
    """A push that was sent when the link went is told as interrupted, and never sent again (supabase/supabase-py#1543)."""
    opened.joined("room:1")
    push = opened.push("room:1", "order", {"n": 1})
    assert [f[3] for f in opened.sent()] == ["order"]

    received = opened.socket.closed(1006, "", opened.now)
    opened.open()
    opened.accept("room:1")
    opened.advance(60.0)

    assert [event.push for event in received if isinstance(event, PushInterrupted)] == [push]
    assert all(f[3] == "heartbeat" for f in opened.sent())


def test_channels_joined_again_for_ever_after_a_reconnect(opened):
    """One rejoin a reconnect and topic; one that succeeded is not repeated (phoenixframework/phoenix#1579)."""
    opened.joined("room:1")
    opened.say("1", "1", "room:1", "phx_error")
    opened.socket.closed(1006, "", opened.now)
    opened.open()
    [join] = opened.sent()
    assert opened.reply(join[1], "room:1", join_ref=join[0]) == [Joined("room:1", {}, rejoined=True)]

    opened.advance(14.0)

    assert opened.sent() == []


def test_leave_and_join_back_to_back_and_stuck_in_closed(opened):
    """The reply to the leave of the earlier life does not close the new one (supabase/supabase-py#1337)."""
    opened.joined("room:1")
    opened.socket.leave("room:1", opened.now)
    opened.socket.join("room:1", {}, opened.now)
    leave, join = opened.sent()

    opened.reply(leave[1], "room:1", join_ref=leave[0])
    opened.say(leave[0], leave[0], "room:1", "phx_close")

    assert opened.reply(join[1], "room:1", join_ref=join[0]) == [Joined("room:1", {}, rejoined=False)]
    assert opened.socket.channel_state("room:1") is ChannelState.JOINED


def test_thousands_came_back_in_the_same_moment(peer):
    """Clients that are cut off together spread their first attempt over a second, and their rejoins too (phoenix#4045)."""
    chances = random.Random(7)
    delays = []
    for _ in range(1000):
        p = peer()
        p.open()
        p.socket._link._random = chances.random
        [closed] = p.socket.closed(1012, "", p.now)
        delays.append(closed.delay)

    for tenth in range(10):
        assert 60 <= sum(tenth / 10 <= delay < (tenth + 1) / 10 for delay in delays) <= 140
