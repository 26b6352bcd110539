"""
The recorded conversations, through `Socket`: it does what the recorded client did, hears what Phoenix answered, and must
say of each frame what that frame means. Where it did the same, its frames must be the recorded ones, byte for byte.

A small model, written from what Phoenix does and knowing nothing of the core, says what each received frame means. Refs
are the recorded ones: the socket's counter is put where the recorded client's was.

Left out, because they say nothing about this core:
- `longpoll*`: another transport;
- `origin_check`, `connect_raises`, `connect_refused_*` (raw), `connect_vsn_matrix`, `compression_offer`, and
  `js-phx1.7-auth_token` (phoenix.js insists on a subprotocol that 1.7 never selects): HTTP upgrades;
- `malformed_ws_frames`, `oversized_frames`, `*_ws_ping_only`: WebSocket frames.

Intended differences from phoenix.js: the times of rejoins and reconnects (jittered; here the clock is moved on to them), the
refs that phoenix.js skips, and a push whose channel crashes or whose connection is lost is told of at once, not at its
time-out.
"""

import base64
import itertools
import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from rig.backoff import Cause
from rig.phoenix import Push, Socket, events

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LEFT_OUT = ("longpoll", "origin_check", "connect_raises", "connect_vsn_matrix", "compression_offer", "malformed_ws", "oversized")
LEFT_OUT += ("ws_ping_only", "phx1.7-v1-connect_refused", "phx1.7-v2-connect_refused", "phx1.8-v1-connect_refused")
LEFT_OUT += ("phx1.8-v2-connect_refused", "js-phx1.7-auth_token")
NAMES = [path.stem for path in sorted(GOLDEN.glob("*.json")) if not any(word in path.stem for word in LEFT_OUT)]
RAW, JS = [n for n in NAMES if not n.startswith("js-")], [n for n in NAMES if n.startswith("js-")]

NOT_OURS = {
    "binary_odd": "binary joins and leaves, a null join_ref or ref in a binary push",
    "binary_on_v1": "binary frames on V1",
    "connect_without_vsn": "a V2 frame on V1",
    "crash_and_rejoin": "a push to a channel that has crashed: rig keeps it for the rejoin",
    "heartbeat": "heartbeats with payloads, join_refs, refs that are no strings",
    "heartbeat_binary_frame": "a binary heartbeat",
    "join_duplicate_same_join_ref": "a join_ref used twice",
    "join_error": "a push to a channel that was refused",
    "leave": "leaves and pushes of topics that are not joined",
    "leave_join_ref_variants": "a leave without join_ref, a push after it",
    "leave_with_pending_push": "a push right behind a leave",
    "malformed_json": "malformed frames, topics that are no strings",
    "push_before_join": "pushes to topics that are not joined",
    "push_stale_join_ref": "pushes and leaves with another join_ref",
    "race_echo_leave_echo": "a push behind a leave",
    "race_leave_twice": "a second leave",
    "server_disconnect_no_client_answer": "a heartbeat after the close",
    "stop": "a push to a channel that is closed",
}
"""Scenarios in which the recorded client sends something that rig never sends: its replies must mean nothing to rig."""

HEARTBEATS = {
    "2.0.0": '[null,"%s","phoenix","heartbeat",{}]',
    "1.0.0": '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"%s"}',
}


@dataclass
class Frame:
    """A recorded frame, cut into fields without rig's help; `payload` is text or data as it stood on the wire."""

    data: bytes
    binary: bool
    join_ref: object
    ref: object
    topic: object
    event: object
    payload: bytes
    status: str | None = None


def parse(data, opcode, direction):
    """Cut a frame into its fields; None if it is malformed."""
    if opcode == "binary":
        names = {0: ["join_ref", "ref", "topic", "event"], 1: ["join_ref", "ref", "topic", "status"], 2: ["topic", "event"]}.get(
            data[0]
        )
        if names is None:
            return None
        names = [name for name in names if not (direction == "recv" and data[0] == 0 and name == "ref")]
        found, start = {"join_ref": None, "ref": None, "event": "phx_reply"}, 1 + len(names)
        for name, length in zip(names, data[1:], strict=False):
            found[name] = data[start : start + length].decode() or None
            start += length
        return Frame(data, True, payload=data[start:], **found)
    try:
        if data.lstrip().startswith(b"{"):
            fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            raws = [fields.get(name, msgspec.Raw(b"null")) for name in ("join_ref", "ref", "topic", "event", "payload")]
        else:
            raws = msgspec.json.decode(data, type=list[msgspec.Raw])
        return Frame(data, False, *(json.loads(bytes(raw)) for raw in raws[:4]), bytes(raws[4]))
    except (msgspec.DecodeError, IndexError):
        return None


