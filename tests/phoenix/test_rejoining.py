"""What ends a channel, and what brings it back (`rig.phoenix.channels`)."""

import pytest

from rig.phoenix import events
from rig.phoenix.channel import ChannelState
from rig.phoenix.events import ChannelClosed, ChannelErrored, Joined, JoinTimedOut

CRASH = {"reason": "channel_crash"}


def test_crash_leads_to_one_rejoin(opened):
    """A crashed channel is joined again once, after its delay, with a new join_ref."""
    opened.joined("room:1")
    assert opened.say("1", "1", "room:1", "phx_error", CRASH) == [ChannelErrored("room:1", CRASH, 0.5)]
    assert opened.socket.joined_topics == 0
    assert opened.say("1", "1", "room:1", "phx_error", CRASH) == []
    assert opened.sent() == []

    opened.advance(0.5)

    assert opened.sent() == [["2", "2", "room:1", "phx_join", {}]]
    assert opened.say("1", "1", "room:1", "phx_error", CRASH) == []
    assert opened.reply("2", "room:1", join_ref="2") == [Joined("room:1", {}, rejoined=True)]
    opened.advance(10.0)
    assert opened.sent() == []


def test_crash_while_joining(opened):
    """A channel that crashes before its join is answered is joined again, and the join's time-out is off."""
    opened.socket.join("room:1", {}, 0.0)
    opened.sent()

    assert opened.say("1", "1", "room:1", "phx_error", CRASH) == [ChannelErrored("room:1", CRASH, 0.5)]
    opened.advance(0.5)
    assert opened.sent() == [["2", "2", "room:1", "phx_join", {}]]
    assert opened.advance(9.9) == []


def test_one_crash_leaves_the_others_alone(opened):
    """A crash is about its own topic."""
    opened.joined("room:1")
    opened.joined("room:2")
    opened.say("1", "1", "room:1", "phx_error", CRASH)

    assert opened.socket.channel_state("room:2") is ChannelState.JOINED


def test_stop_is_final(opened):
    """A channel that the server closed is gone, is not joined again, and can be joined anew."""
    opened.joined("room:1")

    assert opened.say("1", "1", "room:1", "phx_close") == [ChannelClosed("room:1", left=False, delay=None)]
    assert opened.advance(14.0) == []
    assert opened.sent() == []
    assert opened.socket.channel_state("room:1") is ChannelState.CLOSED
    assert opened.joined("room:1") == "2"


def test_stop_with_rejoin_stopped(peer):
    """With `rejoin_stopped` a channel that the server closed is joined again after its delay."""
    p = peer(rejoin_stopped=True)
    p.open()
    p.joined("room:1")

    assert p.say("1", "1", "room:1", "phx_close") == [ChannelClosed("room:1", left=False, delay=0.5)]
    assert p.say("1", "1", "room:1", "phx_close") == []
    p.advance(0.5)
    assert p.sent() == [["2", "2", "room:1", "phx_join", {}]]
    assert p.reply("2", "room:1", join_ref="2") == [Joined("room:1", {}, rejoined=True)]


@pytest.mark.parametrize("rejoin_stopped", [False, True])
def test_leave_is_never_joined_again(peer, rejoin_stopped):
    """The close that follows a leave is the owner's wish, whatever `rejoin_stopped` says."""
    p = peer(rejoin_stopped=rejoin_stopped)
    p.open()
    p.joined("room:1")
    p.socket.leave("room:1", p.now)

    assert p.say("1", "1", "room:1", "phx_close") == [ChannelClosed("room:1", left=True)]
    assert p.advance(14.0) == []


def test_stale_close_of_a_duplicate_join(opened):
    """The close of an earlier life, which comes after the new join's reply, does not touch the new one."""
    opened.joined("room:1")
    opened.socket.leave("room:1", 0.0)
    assert opened.socket.join("room:1", {}, 0.0) == [ChannelClosed("room:1", left=True)]
    opened.accept("room:1")

    assert opened.say("1", "1", "room:1", "phx_close") == []
    assert opened.say("1", "1", "room:1", "phx_error") == []
    assert opened.socket.channel_state("room:1") is ChannelState.JOINED


@pytest.mark.parametrize("event", ["phx_close", "phx_error", "phx_reply", "phx_join", "phx_leave"])
def test_broadcast_of_a_reserved_name_is_an_ordinary_event(opened, event):
    """An application may broadcast such names: without a ref they are events like any other."""
    opened.joined("room:1")

    [received] = opened.say(None, None, "room:1", event, {"n": 1})

    assert isinstance(received, events.MessagesReceived)
    assert [m.event for m in received.messages] == [event]
    assert opened.socket.channel_state("room:1") is ChannelState.JOINED


def test_close_of_a_topic_that_is_not_known(opened):
    """A close or an error for a topic that nobody wanted means nothing."""
    assert opened.say("1", "1", "room:9", "phx_close") == []
    assert opened.say("1", "1", "room:9", "phx_error") == []


def test_crash_with_a_payload_that_is_no_json(opened):
    """A `phx_error` whose payload cannot be read is rejected as a whole: nothing is lost, nothing half done."""
    opened.joined("room:1")
    push = opened.push("room:1")
    frame = opened.frame("1", "1", "room:1", "phx_error", "@").replace(b'"@"', b"1e999")

    [rejected] = opened.socket.receive([frame], 0.0)

    assert (rejected.count, rejected.sample) == (1, frame)
    assert opened.socket.channel_state("room:1") is ChannelState.JOINED
    assert opened.reply(push.ref, "room:1", join_ref="1") == [events.ReplyReceived(push, "ok", {})]


def test_crash_with_such_a_payload_while_joining(opened):
    """A rejected `phx_error` leaves the join's time-out as it was: the channel is not forgotten."""
    opened.socket.join("room:1", {}, 0.0)
    opened.socket.receive([opened.frame("1", "1", "room:1", "phx_error", "@").replace(b'"@"', b"1e999")], 0.0)

    assert opened.advance(10.0) == [JoinTimedOut("room:1", 0.5)]


# Losing the connection.


def test_reconnect_joins_everything_again(opened):
    """After a reconnect every topic that was wanted is joined with a new join_ref, whatever its state was."""
    opened.joined("joined")
    opened.joined("crashed")
    opened.say("2", "2", "crashed", "phx_error", CRASH)
    opened.socket.join("joining", {}, 0.0)
    opened.joined("leaving")
    opened.socket.leave("leaving", 0.0)
    opened.sent()

    received = opened.socket.closed(1006, "", 0.0)

    assert received[1:] == [ChannelClosed("leaving", left=True)]
    assert opened.socket.joined_topics == 0
    opened.open()
    assert [f[2] for f in opened.sent()] == ["joined", "crashed", "joining"]
    assert opened.advance(9.0) == []
    assert opened.sent() == []


def test_frames_of_a_lost_connection_are_not_sent_on_the_next(opened):
    """A frame that was not sent in time does not turn up on the next connection."""
    opened.joined("room:1")
    opened.push("room:1")
    opened.socket.closed(1006, "", 0.0)
    opened.open()

    assert [f[3] for f in opened.sent()] == ["phx_join"]
