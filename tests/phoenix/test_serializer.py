"""`rig.phoenix.serializer`."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import LocalProtocolError, RemoteProtocolError
from rig.phoenix.message import BinaryFrame, BinaryMessage, Message, MessageV1
from rig.phoenix.serializer import SERIALIZERS, SerializerV1, SerializerV2, decode_binary, decode_payload, decode_reply

V1, V2 = SerializerV1(), SerializerV2()
GOOD = {"2.0.0": b'["1","2","t","e",{"a":1}]', "1.0.0": b'{"topic":"t","event":"e","payload":{"a":1},"ref":"2"}'}
BOTH = pytest.mark.parametrize("serializer", [V1, V2], ids=["1.0.0", "2.0.0"])


def fields(message):
    return (message.join_ref, message.ref, message.topic, message.event, bytes(message.payload))


def test_names_its_version():
    """Each serializer is found by the `vsn` that it announces."""
    assert {vsn: made().vsn for vsn, made in SERIALIZERS.items()} == {"1.0.0": "1.0.0", "2.0.0": "2.0.0"}


# Golden bytes.


def test_v2_push_bytes():
    """A V2 text frame is the compact array, non-ASCII text as it is."""
    frame = V2.encode("1", "2", "room:é", "echo", {"a": [1, None, "x\u2028"]})

    assert frame == '["1","2","room:é","echo",{"a":[1,null,"x\u2028"]}]'.encode()
    assert not isinstance(frame, BinaryFrame)


def test_v2_heartbeat_bytes():
    """The heartbeat is the frame that phoenix.js sends."""
    assert V2.encode(None, "1", "phoenix", "heartbeat", {}) == b'[null,"1","phoenix","heartbeat",{}]'


def test_v1_push_bytes():
    """A V1 frame is an object; the join_ref goes in where there is one."""
    assert V1.encode("1", "2", "t", "e", {"a": 1}) == b'{"topic":"t","event":"e","payload":{"a":1},"ref":"2","join_ref":"1"}'
    assert V1.encode(None, "2", "phoenix", "heartbeat", {}) == b'{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"2"}'


@pytest.mark.parametrize(
    "payload", [b"\x01\x02", bytearray(b"\x01\x02"), memoryview(b"\x01\x02"), memoryview(b"\x01\x00\x02")[::2]]
)
def test_v2_binary_push_bytes(payload):
    """A push of bytes is a binary frame: kind 0, four lengths in bytes, four fields, the data."""
    frame = V2.encode("10", "1", "tü", "e", payload)

    assert frame == b"\x00\x02\x01\x03\x01" + b"101t\xc3\xbce" + b"\x01\x02"
    assert isinstance(frame, BinaryFrame)


def test_v2_binary_push_without_join_ref():
    """A field that is None has length 0."""
    assert V2.encode(None, "7", "phoenix", "heartbeat", b"") == b"\x00\x00\x01\x07\x097phoenixheartbeat"


def test_raw_payload_goes_out_as_it_is():
    """Text that is JSON already is not encoded again."""
    assert V2.encode("1", "2", "t", "e", msgspec.Raw(b'{"b" : 1.50}')) == b'["1","2","t","e",{"b" : 1.50}]'


# Limits and payloads that do not fit.


@pytest.mark.parametrize("field", range(4))
def test_binary_header_field_limit(field):
    """A field of 255 bytes fits a binary frame, one of 256 is refused by name; the length counts bytes, not letters."""
    values = ["1", "2", "t", "e"]
    values[field] = "é" * 127 + "x"
    assert V2.encode(*values, b"data").endswith(b"data")

    values[field] = "é" * 128
    with pytest.raises(LocalProtocolError, match=("join_ref", "ref", "topic", "event")[field] + " is 256 bytes"):
        V2.encode(*values, b"data")


def test_text_fields_have_no_limit():
    """A long topic is fine in a text frame."""
    assert len(V2.encode("1", "2", "t" * 1000, "e", {})) == 1019


def test_v1_has_no_binary():
    """A push of bytes on a V1 socket is a sentence, not a frame."""
    with pytest.raises(LocalProtocolError, match=r"--vsn 2\.0\.0"):
        V1.encode("1", "2", "t", "e", b"data")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@BOTH
@pytest.mark.parametrize("payload", [object(), {(1, 2): 3}, "\ud800", nested(100_000)], ids=["object", "key", "surrogate", "deep"])
def test_payload_that_is_no_json(serializer, payload):
    """What JSON cannot say is our mistake, and says so."""
    with pytest.raises(LocalProtocolError, match="cannot be written as JSON"):
        serializer.encode("1", "2", "t", "e", payload)


def test_binary_field_that_is_no_utf8():
    """A topic with half a surrogate pair is refused in a binary frame too."""
    with pytest.raises(LocalProtocolError, match="topic cannot be written"):
        V2.encode("1", "2", "\ud800", "e", b"")


# Decoding text.


@BOTH
def test_decode_batch_gives_one_message_a_frame(serializer):
    """A batch keeps its order, and each payload stays the text that it was."""
    frames = [GOOD[serializer.vsn].replace(b'"a":1', b'"a":  %d' % i) for i in range(3)]

    messages = serializer.decode_batch(frames)

    assert [bytes(m.payload) for m in messages] == [b'{"a":  %d}' % i for i in range(3)]
    assert {(m.ref, m.topic, m.event) for m in messages} == {("2", "t", "e")}
    assert serializer.decode_batch([]) == []


@BOTH
def test_decode_agrees_with_decode_batch(serializer):
    """One frame means the same alone and in a batch."""
    frame = GOOD[serializer.vsn]

    assert fields(serializer.decode(frame)) == fields(serializer.decode_batch([frame])[0])


def test_v1_join_ref_is_read_where_it_is():
    """A V1 server that says join_ref is understood, alone and in a batch."""
    frame = b'{"topic":"t","event":"e","payload":1,"ref":null,"join_ref":"7"}'

    assert V1.decode(frame).join_ref == V1.decode_batch([frame])[0].join_ref == "7"


def test_extra_elements_and_keys_are_ignored():
    """A longer array and an unknown key are accepted, as Phoenix accepts them."""
    longer, keyed = b'["1","2","t","e",{},1,[2]]', b'{"x":1,"topic":"t","event":"e","payload":{},"ref":"2"}'

    assert fields(V2.decode(longer)) == fields(V2.decode_batch([longer])[0]) == ("1", "2", "t", "e", b"{}")
    assert fields(V1.decode(keyed)) == fields(V1.decode_batch([keyed])[0]) == (None, "2", "t", "e", b"{}")


@pytest.mark.parametrize(
    ("ref", "read"), [(b"3", "3"), (b"null", None), (b"1.5", "1.5"), (b"true", "True"), (b'{"a":1}', "{'a': 1}")]
)
def test_refs_that_are_no_strings(ref, read):
    """`decode` is patient with refs that came back as numbers or objects; none but a number can look like one of ours."""
    assert V2.decode(b"[" + ref + b"," + ref + b',"t","e",{}]').ref == read
    assert V2.decode(b"[" + ref + b"," + ref + b',"t","e",{}]').join_ref == read
    assert V1.decode(b'{"topic":"t","event":"e","payload":{},"ref":' + ref + b"}").ref == read


# Decoding binary.


def test_binary_push():
    """Kind 0 from the server: a push without a ref."""
    assert decode_binary(b"\x00\x03\x03\x0a123topsome-event\x01\xff") == BinaryMessage(
        "123", None, "top", "some-event", b"\x01\xff"
    )


def test_binary_reply():
    """Kind 1: a reply with its status."""
    message = decode_binary(b"\x01\x03\x02\x03\x02100" + b"12topok\x01\x01")

    assert message == BinaryMessage("100", "12", "top", "phx_reply", b"\x01\x01", "ok")
    assert decode_reply(message) == ("ok", b"\x01\x01")


def test_binary_broadcast():
    """Kind 2: a broadcast has neither join_ref nor ref."""
    assert decode_binary(b"\x02\x04\x0at\xc3\xb6psome-event") == BinaryMessage(None, None, "töp", "some-event", b"")


def test_binary_empty_refs_are_none():
    """A length of 0 is a null ref."""
    assert decode_binary(b"\x01\x00\x00\x01\x02tok") == BinaryMessage(None, None, "t", "phx_reply", b"", "ok")


# Payloads.


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        (b'{"response":{"a":[1]},"status":"ok"}', ("ok", {"a": [1]})),
        (b'{"status":"retry_later","response":null}', ("retry_later", None)),
        (b'{"status":"error","response":"s","more":1}', ("error", "s")),
        (b'{"status":"","response":1.5e3}', ("", 1500.0)),
    ],
)
def test_decode_reply(payload, reply):
    """A reply has any string as its status and any JSON value as its response."""
    assert decode_reply(Message("1", "2", "t", "phx_reply", msgspec.Raw(payload))) == reply
    assert decode_reply(MessageV1("t", "phx_reply", msgspec.Raw(payload), "2")) == reply


@pytest.mark.parametrize(
    "payload", [b"{}", b"[]", b"1", b'{"status":1,"response":{}}', b'{"status":"ok"}', b'{"status":"ok","response":1e400}']
)
def test_decode_reply_of_something_else(payload):
    """A `phx_reply` that is no reply is the peer's mistake."""
    with pytest.raises(RemoteProtocolError, match="a reply without status and response"):
        decode_reply(Message("1", "2", "t", "phx_reply", msgspec.Raw(payload)))


