"""`rig.phoenix.pushes`: every push that wants a reply is resolved once."""

import math

import pytest

from rig.errors import LocalProtocolError
from rig.phoenix import Push
from rig.phoenix.events import ChannelClosed, ChannelErrored, PushInterrupted, PushTimedOut, ReplyReceived


def drained(p):
    """Tell whether no push waits for anything."""
    waiting = p.socket._channels._pushes
    return not waiting._pending and not waiting._held and not any(isinstance(key, Push) for key in p.socket._timers._set)


def test_push_and_reply(opened):
    """A push carries the channel's join_ref and a ref of its own; the reply to it resolves it, whatever its status."""
    opened.joined("room:1")
    push = opened.push("room:1", "echo", {"x": 1})
    assert push.ref == "2"
    assert opened.sent() == [["1", "2", "room:1", "echo", {"x": 1}]]
    assert opened.socket.pending_pushes == 1

    assert opened.reply("2", "room:1", {"y": 2}, status="retry_later", join_ref="1") == [
        ReplyReceived(push, "retry_later", {"y": 2})
    ]
    assert opened.socket.pending_pushes == 0
    assert drained(opened)


def test_replies_in_any_order(opened):
    """Replies find their pushes by ref, in whatever order they come, several in one batch too."""
    opened.joined("room:1")
    pushes = [opened.push("room:1") for _ in range(3)]
    frames = [
        opened.frame("1", push.ref, "room:1", "phx_reply", {"status": "ok", "response": {"i": i}})
        for i, push in reversed(list(enumerate(pushes)))
    ]

    received = opened.socket.receive(frames, 0.0)

    assert received == [ReplyReceived(pushes[i], "ok", {"i": i}) for i in (2, 1, 0)]


def test_second_reply_means_nothing(opened):
    """A reply that comes twice, or to a ref that was never used, resolves nothing."""
    opened.joined("room:1")
    push = opened.push("room:1")
    opened.reply(push.ref, "room:1", join_ref="1")

    assert opened.reply(push.ref, "room:1", join_ref="1") == []
    assert opened.reply("99", "room:1", join_ref="1") == []
    assert opened.reply("99", "room:77", join_ref="1") == []


def test_unmatched_topic_resolves_the_push(opened):
    """The server's "unmatched topic" comes with a null join_ref, and is the push's answer."""
    opened.joined("room:1")
    push = opened.push("room:1")

    assert opened.reply(push.ref, "room:1", {"reason": "unmatched topic"}, status="error") == [
        ReplyReceived(push, "error", {"reason": "unmatched topic"})
    ]


def test_binary_push_and_binary_reply(peer):
    """A push of bytes goes out as a binary frame, and its binary reply resolves it with bytes."""
    p = peer()
    p.open()
    p.joined("room:1")
    push = p.push("room:1", "binary_echo", b"\x00\xff")
    assert p.socket.frames_to_send() == [b"\x00\x01\x01\x06\x0b12room:1binary_echo\x00\xff"]

    assert p.socket.receive_binary([b"\x01\x01\x01\x06\x0212room:1ok\x00\xff"], 0.0) == [ReplyReceived(push, "ok", b"\x00\xff")]


def test_push_without_a_channel(opened):
    """A push to a topic that was never joined, or was left, raises and keeps nothing."""
    with pytest.raises(LocalProtocolError, match="join it first"):
        opened.push("room:1")
    opened.joined("room:1")
    opened.socket.leave("room:1", 0.0)
    with pytest.raises(LocalProtocolError, match="join it first"):
        opened.push("room:1")

    assert drained(opened)


def test_push_that_cannot_be_written(opened):
    """A payload that does not fit raises at the call, be the channel joined or not, and keeps nothing."""
    opened.socket.join("room:1", {}, 0.0)
    for _ in range(2):
        with pytest.raises(LocalProtocolError):
            opened.push("room:1", payload=object())
        assert drained(opened)
        if opened.socket.joined_topics and opened.socket.channel_state("room:1").name == "JOINING":
            opened.accept("room:1")
    assert opened.sent() == []


def test_push_of_bytes_on_v1(peer):
    """A V1 socket refuses bytes at the call, also while the channel is not joined yet."""
    p = peer(vsn="1.0.0")
    p.socket.join("room:1", {}, 0.0)

    with pytest.raises(LocalProtocolError, match="no binary frames"):
        p.push("room:1", payload=b"x")


