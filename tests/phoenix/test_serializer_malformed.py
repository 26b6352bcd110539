"""What no Phoenix server would send (`rig.phoenix.serializer`): each kind is refused, and nothing else is raised."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import RemoteProtocolError
from rig.phoenix.serializer import SerializerV1, SerializerV2, decode_binary

V1, V2 = SerializerV1(), SerializerV2()
GOOD = {"2.0.0": b'["1","2","t","e",{"a":1}]', "1.0.0": b'{"topic":"t","event":"e","payload":{"a":1},"ref":"2"}'}
DEEP = b"[" * 100_000
MALFORMED_V2 = {
    "not json": b"hello",
    "empty": b"",
    "blank": b" ",
    "number": b"1",
    "null": b"null",
    "truncated": b'["1","2","t","e",{}',
    "object": GOOD["1.0.0"],
    "no elements": b"[]",
    "four elements": b'["1","2","t","e"]',
    "topic null": b'["1","2",null,"e",{}]',
    "topic number": b'["1","2",5,"e",{}]',
    "event null": b'["1","2","t",null,{}]',
    "event list": b'["1","2","t",[],{}]',
    "trailing text": GOOD["2.0.0"] + b" x",
    "two frames": GOOD["2.0.0"] + b"," + GOOD["2.0.0"],
    "two lines": GOOD["2.0.0"] * 2,
    "bad escape": b'["1","2","t","e","\\q"]',
    "half a surrogate": b'["1","2","t","e","\\ud800"]',
    "NaN": b'["1","2","t","e",NaN]',
    "leading zero": b'["1","2","t","e",01]',
    "control character": b'["1","2","t","e","\n"]',
    "single quotes": b"['1','2','t','e',{}]",
    "bad utf-8 in the topic": b'["1","2","\xff","e",{}]',
    "utf-16": GOOD["2.0.0"].decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD["2.0.0"],
    "zeros": b"\0" * 20,
    "open deep nesting": DEEP,
    "deep payload": b'["1","2","t","e",' + DEEP + b"]" * 100_001,
    "deep ref": b"[" + DEEP + b"]" * 100_000,
    "huge ref": b'["1",' + b"9" * 5000 + b',"t","e",{}]',
    "ref out of range": b'["1",1e400,"t","e",{}]',
}
MALFORMED_V1 = {
    "not json": b"hello",
    "empty": b"",
    "array": GOOD["2.0.0"],
    "no payload": b'{"topic":"t","event":"e","ref":"1"}',
    "no ref": b'{"topic":"t","event":"e","payload":{}}',
    "no topic": b'{"event":"e","payload":{},"ref":"1"}',
    "topic null": b'{"topic":null,"event":"e","payload":{},"ref":"1"}',
    "event number": b'{"topic":"t","event":1,"payload":{},"ref":"1"}',
    "bad utf-8 in a key": b'{"\xff":1}',
    "deep payload": b'{"topic":"t","event":"e","ref":"1","payload":' + DEEP + b"]" * 100_000 + b"}",
    "truncated": GOOD["1.0.0"][:-1],
    "huge ref": b'{"topic":"t","event":"e","payload":{},"ref":' + b"9" * 5000 + b"}",
    "trailing text": GOOD["1.0.0"] + b" x",
}
MALFORMED = [pytest.param(V2, f, id=f"2-{n}") for n, f in MALFORMED_V2.items()]
MALFORMED += [pytest.param(V1, f, id=f"1-{n}") for n, f in MALFORMED_V1.items()]


@pytest.mark.parametrize(("serializer", "frame"), MALFORMED)
def test_malformed_text(serializer, frame):
    """A frame that no Phoenix would send is refused alone, and spoils the batch that it is in."""
    with pytest.raises(RemoteProtocolError):
        serializer.decode(frame)
    for batch in ([frame], [GOOD[serializer.vsn], frame], [frame, GOOD[serializer.vsn]]):
        with pytest.raises(RemoteProtocolError):
            serializer.decode_batch(batch)


def test_two_halves_are_not_one_message():
    """Two malformed frames that would be one message together are refused."""
    with pytest.raises(RemoteProtocolError, match="only together"):
        V2.decode_batch([b'["1","2","t","e",[1', b"2]]"])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"\x00\x01\x01",
        b"\x01\x01\x01\x01",
        b"\x02\x01",
        b"\x02\x05\x05abc",
        b"\x00\xff\xff\xff",
        b"\x03\x01\x01te",
        b"\xff" * 300,
        b"\x02\x01\x01\xffe",
        b"[null]",
        bytes(1),
    ],
)
def test_malformed_binary(frame):
    """An empty, short, unknown or garbled binary frame is refused."""
    with pytest.raises(RemoteProtocolError):
        decode_binary(frame)


@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from(sorted(MALFORMED_V2.values())) | st.sampled_from(sorted(GOOD.values())), max_size=5
    )
)
def test_decoding_raises_nothing_else(frames):
    """Whatever bytes arrive, decoding gives messages or RemoteProtocolError."""
    for decode in (V1.decode_batch, V2.decode_batch):
        with suppress(RemoteProtocolError):
            assert len(decode(frames)) == len(frames)
    for frame in frames:
        for decode in (V1.decode, V2.decode, decode_binary):
            with suppress(RemoteProtocolError):
                decode(frame)
