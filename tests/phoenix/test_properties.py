"""Whatever the owner, the server, the network and the clock do, in whatever order: what must stay true of a `Socket`."""

import json
import math
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rig.backoff import Cause
from rig.errors import LocalProtocolError
from rig.phoenix import Push, Socket, SocketState, events
from rig.phoenix.channel import ChannelState
from rig.phoenix.channels import PACE_TIMER
from rig.phoenix.pacing import Pace

TOPICS = st.sampled_from(["a", "b", "phoenix"])
RESOLUTIONS = (events.ReplyReceived, events.PushTimedOut, events.PushInterrupted)


class SocketMachine(RuleBasedStateMachine):
    """An owner, a server that may say anything, and a clock, around one socket."""

    @initialize(
        vsn=st.sampled_from(["2.0.0", "1.0.0"]),
        rejoin_stopped=st.booleans(),
        chance=st.floats(0.001, 0.999),
        join_rate=st.sampled_from([0.0, 0.3, 1000.0]),
    )
    def start(self, vsn, rejoin_stopped, chance, join_rate):
        self.vsn, self.now = vsn, 100.0
        self.socket = Socket(random=lambda: chance, vsn=vsn, rejoin_stopped=rejoin_stopped)
        self.socket._channels._pace = Pace(join_rate, burst=1)
        self.pushes, self.resolved, self.frames, self.payload_fails = [], [], [], False

    def note(self, received):
        """Take what the socket says, and take its frames."""
        self.resolved += [event.push for event in received if isinstance(event, RESOLUTIONS)]
        for event in received:
            if isinstance(event, events.MessagesReceived):
                assert len(event.messages) == len(event.frames) > 0
        for frame in self.socket.frames_to_send():
            with suppress(ValueError):
                fields = json.loads(frame)
                self.frames.append([fields.get("join_ref"), fields["ref"], fields["topic"]] if self.vsn == "1.0.0" else fields[:3])

    def payload(self):
        return 1 // 0 if self.payload_fails else {}

    @rule(topic=TOPICS, called=st.booleans())
    def join(self, topic, called):
        wanted = topic in self.socket._channels._channels and self.socket.channel_state(topic) is not ChannelState.LEAVING
        failing = called and self.payload_fails and self.socket._channels._open
        try:
            self.note(self.socket.join(topic, self.payload if called else {}, self.now))
        except LocalProtocolError:
            assert wanted or self.socket.state is SocketState.CLOSED
        except ZeroDivisionError:
            assert failing
        else:
            assert not wanted
            assert not failing or topic in self.socket._channels._waiting

    @rule(topic=TOPICS)
    def leave(self, topic):
        self.note(self.socket.leave(topic, self.now))

    @rule(
        topic=TOPICS,
        payload=st.sampled_from([{}, 1, b"x"]),
        timeout=st.sampled_from([0.0, 1.0, 7.0, math.inf]),
        wants=st.booleans(),
    )
    def push(self, topic, payload, timeout, wants):
        push = Push(topic, "e", payload, timeout=timeout, wants_reply=wants)
        wanted = topic in self.socket._channels._channels and self.socket.channel_state(topic) is not ChannelState.LEAVING
        try:
            self.note(self.socket.push(push, self.now))
        except LocalProtocolError:
            assert not wanted or (payload == b"x" and self.vsn == "1.0.0")
        else:
            self.pushes.append(push)

    @rule()
    def payloads_fail_or_work(self):
        self.payload_fails = not self.payload_fails

    # The connection.

    @precondition(lambda self: self.socket.state in (SocketState.IDLE, SocketState.WAITING))
    @rule()
    def connect(self):
        self.note(self.socket.connect(self.now))

    @precondition(lambda self: self.socket.state is SocketState.CONNECTING)
    @rule()
    def opened(self):
        self.note(self.socket.opened(self.now))

    @precondition(lambda self: self.socket.state is SocketState.CONNECTING)
    @rule(cause=st.sampled_from(Cause), retry_after=st.none() | st.floats(-10.0, 100.0))
    def connect_failed(self, cause, retry_after):
        self.note(self.socket.connect_failed(cause, "", self.now, retry_after=retry_after))

    @precondition(lambda self: self.socket.state in (SocketState.OPEN, SocketState.CLOSING))
    @rule(code=st.integers(1000, 4999))
    def closed(self, code):
        self.note(self.socket.closed(code, "", self.now))
        assert self.socket.state is SocketState.WAITING
        assert self.socket.pending_pushes == self.socket.joined_topics == 0

    @rule(pause=st.booleans())
    def reading(self, pause):
        self.note(self.socket.reading_paused() if pause else self.socket.reading_resumed(self.now))

    # The server.

    def text(self, join_ref, ref, topic, event, payload):
        if self.vsn == "1.0.0":
            return msgspec.json.encode({"topic": topic, "event": event, "payload": payload, "ref": ref})
        return msgspec.json.encode([join_ref, ref, topic, event, payload])

    @precondition(lambda self: self.frames)
    @rule(
        data=st.data(),
        status=st.sampled_from(["ok", "ok", "error", "other"]),
        response=st.sampled_from([{}, None, {"reason": "unauthorized"}]),
    )
    def reply(self, data, status, response):
        replies = [
            self.text(*data.draw(st.sampled_from(self.frames[-8:])), "phx_reply", {"status": status, "response": response})
            for _ in range(data.draw(st.integers(1, 3)))
        ]
        self.note(self.socket.receive(replies, self.now))

    @precondition(lambda self: self.frames)
    @rule(data=st.data(), status=st.sampled_from(["ok", "error"]))
    def reply_in_binary(self, data, status):
        join_ref, ref, topic = data.draw(st.sampled_from(self.frames[-8:]))
        names = [str(name or "").encode() for name in (join_ref, ref, topic, status)]
        frame = bytes([1, *map(len, names)]) + b"".join(names) + b"data"
        self.note(self.socket.receive_binary([frame, b"\x02\x01\x01ae", frame], self.now))

    @precondition(lambda self: self.frames)
    @rule(data=st.data())
    def say_everything_at_once(self, data):
        """One read holds all that a server can say about a channel, in any order."""
        join_ref, ref, topic = data.draw(st.sampled_from(self.frames[-8:]))
        ok = {"status": "ok", "response": {}}
        messages = [(join_ref, ref, "phx_reply", ok), (join_ref, join_ref, "phx_reply", ok), (join_ref, None, "tick", {})]
        messages += [(join_ref, join_ref, "phx_close", {}), (join_ref, join_ref, "phx_error", {}), (None, None, "phx_close", {})]
        order = data.draw(st.permutations(messages))
        self.note(self.socket.receive([self.text(j, r, topic, event, payload) for j, r, event, payload in order], self.now))

    @precondition(lambda self: self.frames)
    @rule(data=st.data(), event=st.sampled_from(["phx_close", "phx_error", "tick"]), nameless=st.booleans())
    def say(self, data, event, nameless):
        join_ref, _, topic = data.draw(st.sampled_from(self.frames[-8:]))
        ref = None if nameless or event == "tick" else join_ref
        self.note(self.socket.receive([self.text(None if nameless else join_ref, ref, topic, event, {})], self.now))

    @rule(garbage=st.lists(st.binary(max_size=12), max_size=3))
    def garbage(self, garbage):
        self.note(self.socket.receive(garbage, self.now))
        self.note(self.socket.receive_binary(garbage, self.now))

    # The clock.

    @rule(seconds=st.floats(0.0, 40.0))
    def wait(self, seconds):
        self.now += seconds
        self.time_out()

    @precondition(lambda self: self.socket.deadline < math.inf)
    @rule()
    def wait_for_the_deadline(self):
        self.now = max(self.now, self.socket.deadline)
        self.time_out()

    @rule()
    def wait_until_every_push_has_timed_out(self):
        self.now += 7.0
        self.time_out()
        waiting = self.socket._channels._pushes
        left = [*waiting._pending.values(), *(push for held in waiting._held.values() for push in held)]
        assert all(push.timeout == math.inf for push in left)

    def time_out(self):
        self.note(self.socket.handle_timeout(self.now))
        assert self.socket.deadline > self.now

    @precondition(lambda self: len(self.pushes) > 3)
    @rule()
    def close(self):
        self.note(self.socket.close(self.now))
        self.check_the_end()

    # What must stay true.

    @invariant()
    def no_push_is_resolved_twice(self):
        assert len({id(push) for push in self.resolved}) == len(self.resolved)

    @invariant()
    def live_names_the_channels_that_receive(self):
        channels = self.socket._channels
        assert channels.live == {topic: c.join_ref for topic, c in channels._channels.items() if c.receives}

    @invariant()
    def every_wait_has_its_timer(self):
        waiting, timers = self.socket._channels._pushes, self.socket._timers._set
        unresolved = {id(push) for push in [*waiting._pending.values(), *(p for held in waiting._held.values() for p in held)]}
        assert {id(key) for key in timers if isinstance(key, Push)} == unresolved
        for topic, channel in self.socket._channels._channels.items():
            mine = {key.what for key in timers if getattr(key, "topic", None) == topic and not isinstance(key, Push)}
            expected = {"JOINING": {"join"}, "JOINED": set(), "LEAVING": {"leave"}}
            waits = self.socket._channels._open and topic not in self.socket._channels._waiting
            assert mine == expected.get(channel.state.name, {"rejoin"} if waits else set())
        for topic in self.socket._channels._waiting:
            assert self.socket.channel_state(topic) in (ChannelState.CLOSED, ChannelState.ERRORED)
            assert PACE_TIMER in timers

    def check_the_end(self):
        wanting = [push for push in self.pushes if push.wants_reply]
        resolved = {id(push) for push in self.resolved}
        assert all(id(push) in resolved for push in wanting)
        assert self.socket.deadline == math.inf
        assert len(self.socket._timers) == self.socket.pending_pushes == self.socket.joined_topics == 0
        assert not self.socket._channels._pushes._held
        assert not self.socket._channels._pushes._pending
        assert not self.socket._heartbeat._sent
        assert len(self.socket._channels) == 0
        assert self.socket.frames_to_send() == []

    def teardown(self):
        if hasattr(self, "socket"):
            self.note(self.socket.close(self.now))
            self.no_push_is_resolved_twice()
            self.check_the_end()