def test_the_same_push_twice(opened):
    """A push that is on its way cannot be pushed again; one that is resolved can."""
    opened.joined("room:1")
    push = opened.push("room:1")
    with pytest.raises(LocalProtocolError, match="on its way already"):
        opened.socket.push(push, 0.0)
    opened.reply(push.ref, "room:1", join_ref="1")

    opened.socket.push(push, 0.0)

    assert opened.reply(push.ref, "room:1", join_ref="1") == [ReplyReceived(push, "ok", {})]


# Before the join.


def test_pushes_wait_for_the_join(opened):
    """Pushes made while the join is on its way follow its acceptance, in order."""
    opened.socket.join("room:1", {}, 0.0)
    first, second = opened.push("room:1", "a"), opened.push("room:1", "b", wants_reply=False)
    assert first.ref is None
    assert [f[3] for f in opened.sent()] == ["phx_join"]

    opened.reply("1", "room:1", join_ref="1")

    assert opened.sent() == [["1", "2", "room:1", "a", {}], ["1", "3", "room:1", "b", {}]]
    assert (first.ref, second.ref) == ("2", "3")
    assert opened.reply("2", "room:1", join_ref="1") == [ReplyReceived(first, "ok", {})]
    assert drained(opened)


def test_a_binary_push_waits_for_the_join_too(peer):
    """Bytes are kept as they were at the call, and go out as a binary frame."""
    p = peer()
    p.open()
    p.socket.join("t", {}, 0.0)
    data = bytearray(b"\x01\x02")
    p.push("t", "e", data)
    data[:] = b"\xff\xff"
    p.reply("1", "t", join_ref="1")

    assert p.socket.frames_to_send()[-1] == b"\0\x01\x01\x01\x01" + b"12te" + b"\x01\x02"


def test_a_waiting_push_keeps_its_payload(opened):
    """What is sent is the payload as it was at the call."""
    opened.socket.join("room:1", {}, 0.0)
    payload = {"x": 1}
    opened.push("room:1", "a", payload)
    payload["x"] = object()

    opened.reply("1", "room:1", join_ref="1")

    assert opened.sent()[1] == ["1", "2", "room:1", "a", {"x": 1}]


def test_pushes_wait_through_a_refusal(opened):
    """A refused join does not send what waits; the next one that succeeds does."""
    opened.socket.join("room:1", {}, 0.0)
    opened.push("room:1", "a")
    opened.sent()
    opened.reply("1", "room:1", status="error", join_ref="1")
    assert opened.sent() == []
    opened.step()
    opened.reply("2", "room:1", join_ref="2")

    assert [f[:4] for f in opened.sent()] == [["2", "2", "room:1", "phx_join"], ["2", "3", "room:1", "a"]]


def test_pushes_wait_through_a_reconnect(opened):
    """A push made without a connection is sent after the rejoin, under the new join_ref."""
    opened.joined("room:1")
    opened.socket.closed(1006, "", 0.0)
    push = opened.push("room:1", "a")
    opened.open()
    assert [f[3] for f in opened.sent()] == ["phx_join"]
    opened.reply("2", "room:1", join_ref="2")

    assert opened.sent() == [["2", "3", "room:1", "a", {}]]
    assert opened.reply("3", "room:1", join_ref="2") == [ReplyReceived(push, "ok", {})]


@pytest.mark.parametrize("wants_reply", [True, False])
def test_time_out_before_sending(opened, wants_reply):
    """A push whose channel is not joined in time is never sent; one that wants no reply is told of as well."""
    opened.socket.join("room:1", {}, 0.0)
    push = opened.push("room:1", timeout=2.0, wants_reply=wants_reply)
    opened.sent()
    assert opened.advance(1.9) == []
    assert opened.advance(0.1) == [PushTimedOut(push)]
    assert push.ref is None

    opened.reply("1", "room:1", join_ref="1")

    assert opened.sent() == []
    assert drained(opened)


def test_the_wait_for_the_join_counts(opened):
    """The time-out runs from the call, not from the sending."""
    opened.socket.join("room:1", {}, 0.0)
    push = opened.push("room:1", timeout=3.0)
    opened.advance(2.0)
    opened.reply("1", "room:1", join_ref="1")

    assert opened.advance(0.9) == []
    assert opened.advance(0.1) == [PushTimedOut(push)]