def test_binary_push_named_reply():
    """A binary push that calls itself phx_reply has no status, and is no reply."""
    with pytest.raises(RemoteProtocolError):
        decode_reply(BinaryMessage("1", None, "t", "phx_reply", b""))


def test_decode_payload():
    """A payload becomes plain objects, or bytes if the frame was binary; numbers out of range are refused."""
    assert decode_payload(Message("1", "1", "t", "phx_error", msgspec.Raw(b'{"reason":"x"}'))) == {"reason": "x"}
    assert decode_payload(BinaryMessage(None, None, "t", "phx_error", b"\x00")) == b"\x00"
    with pytest.raises(RemoteProtocolError):
        decode_payload(Message("1", "1", "t", "phx_error", msgspec.Raw(b"1e400")))


# Properties.

TEXT = st.text(max_size=30)
REF = st.none() | TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@BOTH
@given(join_ref=REF, ref=REF, topic=TEXT, event=TEXT, payload=JSON)
def test_text_round_trip(serializer, join_ref, ref, topic, event, payload):
    """What is encoded is decoded to the same five fields, alone and in a batch; any JSON parser reads the same."""
    frame = serializer.encode(join_ref, ref, topic, event, payload)

    for message in (serializer.decode(frame), serializer.decode_batch([frame, frame])[1]):
        assert (message.join_ref, message.ref, message.topic, message.event) == (join_ref, ref, topic, event)
        assert decode_payload(message) == payload == json.loads(bytes(message.payload))