@dataclass
class Life:
    """What the model knows of a channel."""

    join_ref: str
    state: str = "joining"
    leave_ref: str | None = None


class Replay:
    """A socket, the model, and the recorded frames that one of them still has to see."""

    def __init__(self, vsn, *, least_chance=0.0, heartbeat_interval=1e6):
        chances = (least_chance + i * 1e-6 for i in itertools.count())  # so that no two rejoins are due at once
        self.socket = Socket(
            random=chances.__next__,
            vsn=vsn,
            join_timeout=1e6,
            heartbeat_interval=heartbeat_interval,
            heartbeat_timeout=1e3,
            join_rate=0.0,  # the recorded clients did not pace theirs
        )
        self.vsn, self.now, self.extra_refs = vsn, 0.0, 900_000
        self.lives, self.sent, self.beats = {}, {}, set()
        self.held = []  # (topic, ref, push): made, and not sent by rig
        self.owed = deque()  # recorded frames that rig will send later
        self.ahead = deque()  # frames that rig sent before the transcript gets there
        self.not_ours, self.same = [], 0

    # Sending.

    def steer(self, ref):
        """Make this the next ref."""
        self.socket._outgoing._count = int(ref) - 1

    def settle(self, received, expected):
        """Compare what the socket says with what it should, and what it sends with what was recorded."""
        assert [simple(event) for event in flat(received)] == expected
        for frame in self.socket.frames_to_send():
            if self.owed:
                assert frame == self.owed.popleft()
                self.same += 1
            else:
                self.ahead.append(frame)

    def send(self, frame, data):
        """Do what the recorded client did when it sent this frame."""
        if self.ahead:
            assert self.ahead.popleft() == data
            self.same += 1
            self.note_join(frame)
        elif frame is None or not isinstance(frame.ref, str) or not frame.ref.isdigit():
            self.not_ours.append(data)
        else:
            self.steer(frame.ref)
            self.owed.append(data)
            if not self.act(frame):
                self.not_ours.append(self.owed.pop())

    def note_join(self, frame):
        """Let the model know of a join that rig made of itself."""
        if frame.event == "phx_join":
            self.lives[frame.topic] = Life(frame.ref)
        elif frame.event == "heartbeat":
            self.beats.add(frame.ref)

    def act(self, frame):
        """Do it with the socket's methods; False if rig never does such a thing."""
        life = self.lives.get(frame.topic)
        present = life is not None and life.state in ("joining", "joined")
        if frame.event == "heartbeat" and frame.topic == "phoenix":
            return self.beat(frame)
        if frame.event == "phx_join":
            return self.join(frame, life, present)
        if not present or frame.join_ref != life.join_ref or (frame.binary and frame.event == "phx_leave"):
            return False
        if frame.event == "phx_leave":
            self.leave(frame.topic, frame.ref)
            return True
        self.push(frame, life)
        return True

    def beat(self, frame):
        if frame.data.decode(errors="replace") != HEARTBEATS[self.vsn] % frame.ref or self.socket.state.name != "OPEN":
            return False
        self.beats.add(frame.ref)
        self.socket._send_heartbeat(self.now)
        self.settle([], [])
        return True

    def join(self, frame, life, present):
        if frame.join_ref != frame.ref:
            return False
        if present:  # rig leaves before it joins again: one frame more than the recorded client sent
            self.extra_refs += 1
            self.steer(self.extra_refs)
            join = self.owed.pop()
            self.leave(frame.topic, str(self.extra_refs))
            self.ahead.clear()
            self.owed.append(join)
            self.steer(frame.ref)
        if life is not None and life.state == "errored":
            self.now = max(self.now, self.socket.deadline)
            self.settle(self.socket.handle_timeout(self.now), [])
        else:
            payload = frame.payload if frame.binary else msgspec.Raw(frame.payload)
            received = self.socket.join(frame.topic, payload, self.now)
            self.settle(received, [] if life is None else [("closed", frame.topic, True)])
        self.lives[frame.topic] = Life(frame.ref)
        return True

    def leave(self, topic, ref):
        life = self.lives[topic]
        life.state, life.leave_ref = "leaving", ref
        self.settle(self.socket.leave(topic, self.now), self.interrupted(topic, held=True))

    def push(self, frame, life):
        push = Push(frame.topic, frame.event, frame.payload if frame.binary else msgspec.Raw(frame.payload), timeout=1e6)
        if life.state == "joined":
            self.sent[frame.ref] = push
        else:
            self.held.append((frame.topic, frame.ref, push))
        self.settle(self.socket.push(push, self.now), [])

    # Receiving.

    def receive(self, frames):
        """Let the socket receive consecutive frames of one kind."""
        expected = [meaning for frame in frames for meaning in self.meaning(frame)]
        take = self.socket.receive_binary if frames[0].binary else self.socket.receive
        self.settle(take([frame.data for frame in frames], self.now), expected)

    def meaning(self, frame):
        """Return what the frame should be said to mean, and let the model follow."""
        if not isinstance(frame.topic, str):
            return [("rejected",)]
        life = self.lives.get(frame.topic)
        state = None if life is None else life.state
        if frame.event == "phx_reply" and frame.ref is not None:
            return self.meaning_of_reply(frame, life, state)
        if frame.event in ("phx_close", "phx_error") and frame.ref is not None:
            return self.meaning_of_end(frame, life, state)
        if state in ("joining", "joined") and frame.join_ref in (None, life.join_ref):
            return [("event", frame.topic, frame.event, frame.payload)]
        return [("dropped", frame.topic)]

    def meaning_of_reply(self, frame, life, state):
        if not isinstance(frame.ref, str):
            return []
        reply = {"status": frame.status, "response": frame.payload} if frame.binary else json.loads(frame.payload)
        status, response = reply["status"], reply["response"]
        if frame.topic == "phoenix" and frame.ref in self.beats:
            self.beats.remove(frame.ref)
            return [("beat",)]
        if frame.ref in self.sent:
            return [("reply", self.sent.pop(frame.ref), status, response)]
        if state == "joining" and frame.ref == life.join_ref:
            life.state = "joined" if status == "ok" else "errored"
            mine = [(ref, push) for topic, ref, push in self.held if topic == frame.topic]
            if mine and status == "ok":
                self.steer(mine[0][0])
                self.sent.update(mine)
                self.held = [entry for entry in self.held if entry[0] != frame.topic]
            return [(life.state, frame.topic, response)]
        if state == "leaving" and frame.ref == life.leave_ref:
            del self.lives[frame.topic]
            return [("closed", frame.topic, True)]
        return []

    def meaning_of_end(self, frame, life, state):
        if state in (None, "errored") or frame.ref != life.join_ref:
            return []
        if frame.event == "phx_close" or state == "leaving":
            del self.lives[frame.topic]
            return [*self.interrupted(frame.topic, held=True), ("closed", frame.topic, state == "leaving")]
        life.state = "errored"
        return [*self.interrupted(frame.topic), ("crashed", frame.topic, json.loads(frame.payload))]

    def interrupted(self, topic=None, *, held=False):
        """Return what becomes of the pushes of a topic, or of all, when it ends."""
        gone = [push for t, _, push in self.held if topic in (None, t)] if held else []
        self.held = [entry for entry in self.held if entry[2] not in gone]
        gone += [push for push in self.sent.values() if topic in (None, push.topic)]
        self.sent = {ref: push for ref, push in self.sent.items() if push not in gone}
        return [("interrupted", push) for push in gone]

    # The connection.

    def lost(self, code, reason=""):
        """Let the socket hear that the connection ended."""
        if self.socket.state.name == "CLOSED":
            self.settle(self.socket.closed(code, reason, self.now), [("lost", Cause.REQUESTED, False)])
            return
        cause = {1006: Cause.LINK_LOST, 1012: Cause.DRAINING}.get(code, Cause.SERVER_CLOSED)
        left = [("closed", topic, True) for topic, life in self.lives.items() if life.state == "leaving"]
        expected = [("lost", cause, True), *self.interrupted(), *left]
        self.lives = {topic: Life(life.join_ref, "errored") for topic, life in self.lives.items() if life.state != "leaving"}
        self.settle(self.socket.closed(code, reason, self.now), expected)

    def close(self):
        """Close for good: everything that waits is resolved, nothing is kept."""
        leaving = [("closed", topic, True) for topic, life in self.lives.items() if life.state == "leaving"]
        opened = self.socket.state.name == "OPEN"
        self.beats.clear()
        sent, held = [("interrupted", push) for push in self.sent.values()], [("interrupted", push) for _, _, push in self.held]
        self.lives, self.sent, self.held = {}, {}, []
        self.settle(self.socket.close(self.now), [*sent, *leaving, *held, *([("close", 1000)] if opened else [])])
        assert self.socket.deadline == float("inf")
        assert self.socket.joined_topics == self.socket.pending_pushes == 0


