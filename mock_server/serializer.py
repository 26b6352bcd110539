"""
The two Phoenix serializers as the server applies them: 1.0.0 (JSON objects) and 2.0.0 (JSON arrays and binary).

`encode_*` returns a complete WebSocket frame, so that a broadcast is built once and written as it is to every subscriber.
A payload of type `bytes` is a binary payload (`{:binary, data}` in Phoenix).
Source: Phoenix.Socket.V1.JSONSerializer, Phoenix.Socket.V2.JSONSerializer.
"""

from typing import Any, ClassVar, Protocol

import msgspec

from mock_server.frames import BINARY, TEXT, encode_frame

_encode_json = msgspec.json.Encoder().encode
_decode_array = msgspec.json.Decoder(list[Any]).decode
_NAME_BYTES = 255
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class Undecodable(Exception):
    """A frame that the serializer cannot read; Phoenix's socket process dies of it (close code 1011)."""


class Unencodable(Exception):
    """A payload that the serializer cannot write; the process that tried dies of it."""


class Message(msgspec.Struct, frozen=True):
    """The five fields as a client sent them; refs and topic are any JSON value, and come back verbatim."""

    join_ref: Any
    ref: Any
    topic: Any
    event: Any
    payload: Any


class Serializer(Protocol):
    """What a socket needs of its serializer."""

    version: ClassVar[str]

    def decode(self, opcode: int, payload: bytes) -> Message:
        """Read one frame."""

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Build the frame of a channel's own push."""

    def encode_reply(self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any) -> bytes:
        """Build the frame of a `phx_reply`."""

    def encode_control(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Build a `phx_close` or `phx_error`, whose ref is the join_ref."""

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        """Build the frame that every subscriber gets, with neither join_ref nor ref."""


class SerializerV1:
    """`{"topic", "event", "payload", "ref"}`; takes a join_ref, never sends one, knows no binary payloads."""

    version: ClassVar[str] = "1.0.0"

    def decode(self, opcode: int, payload: bytes) -> Message:
        """
        Read one frame, whether text or binary: this serializer takes both as JSON.

        Raises:
            Undecodable: If it is not a JSON object with the four keys.
        """
        try:
            fields = _decode_object(payload)
            return Message(fields.get("join_ref"), fields["ref"], fields["topic"], fields["event"], fields["payload"])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError) as exc:
            raise Undecodable(str(exc)) from exc

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """
        Build the frame of a channel's own push.

        Raises:
            Unencodable: If the payload is binary.
        """
        return self._encode(event, payload, None, topic)

    def encode_reply(self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any) -> bytes:
        """
        Build the frame of a `phx_reply`.

        Raises:
            Unencodable: If the response is binary.
        """
        if isinstance(response, bytes):
            raise Unencodable("the 1.0.0 serializer has no binary replies")
        return self._encode("phx_reply", {"response": response, "status": status}, ref, topic)

    def encode_control(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Build a `phx_close` or `phx_error`, whose ref is the join_ref."""
        return self._encode(event, payload, join_ref, topic)

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        """
        Build the frame that every subscriber gets.

        Raises:
            Unencodable: If the payload is binary.
        """
        return self._encode(event, payload, None, topic)

    def _encode(self, event: str, payload: Any, ref: Any, topic: Any) -> bytes:
        if isinstance(payload, bytes):
            raise Unencodable("the 1.0.0 serializer has no binary payloads")
        return encode_frame(TEXT, _encode_json({"event": event, "payload": payload, "ref": ref, "topic": topic}))


class SerializerV2:
    """`[join_ref, ref, topic, event, payload]`, and binary frames with one-byte lengths."""

    version: ClassVar[str] = "2.0.0"

    def decode(self, opcode: int, payload: bytes) -> Message:
        """
        Read one frame; a text frame may carry more than five elements.

        Raises:
            Undecodable: If it is not such an array, or not a client's binary push.
        """
        if opcode == BINARY:
            return self._decode_binary(payload)
        try:
            fields = _decode_array(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise Undecodable(str(exc)) from exc
        if len(fields) < 5:
            raise Undecodable("fewer than five elements")
        return Message(*fields[:5])

    def _decode_binary(self, payload: bytes) -> Message:
        """Read `00 lengths | join_ref ref topic event data`; an empty field is the empty string, not null."""
        if len(payload) < 5 or payload[0] != 0:
            raise Undecodable("not a client's binary push")
        fields, start = [], 5
        for length in payload[1:5]:
            fields.append(payload[start : start + length])
            start += length
        if start > len(payload):
            raise Undecodable("the lengths exceed the frame")
        try:
            join_ref, ref, topic, event = (field.decode() for field in fields)
        except UnicodeDecodeError as exc:
            raise Undecodable(str(exc)) from exc
        return Message(join_ref, ref, topic, event, payload[start:])

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """
        Build the frame of a channel's own push.

        Raises:
            Unencodable: If the payload is neither an object nor binary, or a name exceeds 255 bytes in a binary frame.
        """
        if isinstance(payload, bytes):
            return _encode_binary(0, {"join_ref": join_ref, "topic": topic, "event": event}, payload)
        return _encode_text(join_ref, None, topic, event, _require_object(payload))

    def encode_reply(self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any) -> bytes:
        """
        Build the frame of a `phx_reply`.

        Raises:
            Unencodable: If the response is binary and a name exceeds 255 bytes.
        """
        if isinstance(response, bytes):
            return _encode_binary(1, {"join_ref": join_ref, "ref": ref, "topic": topic, "status": status}, response)
        return _encode_text(join_ref, ref, topic, "phx_reply", {"response": response, "status": status})

    def encode_control(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Build a `phx_close` or `phx_error`, whose ref is the join_ref."""
        return _encode_text(join_ref, join_ref, topic, event, payload)

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        """
        Build the frame that every subscriber gets, with neither join_ref nor ref.

        Raises:
            Unencodable: If the payload is neither an object nor binary, or a name exceeds 255 bytes in a binary frame.
        """
        if isinstance(payload, bytes):
            return _encode_binary(2, {"topic": topic, "event": event}, payload)
        return _encode_text(None, None, topic, event, _require_object(payload))


SERIALIZERS: dict[str, Serializer] = {"1": SerializerV1(), "2": SerializerV2()}


def _encode_text(join_ref: Any, ref: Any, topic: Any, event: str, payload: Any) -> bytes:
    return encode_frame(TEXT, _encode_json((join_ref, ref, topic, event, payload)))


def _require_object(payload: Any) -> Any:
    if not isinstance(payload, dict):
        raise Unencodable("the payload of a push is an object")
    return payload


def _encode_binary(kind: int, names: dict[str, Any], data: bytes) -> bytes:
    """Build `kind, one length byte a name | names | data`; null is written as the empty string."""
    encoded = [b"" if name is None else str(name).encode() for name in names.values()]
    for field, name in zip(names, encoded, strict=True):
        if len(name) > _NAME_BYTES:
            raise Unencodable(f"the {field} of a binary frame has at most {_NAME_BYTES} bytes, not {len(name)}")
    return encode_frame(BINARY, bytes((kind, *map(len, encoded))) + b"".join(encoded) + data)
