"""
Every frame that was recorded from Phoenix and from phoenix.js, through the serializers, byte for byte.

Left out, because they hold no frame of this protocol:
- `longpoll*`: long-poll bodies; frames travel inside JSON there;
- `compression_offer`: one frame is deflated, which is the transport's business (rig offers no compression);
- `origin_check`, `connect_raises`, `connect_refused_*`: HTTP answers only.
"""

import base64
import json
from pathlib import Path

import msgspec
import pytest

from rig.errors import RemoteProtocolError
from rig.phoenix.message import BinaryFrame, BinaryMessage
from rig.phoenix.serializer import SerializerV1, SerializerV2, decode_binary, decode_payload, decode_reply

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LEFT_OUT = ("longpoll", "compression_offer", "origin_check", "connect_raises", "connect_refused")
PATHS = [path for path in sorted(GOLDEN.glob("*.json")) if not any(word in path.stem for word in LEFT_OUT)]

MALFORMED_ON_PURPOSE = {"malformed_json", "malformed_ws_frames"}
"""Their clients send what no client should: rig cannot, and need not."""
NOT_THIS_VERSION = {"connect_without_vsn": [b'[null,"2","phoenix","heartbeat",{}]']}
"""A V2 frame sent on a V1 socket on purpose."""
NO_STRING_TOPIC = [b'[null,"1",null,', b'[null,"1",5,', b'"topic":null}', b'"topic":5}']
"""Replies to a client that sent such topics. rig never does, and rejects them."""
JSON_IN_BINARY = "binary_on_v1"
"""A V1 server takes JSON in binary frames, and dies of a V2 binary frame; rig sends neither on V1."""


def load(path):
    """Return a transcript's name, its text and binary frames as (dir, opcode, bytes), and its race variants among them."""
    transcript = json.loads(path.read_text())
    frames = []
    for frame in transcript["frames"]:
        if frame["opcode"] == "text" and "data" in frame:
            frames.append((frame["dir"], "text", frame["data"].encode()))
        elif frame["opcode"] == "binary":
            frames.append((frame["dir"], "binary", base64.b64decode(frame["b64"])))
    for variant in transcript.get("variants", []) + transcript.get("variants_gapped", []):
        frames += [("recv", "text", data.encode()) for data in variant["recv"]]
    return transcript["scenario"], frames


TRANSCRIPTS = [pytest.param(*load(path), id=path.stem) for path in PATHS]


def serializer_of(data):
    """Return the serializer of the version that a text frame is written in."""
    return SerializerV1() if data.lstrip().startswith(b"{") else SerializerV2()


def raw_fields(data):
    """Return (join_ref, ref, topic, event) and the payload's text, cut out with no help of rig's."""
    if data.lstrip().startswith(b"{"):
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        raws = [fields.get(name, msgspec.Raw(b"null")) for name in ("join_ref", "ref", "topic", "event", "payload")]
    else:
        raws = msgspec.json.decode(data, type=list[msgspec.Raw])[:5]
    return [json.loads(bytes(raw)) for raw in raws[:4]], bytes(raws[4])


def canonical(text):
    """Tell whether a client that writes compact JSON would have written this text."""
    return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False).encode() == text


def test_the_transcripts_are_there():
    """Both lines of Phoenix, both versions, and the official client are among the transcripts."""
    assert len(PATHS) > 150
    assert {path.stem[:9] for path in PATHS} >= {"phx1.7-v1", "phx1.7-v2", "phx1.8-v1", "phx1.8-v2", "js-phx1.7", "js-phx1.8"}


@pytest.mark.parametrize(("scenario", "frames"), TRANSCRIPTS)
def test_sent_text_frames_are_written_alike(scenario, frames):
    """rig writes each frame that the recorded client sent, from its five fields, to the same bytes."""
    for _, _, data in (f for f in frames if f[:2] == ("send", "text")):
        if scenario in MALFORMED_ON_PURPOSE:
            continue
        fields, payload = raw_fields(data)
        serializer = serializer_of(data)
        assert serializer.encode(*fields, msgspec.Raw(payload)) == data
        if canonical(payload):
            assert serializer.encode(*fields, json.loads(payload)) == data


