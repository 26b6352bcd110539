"""Leaving a topic, in every state it can be in (`rig.phoenix.channels`)."""

import pytest

from rig.phoenix.channel import ChannelState
from rig.phoenix.events import ChannelClosed, Joined


def test_leave(opened):
    """A leave carries the join_ref; its reply closes the channel, and the close that follows means nothing."""
    opened.joined("room:1")
    assert opened.socket.leave("room:1", 0.0) == []
    assert opened.sent() == [["1", "2", "room:1", "phx_leave", {}]]
    assert opened.socket.channel_state("room:1") is ChannelState.LEAVING

    assert opened.reply("2", "room:1", join_ref="1") == [ChannelClosed("room:1", left=True)]
    assert opened.say("1", "1", "room:1", "phx_close") == []
    assert opened.socket.channel_state("room:1") is ChannelState.CLOSED
    assert opened.advance(12.0) == []


@pytest.mark.parametrize("event", ["phx_close", "phx_error"])
def test_leave_without_a_reply(opened, event):
    """The leave's reply may be missing: the close alone, or a crash on the way out, is enough."""
    opened.joined("room:1")
    opened.socket.leave("room:1", 0.0)

    assert opened.say("1", "1", "room:1", event) == [ChannelClosed("room:1", left=True)]
    assert opened.advance(12.0) == []


def test_leave_that_is_not_answered(opened):
    """A leave that nobody answers is over after the join time-out."""
    opened.joined("room:1")
    opened.socket.leave("room:1", 0.0)

    assert opened.advance(9.9) == []
    assert opened.advance(0.1) == [ChannelClosed("room:1", left=True)]


def test_leave_twice(opened):
    """Leaving what is being left, or was never joined, does nothing."""
    opened.joined("room:1")
    opened.socket.leave("room:1", 0.0)
    opened.sent()

    assert opened.socket.leave("room:1", 0.0) == []
    assert opened.socket.leave("room:9", 0.0) == []
    assert opened.sent() == []


def test_leave_while_joining(opened):
    """A join can be taken back before it is answered: its late reply does not join."""
    opened.socket.join("room:1", {}, 0.0)
    opened.socket.leave("room:1", 0.0)
    assert [f[3] for f in opened.sent()] == ["phx_join", "phx_leave"]

    assert opened.reply("1", "room:1", join_ref="1") == []
    assert opened.reply("2", "room:1", join_ref="1") == [ChannelClosed("room:1", left=True)]


def test_leave_while_disconnected(peer):
    """Without a connection a leave is done at once, and the topic is not joined at the next one."""
    p = peer()
    p.socket.join("room:1", {}, 0.0)

    assert p.socket.leave("room:1", 0.0) == [ChannelClosed("room:1", left=True)]
    p.open()
    assert p.sent() == []


def test_leave_while_waiting_to_rejoin(opened):
    """Leaving a crashed channel calls its rejoin off."""
    opened.joined("room:1")
    opened.say("1", "1", "room:1", "phx_error")

    assert opened.socket.leave("room:1", 0.0) == [ChannelClosed("room:1", left=True)]
    assert opened.advance(14.0) == []
    assert opened.sent() == []


def test_leave_then_join_at_once(opened):
    """A topic left and joined in one breath is joined; what is still said about its former life means nothing."""
    opened.joined("room:1")
    opened.socket.leave("room:1", 0.0)
    assert opened.socket.join("room:1", {"n": 2}, 0.0) == [ChannelClosed("room:1", left=True)]
    assert opened.sent() == [["1", "2", "room:1", "phx_leave", {}], ["3", "3", "room:1", "phx_join", {"n": 2}]]

    assert opened.reply("2", "room:1", join_ref="1") == []
    assert opened.say("1", "1", "room:1", "phx_close") == []
    assert opened.reply("3", "room:1", join_ref="3") == [Joined("room:1", {}, rejoined=False)]
    assert opened.advance(12.0) == []
