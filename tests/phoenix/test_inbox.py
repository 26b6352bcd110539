"""`rig.phoenix.inbox`: what received frames mean."""

import pytest

from rig.phoenix.events import (
    ChannelErrored,
    FramesRejected,
    HeartbeatReplied,
    Joined,
    MessagesDropped,
    MessagesReceived,
    ReplyReceived,
)

BAD = [
    b"hello",
    b"[]",
    b'["1","2","t"]',
    b'["1","2",5,"e",{}]',
    b'[null,null,"room:1","\xff",{}]',
    b"[" * 50_000,
    b"",
    b"\x00\x01",
]


def names(received):
    """Flatten events to what was said, in order."""
    flat = []
    for event in received:
        flat += [m.event for m in event.messages] if isinstance(event, MessagesReceived) else [type(event).__name__]
    return flat


def test_the_usual_batch_passes_whole(opened):
    """Events of joined channels arrive as one event with the messages and the very frames."""
    opened.joined("room:1")
    opened.joined("room:2")
    frames = [
        opened.frame("1", None, "room:1", "tick", {"i": 1}),
        opened.frame(None, None, "room:2", "tick", {"i": 2}),
        opened.frame("1", None, "room:1", "tock", {"i": 3}),
    ]

    [received] = opened.socket.receive(frames, 0.0)

    assert received.frames is frames
    assert received.binary is False
    assert [(m.topic, m.event, bytes(m.payload)) for m in received.messages] == [
        ("room:1", "tick", b'{"i":1}'),
        ("room:2", "tick", b'{"i":2}'),
        ("room:1", "tock", b'{"i":3}'),
    ]


def test_no_frames(opened):
    """An empty batch is no event."""
    assert opened.socket.receive([], 0.0) == []
    assert opened.socket.receive_binary([], 0.0) == []


def test_events_come_while_joining(opened):
    """Events that overtake the join's reply belong to the channel already."""
    opened.socket.join("room:1", {}, 0.0)
    opened.sent()

    assert names(opened.say(None, None, "room:1", "tick")) == ["tick"]


@pytest.mark.parametrize("how", ["never joined", "left", "crashed", "stopped", "disconnected", "closed"])
def test_events_of_a_topic_that_is_not_joined(opened, how):
    """Events for a topic that is not joined, or no longer, are dropped, and reported as such."""
    opened.joined("room:1")
    match how:
        case "left":
            opened.socket.leave("room:1", 0.0)
        case "crashed":
            opened.say("1", "1", "room:1", "phx_error")
        case "stopped":
            opened.say("1", "1", "room:1", "phx_close")
        case "disconnected":
            opened.socket.closed(1006, "", 0.0)
        case "closed":
            opened.socket.close(0.0)
    topic = "room:9" if how == "never joined" else "room:1"

    assert opened.say(None, None, topic, "tick") == [MessagesDropped(1, topic)]


def test_events_of_an_earlier_life_are_dropped(peer):
    """An event with the join_ref of an earlier life is dropped; one with the present join_ref, or none, is not."""
    p = peer()
    p.open()
    p.joined("room:1")
    p.say("1", "1", "room:1", "phx_error")
    p.step()
    p.accept("room:1")
    frames = [p.frame(ref, None, "room:1", f"e{ref}", {}) for ref in ("2", "1", None, "3")]

    received = p.socket.receive(frames, 0.0)

    assert names(received) == ["MessagesDropped", "MessagesDropped", "e2", "eNone"]
    assert received[-1].frames == [frames[0], frames[2]]


def test_order_is_kept_around_control_messages(opened):
    """Events before a reply are told of before it, those after it after it."""
    opened.joined("room:1")
    push = opened.push("room:1")
    frames = [
        opened.frame("1", None, "room:1", "before", {}),
        opened.frame("1", push.ref, "room:1", "phx_reply", {"status": "ok", "response": 7}),
        opened.frame("1", None, "room:1", "after", {}),
        opened.frame("1", "1", "room:1", "phx_error", {}),
        opened.frame("1", None, "room:1", "too late", {}),
    ]

    received = opened.socket.receive(frames, 0.0)

    assert names(received) == ["before", "ReplyReceived", "after", "ChannelErrored", "MessagesDropped"]
    assert received[1] == ReplyReceived(push, "ok", 7)
    assert isinstance(received[3], ChannelErrored)