@pytest.mark.parametrize(("scenario", "frames"), TRANSCRIPTS)
def test_sent_binary_frames_are_written_alike(scenario, frames):
    """rig writes each binary frame that the recorded client sent to the same bytes."""
    for _, _, data in (f for f in frames if f[:2] == ("send", "binary")):
        if scenario == JSON_IN_BINARY:
            continue
        fields, start = [], 5
        for length in data[1:5]:
            fields.append(data[start : start + length].decode() or None)
            start += length
        frame = SerializerV2().encode(*fields, data[start:])
        assert frame == data
        assert isinstance(frame, BinaryFrame)


@pytest.mark.parametrize(("scenario", "frames"), TRANSCRIPTS)
def test_received_text_frames_are_read_alike(scenario, frames):
    """Each frame that Phoenix sent has the same five fields alone, in a batch, and for any JSON parser."""
    together = {SerializerV1: [], SerializerV2: []}
    for _, _, data in (f for f in frames if f[:2] == ("recv", "text")):
        serializer = serializer_of(data)
        fields, payload = raw_fields(data)
        if any(mark in data for mark in NO_STRING_TOPIC):
            assert scenario == "malformed_json"
            with pytest.raises(RemoteProtocolError):
                serializer.decode(data)
            continue
        alone = serializer.decode(data)
        expected = [ref if ref is None else str(ref) for ref in fields[:2]] + fields[2:]
        assert [alone.join_ref, alone.ref, alone.topic, alone.event] == expected
        assert bytes(alone.payload) == payload
        assert decode_payload(alone) == json.loads(payload)
        if alone.event == "phx_reply" and alone.ref is not None:
            reply = json.loads(payload)
            assert decode_reply(alone) == (reply["status"], reply["response"])
        if expected == fields:
            together[type(serializer)].append((data, alone))
        else:
            assert scenario in ("heartbeat", "malformed_json")
    for kind, pairs in together.items():
        batch = kind().decode_batch([data for data, _ in pairs])
        for message, (_, alone) in zip(batch, pairs, strict=True):
            assert message.join_ref == alone.join_ref
            assert (message.ref, message.topic, message.event) == (alone.ref, alone.topic, alone.event)
            assert bytes(message.payload) == bytes(alone.payload)


@pytest.mark.parametrize(("scenario", "frames"), TRANSCRIPTS)
def test_received_binary_frames_are_read_alike(scenario, frames):
    """Each binary frame that Phoenix sent has the fields that its header's lengths cut out."""
    for _, _, data in (f for f in frames if f[:2] == ("recv", "binary")):
        count = {0: 3, 1: 4, 2: 2}[data[0]]
        fields, start = [], 1 + count
        for length in data[1 : 1 + count]:
            fields.append(data[start : start + length].decode())
            start += length
        match data[0]:
            case 0:
                expected = BinaryMessage(fields[0], None, fields[1], fields[2], data[start:])
            case 1:
                expected = BinaryMessage(fields[0], fields[1] or None, fields[2], "phx_reply", data[start:], fields[3])
            case _:
                expected = BinaryMessage(None, None, fields[0], fields[1], data[start:])
        assert decode_binary(data) == expected


def test_frames_for_the_other_version_are_rejected():
    """A V1 socket does not understand V2 frames, nor the reverse."""
    for data in NOT_THIS_VERSION["connect_without_vsn"]:
        with pytest.raises(RemoteProtocolError):
            SerializerV1().decode(data)
    with pytest.raises(RemoteProtocolError):
        SerializerV2().decode(b'{"topic":"phoenix","event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"1"}')