def flat(received):
    """Take batches of messages apart."""
    for event in received:
        if isinstance(event, events.MessagesReceived):
            yield from zip(event.messages, event.frames, strict=True)
        else:
            yield event


def simple(event):
    """Say an event as the model does."""
    match event:
        case (message, _):
            return ("event", message.topic, message.event, bytes(message.payload))
        case events.Joined() | events.JoinRejected():
            return ("joined" if isinstance(event, events.Joined) else "errored", event.topic, event.response)
        case events.ReplyReceived():
            return ("reply", event.push, event.status, event.response)
        case events.PushInterrupted():
            return ("interrupted", event.push)
        case events.ChannelErrored():
            return ("crashed", event.topic, event.payload)
        case events.ChannelClosed():
            return ("closed", event.topic, event.left)
        case events.MessagesDropped():
            return ("dropped", event.topic)
        case events.HeartbeatReplied():
            return ("beat",)
        case events.FramesRejected(count=1):
            return ("rejected",)
        case events.SocketClosed():
            return ("lost", event.cause, event.delay is not None)
        case events.CloseDue():
            return ("close", event.code)
    return (type(event).__name__,)


def conversations(name):
    """Return the recorded frames by connection, with `parsed` put in; each race variant is a conversation of its own."""
    transcript = json.loads((GOLDEN / f"{name}.json").read_text())
    by_conn = {}
    for entry in transcript["frames"]:
        if entry["opcode"] in ("text", "binary"):
            entry["raw"] = entry["data"].encode() if "data" in entry else base64.b64decode(entry.get("b64", ""))
            entry["parsed"] = parse(entry["raw"], entry["opcode"], entry["dir"])
        by_conn.setdefault(entry["conn"], []).append(entry)
    variants = transcript.get("variants", []) + transcript.get("variants_gapped", [])
    if not variants:
        return transcript, by_conn
    [frames] = by_conn.values()
    heard = [[{"dir": "recv", "opcode": "text", "parsed": parse(d.encode(), "text", "recv")} for d in v["recv"]] for v in variants]
    return transcript, {i: frames + more for i, more in enumerate(heard)}