def test_join_reply_and_events_in_one_batch(opened):
    """What follows the join's reply in the same read belongs to the channel."""
    opened.socket.join("room:1", {}, 0.0)
    frames = [
        opened.frame("1", "1", "room:1", "phx_reply", {"status": "ok", "response": {}}),
        opened.frame("1", None, "room:1", "joined", {}),
    ]

    received = opened.socket.receive(frames, 0.0)

    assert received[0] == Joined("room:1", {}, rejoined=False)
    assert names(received) == ["Joined", "joined"]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_malformed_frame_costs_only_itself(opened, bad, at):
    """One malformed frame in a batch is dropped, counted and shown; no other is lost, and the order stays."""
    opened.joined("room:1")
    good = [opened.frame("1", None, "room:1", "tick", {"i": i}) for i in range(2)]

    messages, rejected = opened.socket.receive([*good[:at], bad, *good[at:]], 0.0)

    assert messages.frames == good
    assert [bytes(m.payload) for m in messages.messages] == [b'{"i":0}', b'{"i":1}']
    assert (rejected.count, rejected.sample) == (1, bad[:120])
    assert rejected.reason


def test_many_malformed_frames_are_one_event(opened):
    """A batch of garbage is one event with the count, the first reason and the first sample."""
    [rejected] = opened.socket.receive([b"x" * 500] * 100, 0.0)

    assert isinstance(rejected, FramesRejected)
    assert (rejected.count, rejected.sample) == (100, b"x" * 120)


def test_a_malformed_reply_is_rejected_alone(opened):
    """A reply that is no reply is dropped; the push still waits, and what came with it is kept."""
    opened.joined("room:1")
    push = opened.push("room:1")
    bad = opened.frame("1", push.ref, "room:1", "phx_reply", {"status": 7})

    received = opened.socket.receive([opened.frame("1", None, "room:1", "tick", {}), bad], 0.0)

    assert names(received) == ["tick", "FramesRejected"]
    assert received[1].sample == bad
    assert opened.socket.pending_pushes == 1


def test_a_malformed_heartbeat_reply_is_no_reply(opened):
    """A heartbeat is answered by a reply, not by anything that calls itself one."""
    opened.advance(15.0)
    [[_, ref, *_]] = opened.sent()

    assert names(opened.say(None, ref, "phoenix", "phx_reply", "pong")) == ["FramesRejected"]
    assert opened.reply(ref, "phoenix") == [HeartbeatReplied(0.0)]


def test_late_heartbeat_reply_means_nothing(opened):
    """A heartbeat reply that is not waited for is no event."""
    assert opened.reply("77", "phoenix") == []


# Binary.


@pytest.fixture
def binary(peer):
    """A V2 peer that has joined room:1."""
    p = peer()
    p.open()
    p.joined("room:1")
    return p


def test_binary_events(binary):
    """A binary push and a binary broadcast arrive as binary messages, a stale one is dropped."""
    push, stale, broadcast = b"\x00\x01\x06\x011room:1p\x01", b"\x00\x01\x06\x019room:1p", b"\x02\x06\x01room:1b\x02"

    dropped, received = binary.socket.receive_binary([push, stale, broadcast], 0.0)

    assert dropped == MessagesDropped(1, "room:1")
    assert received.binary is True
    assert received.frames == [push, broadcast]
    assert [(m.event, m.payload) for m in received.messages] == [("p", b"\x01"), ("b", b"\x02")]


def test_malformed_binary_costs_only_itself(binary):
    """Garbage between binary frames is dropped alone."""
    good = b"\x02\x06\x01room:1b\x02"

    received, rejected = binary.socket.receive_binary([b"", good, b"\xff\xff", b"\x00\x09", good], 0.0)

    assert received.frames == [good, good]
    assert (rejected.count, rejected.sample) == (3, b"")


def test_binary_control_messages(binary):
    """A binary reply without a waiting push, and binary pushes named like control messages, break nothing."""
    assert binary.socket.receive_binary([b"\x01\x01\x02\x06\x02199room:1ok"], 0.0) == []
    [received] = binary.socket.receive_binary([b"\x00\x01\x06\x091room:1phx_reply"], 0.0)
    assert [m.event for m in received.messages] == ["phx_reply"]
    assert names(binary.socket.receive_binary([b"\x02\x06\x09room:1phx_close"], 0.0)) == ["phx_close"]
    assert names(binary.socket.receive_binary([b"\x00\x01\x06\x091room:1phx_error"], 0.0)) == ["ChannelErrored"]