# After sending.


def test_time_out_after_sending(opened):
    """A push that is not answered in time is resolved; the late reply means nothing."""
    opened.joined("room:1")
    push = opened.push("room:1", timeout=2.0)
    assert opened.advance(1.9) == []
    assert opened.advance(0.1) == [PushTimedOut(push)]

    assert opened.reply(push.ref, "room:1", join_ref="1") == []
    assert drained(opened)


def test_a_reply_ends_the_time_out(opened):
    """After the reply nothing times out."""
    opened.joined("room:1")
    push = opened.push("room:1", timeout=2.0)
    opened.advance(1.9)
    opened.reply(push.ref, "room:1", join_ref="1")

    assert opened.advance(12.0) == []


def test_push_without_a_reply(opened):
    """A push that wants no reply has a ref all the same, waits for nothing, and its reply means nothing."""
    opened.joined("room:1")
    push = opened.push("room:1", wants_reply=False)

    assert opened.sent() == [["1", "2", "room:1", "echo", {}]]
    assert opened.socket.pending_pushes == 0
    assert drained(opened)
    assert opened.reply(push.ref, "room:1", join_ref="1") == []
    assert opened.advance(12.0) == []


def test_a_push_may_wait_for_ever(opened):
    """A time-out of infinity never comes."""
    opened.joined("room:1")
    opened.push("room:1", timeout=math.inf)
    opened.socket._heartbeat.stop()
    opened.advance(100.0)

    assert opened.socket.deadline == math.inf


def test_disconnect_interrupts_what_was_sent(opened):
    """The loss of the connection resolves every push that was sent, and none that waits for its channel."""
    opened.joined("room:1")
    opened.joined("room:2")
    opened.say("2", "2", "room:2", "phx_error")
    sent = [opened.push("room:1"), opened.push("room:1")]
    opened.push("room:2", timeout=5.0)

    received = opened.socket.closed(1006, "gone", 0.0)

    assert received[1:] == [PushInterrupted(push, "link_lost: gone") for push in sent]
    assert opened.socket.pending_pushes == 0
    assert [type(e) for e in opened.advance(5.0) if isinstance(e, PushTimedOut)] == [PushTimedOut]


def test_crash_interrupts_the_pushes_of_its_channel(opened):
    """A crash resolves the channel's own pushes, and leaves those of others alone."""
    opened.joined("room:1")
    opened.joined("room:2")
    mine, other = opened.push("room:1"), opened.push("room:2")

    received = opened.say("1", "1", "room:1", "phx_error", {"reason": "channel_crash"})

    assert received[0] == PushInterrupted(mine, "the channel crashed")
    assert isinstance(received[1], ChannelErrored)
    assert opened.reply(mine.ref, "room:1", status="error") == []
    assert opened.reply(other.ref, "room:2", join_ref="2") == [ReplyReceived(other, "ok", {})]


def test_stop_interrupts_the_pushes_of_its_channel(opened):
    """A channel that the server closes resolves its pushes; one answered before the close has its reply."""
    opened.joined("room:1")
    answered, lost = opened.push("room:1"), opened.push("room:1")
    opened.reply(answered.ref, "room:1", join_ref="1")

    assert opened.say("1", "1", "room:1", "phx_close") == [
        PushInterrupted(lost, "the server closed the channel"),
        ChannelClosed("room:1", left=False),
    ]


def test_leave_interrupts_the_pushes_of_its_channel(opened):
    """Leaving resolves what was sent; a reply that comes all the same means nothing."""
    opened.joined("room:1")
    push = opened.push("room:1")

    assert opened.socket.leave("room:1", 0.0) == [PushInterrupted(push, "the channel was left")]
    assert opened.reply(push.ref, "room:1", join_ref="1") == []


def test_leave_drops_what_waits(opened):
    """Leaving a topic whose join is not answered resolves the pushes that wait for it, and they are never sent."""
    opened.socket.join("room:1", {}, 0.0)
    pushes = [opened.push("room:1"), opened.push("room:1", wants_reply=False)]

    assert opened.socket.leave("room:1", 0.0) == [PushInterrupted(push, "the channel was left") for push in pushes]
    opened.socket.join("room:1", {}, 0.0)
    opened.accept("room:1")
    assert opened.sent() == []
    assert drained(opened)