def grouped(entries, batched):
    """Return the entries, runs of received frames of one kind as one list."""
    runs = []
    for entry in entries:
        received = entry["dir"] == "recv" and entry["opcode"] in ("text", "binary")
        last = runs[-1] if runs and isinstance(runs[-1], list) else None
        if received and batched and last and last[0]["opcode"] == entry["opcode"]:
            last.append(entry)
        else:
            runs.append([entry] if received else entry)
    return runs


@pytest.mark.parametrize("batched", [False, True], ids=["singly", "batched"])
@pytest.mark.parametrize("name", RAW)
def test_raw_conversation(name, batched):
    """Whatever Phoenix said, one frame or many at a time, is understood, and what rig sends is what was recorded."""
    transcript, by_conn = conversations(name)
    not_ours = same = 0
    for entries in by_conn.values():
        texts = [entry["raw"] for entry in entries if entry["opcode"] == "text" and "raw" in entry]
        if not any(entry["opcode"] in ("text", "binary") for entry in entries):
            continue
        replay = Replay("1.0.0" if texts and texts[0].lstrip().startswith(b"{") else "2.0.0")
        replay.socket.connect(0.0)
        replay.settle(replay.socket.opened(0.0), [("SocketOpened",)])
        over = False
        for entry in grouped(entries, batched):
            match entry:
                case list():
                    replay.receive([each["parsed"] for each in entry])
                case {"dir": "send", "opcode": "text" | "binary"}:
                    replay.send(entry["parsed"], entry["raw"])
                case {"dir": "send", "opcode": "close" | "tcp_drop"} if not over:
                    replay.close()
                    over = entry["opcode"] == "tcp_drop"
                case {"dir": "recv", "opcode": "close"} if not over:
                    over = True
                    replay.lost(entry["code"] or 1005, entry["reason"])
                case {"dir": "recv", "opcode": "tcp_eof" | "tcp_reset"} if not over:
                    over = True
                    replay.lost(1006)
        assert not replay.owed
        assert not replay.ahead
        not_ours += len(replay.not_ours)
        same += replay.same
        replay.close() if replay.socket.state.name != "CLOSED" else None
    assert (not_ours > 0) == (transcript["scenario"] in NOT_OURS)
    assert same or transcript["scenario"] in ("malformed_json", "heartbeat_binary_frame")