FIELD = st.text(max_size=300).map(lambda text: text.encode()[:255].decode(errors="ignore"))
"""Whatever fits a header field of a binary frame: at most 255 bytes."""


def put_together(kind, names, data):
    """Write a binary frame as a server does."""
    encoded = [name.encode() for name in names]
    return bytes([kind, *map(len, encoded)]) + b"".join(encoded) + data


def taken_apart(frame, count):
    """Read the fields and the data of a binary frame as a server does."""
    fields, start = [], 1 + count
    for length in frame[1 : 1 + count]:
        fields.append(frame[start : start + length].decode())
        start += length
    return fields, frame[start:]


@given(join_ref=st.none() | FIELD, ref=st.none() | FIELD, topic=FIELD, event=FIELD, data=st.binary())
def test_a_server_reads_what_a_binary_push_says(join_ref, ref, topic, event, data):
    """Four fields of any length and letters, then the data, byte for byte."""
    frame = V2.encode(join_ref, ref, topic, event, data)

    assert frame[0] == 0
    assert taken_apart(frame, 4) == ([join_ref or "", ref or "", topic, event], data)


@given(first=FIELD, second=FIELD, topic=FIELD, last=FIELD, data=st.binary())
def test_what_a_server_says_in_binary_frames_is_read(first, second, topic, last, data):
    """Push, reply and broadcast, with fields of any length and letters."""
    assert decode_binary(put_together(0, [first, topic, last], data)) == BinaryMessage(first or None, None, topic, last, data)
    reply = BinaryMessage(first or None, second or None, topic, "phx_reply", data, last)
    assert decode_binary(put_together(1, [first, second, topic, last], data)) == reply
    assert decode_reply(reply) == (last, data)
    assert decode_binary(put_together(2, [topic, last], data)) == BinaryMessage(None, None, topic, last, data)


@pytest.mark.parametrize("field", range(4))
def test_every_length_of_a_binary_field(field):
    """From 0 to 255 bytes, in each of the four places, both ways."""
    names = ["j", "r", "t", "e"]
    for length in range(256):
        names[field] = "x" * length
        assert taken_apart(V2.encode(*names, b"data"), 4) == (names, b"data")
        message = decode_binary(put_together(1, names, b"data"))
        assert (message.join_ref or "", message.ref or "", message.topic, message.status) == tuple(names)
        assert message.payload == b"data"


@given(frame=st.binary(max_size=40), cut=st.integers(0, 60), names=st.lists(FIELD, min_size=4, max_size=4))
def test_a_binary_frame_that_ends_early_is_never_misread(frame, cut, names):
    """A frame cut within its header is refused; one cut within its data has less of it."""
    kind, count = {0: (0, 3), 1: (1, 4), 2: (2, 2)}[len(frame) % 3]
    whole = put_together(kind, names[:count], frame)
    if cut < len(whole) - len(frame):
        with pytest.raises(RemoteProtocolError):
            decode_binary(whole[:cut])
    else:
        assert decode_binary(whole[:cut]).payload == frame[: cut - (len(whole) - len(frame))]