TestSocketMachine = SocketMachine.TestCase
TestSocketMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("vsn", ["2.0.0", "1.0.0"])
@given(frames=st.lists(st.binary(max_size=60), max_size=6), data=st.data())
def test_random_bytes_never_raise(vsn, frames, data):
    """Whatever bytes come, each is one message or one rejected frame, and the channel stays."""
    socket = Socket(random=lambda: 0.5, vsn=vsn)
    socket.connect(0.0)
    socket.opened(0.0)
    socket.join("t", {}, 0.0)
    good = data.draw(
        st.sampled_from([b'[null,null,"t","e",1]', b'{"topic":"t","event":"e","payload":1,"ref":null}', b"\x02\x01\x01te"])
    )
    mixed = [*frames, good] if data.draw(st.booleans()) else frames

    for receive in (socket.receive, socket.receive_binary):
        count = 0
        for event in receive(mixed, 1.0):
            count += len(event.messages) if isinstance(event, events.MessagesReceived) else event.count
        assert count == len(mixed)
    assert socket.channel_state("t") is ChannelState.JOINING


NAMES = st.sampled_from(["t", "phoenix", "phx_reply", "phx_error", "phx_close", "phx_join", "1", "2", "", "\ud800"])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES, lambda j: st.lists(j, max_size=3) | st.dictionaries(NAMES, j, max_size=3)
)