class OfficialClient(Replay):
    """One socket over all connections of a transcript, with the clock of the recording; heartbeats come of themselves."""

    def __init__(self, *, early_pushes):
        super().__init__("2.0.0", least_chance=0.9999, heartbeat_interval=1.0)
        self.skew, self.early_pushes = 0.0, early_pushes

    def beat(self, frame):
        self.beats.add(frame.ref)
        self.settle(self.socket.handle_timeout(self.now), [])
        return True

    def follow(self, entry, upcoming):
        """Do or hear what the entry says; `upcoming` are the frames that are sent from here on."""
        self.now = entry["t_ms"] / 1000 + self.skew
        match entry["dir"], entry["opcode"]:
            case _, "text" | "binary":
                self.follow_frame(entry, upcoming)
            case _, "connect":
                self.dial(entry["t_ms"] / 1000)
            case _, "http":
                if upcoming:
                    self.steer(upcoming[0]["parsed"].ref)
                self.settle(self.socket.opened(self.now), [("SocketOpened",)])
            case _, "error":
                received = self.socket.connect_failed(Cause.UNAUTHORIZED, entry["data"], self.now)
                self.settle(received, [("lost", Cause.UNAUTHORIZED, True)])
            case _, "closed" if self.socket.state.name in ("OPEN", "CLOSED"):
                self.lost(entry["code"], entry["reason"])
            case "send", "close" if self.socket.state.name == "OPEN" and entry["code"] is None:
                self.close()

    def dial(self, recorded):
        """Connect, or reconnect when it is time to, which is later than phoenix.js does."""
        if self.socket.state.name == "IDLE":
            self.settle(self.socket.connect(self.now), [("ConnectDue",)])
            return
        self.now = max(self.now, self.socket.deadline)
        self.skew = self.now - recorded
        self.settle(self.socket.handle_timeout(self.now), [("ConnectDue",)])

    def follow_frame(self, entry, upcoming):
        frame = entry["parsed"]
        if entry["dir"] == "recv":
            self.receive([frame])
            return
        self.send(frame, entry["raw"])
        if frame.event == "phx_join" and self.early_pushes:
            for later in upcoming[1:]:
                self.push(later["parsed"], self.lives[frame.topic])


@pytest.mark.parametrize("name", JS)
def test_conversation_of_phoenix_js(name):
    """With the same calls rig sends every frame that the official client sent, byte for byte, over all its connections."""
    transcript, _ = conversations(name)
    entries = transcript["frames"]
    replay = OfficialClient(early_pushes=transcript["scenario"].endswith("pushes_before_join_reply"))
    for i, entry in enumerate(entries):
        replay.follow(entry, [e for e in entries[i:] if e["dir"] == "send" and e["opcode"] in ("text", "binary")])
    assert not replay.owed
    assert not replay.ahead
    assert replay.not_ours == []
    assert replay.same == sum(e["dir"] == "send" and e["opcode"] in ("text", "binary") for e in entries)
