"""The server's half of the two serializers, byte by byte."""

import json
from typing import Any

import pytest

from mock_server.frames import BINARY, TEXT, split_frames
from mock_server.serializer import Message, SerializerV1, SerializerV2, Undecodable, Unencodable

V1, V2 = SerializerV1(), SerializerV2()


def decoded(frame: bytes) -> Any:
    ((opcode, payload),) = split_frames(frame)
    return json.loads(payload) if opcode == TEXT else payload


def test_v1_messages_are_objects_without_join_ref() -> None:
    """It takes one, and never sends one."""
    sent = b'{"join_ref":"1","ref":"2","topic":"t","event":"e","payload":"any"}'
    assert V1.decode(TEXT, sent) == Message("1", "2", "t", "e", "any")
    assert decoded(V1.encode_push("1", "t", "e", {})) == {"topic": "t", "event": "e", "payload": {}, "ref": None}
    reply = {"topic": "t", "event": "phx_reply", "ref": "2", "payload": {"status": "ok", "response": {"a": 1}}}
    assert decoded(V1.encode_reply("1", "2", "t", "ok", {"a": 1})) == reply
    assert decoded(V1.encode_broadcast("t", "e", {"a": 1})) == {"topic": "t", "event": "e", "payload": {"a": 1}, "ref": None}


@pytest.mark.parametrize("missing", ["topic", "event", "payload", "ref"])
def test_v1_message_needs_all_keys_but_the_join_ref(missing: str) -> None:
    """One that lacks any other cannot be read."""
    fields = {"topic": "t", "event": "e", "payload": {}, "ref": "1"}
    del fields[missing]
    with pytest.raises(Undecodable):
        V1.decode(TEXT, json.dumps(fields).encode())


@pytest.mark.parametrize("text", [b'[null,"1","t","e",{}]', b'"text"', b"1", b"", b"\xff"])
def test_v1_message_has_to_be_an_object(text: bytes) -> None:
    """An array of the other version is none."""
    with pytest.raises(Undecodable):
        V1.decode(TEXT, text)


def test_v2_messages_are_arrays() -> None:
    """Replies and pushes carry the join_ref, broadcasts neither that nor a ref."""
    assert V2.decode(TEXT, b'["1","2","t","e",{"a":1},"more"]') == Message("1", "2", "t", "e", {"a": 1})
    assert decoded(V2.encode_push("1", "t", "e", {})) == ["1", None, "t", "e", {}]
    assert decoded(V2.encode_reply("1", "2", "t", "ok", [])) == ["1", "2", "t", "phx_reply", {"response": [], "status": "ok"}]
    assert decoded(V2.encode_control("1", "t", "phx_close", {})) == ["1", "1", "t", "phx_close", {}]
    assert decoded(V2.encode_broadcast("t", "e", {})) == [None, None, "t", "e", {}]


def test_v2_binary_messages_have_their_lengths_first() -> None:
    """A push to the server has a ref, a push to the client has none; a null join_ref has length 0."""
    assert V2.decode(BINARY, b"\x00\x01\x02\x01\x05112tevent\x01\x02") == Message("1", "12", "t", "event", b"\x01\x02")
    assert decoded(V2.encode_push("1", "t", "ev", b"\x00\xff")) == b"\x00\x01\x01\x021tev\x00\xff"
    assert decoded(V2.encode_push(None, "t", "ev", b"")) == b"\x00\x00\x01\x02tev"
    assert decoded(V2.encode_reply("1", "23", "t", "ok", b"\x01")) == b"\x01\x01\x02\x01\x02123tok\x01"
    assert decoded(V2.encode_broadcast("t", "ev", b"\x01")) == b"\x02\x01\x02tev\x01"
    assert decoded(V2.encode_broadcast("ü", "e", b"")) == b"\x02\x02\x01\xc3\xbce"


@pytest.mark.parametrize(
    ("field", "names"),
    [("join_ref", ("x" * 256, "t", "e")), ("topic", ("1", "x" * 256, "e")), ("event", ("1", "t", "x" * 256))],
)
def test_oversized_name_of_a_binary_push_is_named(field: str, names: tuple[str, str, str]) -> None:
    """One length byte counts to 255."""
    with pytest.raises(Unencodable, match=field):
        V2.encode_push(*names, b"data")
    assert V2.encode_push(*(name[:255] for name in names), b"data")


@pytest.mark.parametrize(("field", "join_ref", "ref"), [("ref", "1", "x" * 256), ("join_ref", "x" * 256, "1")])
def test_oversized_name_of_a_binary_reply_is_named(field: str, join_ref: str, ref: str) -> None:
    """Refs are names, too."""
    with pytest.raises(Unencodable, match=f"the {field} of"):
        V2.encode_reply(join_ref, ref, "t", "ok", b"data")


@pytest.mark.parametrize(("field", "names"), [("topic", ("x" * 256, "e")), ("event", ("t", "é" * 128))])
def test_oversized_name_of_a_binary_broadcast_is_named(field: str, names: tuple[str, str]) -> None:
    """Bytes count, not characters."""
    with pytest.raises(Unencodable, match=field):
        V2.encode_broadcast(*names, b"data")


@pytest.mark.parametrize("payload", [[1], "text", 1, None])
def test_v2_payload_has_to_be_an_object(payload: Any) -> None:
    """Of pushes and broadcasts; a reply's response may be anything."""
    with pytest.raises(Unencodable):
        V2.encode_push("1", "t", "e", payload)
    with pytest.raises(Unencodable):
        V2.encode_broadcast("t", "e", payload)
    assert decoded(V2.encode_reply("1", "2", "t", "ok", payload))[4]["response"] == payload


def test_v1_has_no_binary() -> None:
    """Neither pushes nor replies nor broadcasts."""
    for encode in (
        lambda: V1.encode_push("1", "t", "e", b""),
        lambda: V1.encode_reply("1", "1", "t", "ok", b""),
        lambda: V1.encode_broadcast("t", "e", b""),
    ):
        with pytest.raises(Unencodable):
            encode()