@pytest.mark.parametrize("vsn", ["2.0.0", "1.0.0"])
@given(messages=st.lists(st.lists(ANY_JSON | NAMES, min_size=3, max_size=6), max_size=8), joined=st.booleans())
def test_messages_of_any_json_never_raise(vsn, messages, joined):
    """Whatever stands in the five places of a message, about a channel that is joined or about to be, nothing breaks."""
    socket = Socket(random=lambda: 0.5, vsn=vsn)
    socket.connect(0.0)
    socket.opened(0.0)
    socket.join("t", {}, 0.0)
    if joined:
        names = ("join_ref", "ref", "topic", "event", "payload")
        reply = ["1", "1", "t", "phx_reply", {"status": "ok", "response": {}}]
        socket.receive([json.dumps(reply if vsn == "2.0.0" else dict(zip(names, reply, strict=True))).encode()], 0.0)
    push = Push("t", "e", {})
    socket.push(push, 0.0)
    fields = [
        m if vsn == "2.0.0" else dict(zip(("join_ref", "ref", "topic", "event", "payload"), m, strict=False)) for m in messages
    ]

    received = socket.receive([json.dumps(f).encode() for f in fields], 1.0)
    received += socket.handle_timeout(20.0)
    received += socket.close(20.0)

    assert sum(isinstance(event, (*RESOLUTIONS,)) for event in received) == 1
    assert socket.deadline == math.inf


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.sampled_from(["late", "reply", "traffic", "pause", "resume"])), max_size=30))
def test_no_busy_loop(steps):
    """After `handle_timeout` the deadline lies ahead, whatever happened and however late the call came."""
    socket = Socket(random=lambda: 0.0)
    socket.connect(0.0)
    socket.opened(0.0)
    now = 0.0
    for seconds, what in steps:
        now += seconds
        match what:
            case "reply":
                refs = [json.loads(frame)[1] for frame in socket.frames_to_send()]
                socket.receive([b'[null,"%s","phoenix","phx_reply",{"status":"ok","response":{}}]' % r.encode() for r in refs], now)
            case "traffic":
                socket.receive([b'[null,null,"t","e",1]'], now)
            case "pause":
                socket.reading_paused()
            case "resume":
                socket.reading_resumed(now)
        socket.handle_timeout(now)
        assert socket.deadline > now
