"""
Frames to messages and back, for both versions that Phoenix speaks.

A whole batch of text frames is decoded in one call, which is several times faster than one call a frame. A batch that
does not decode is decoded frame by frame, so that one malformed frame costs itself and nothing else.

Text frames are valid UTF-8: every transport sees to that (`rig.transport.base`), and a payload is passed on as it came.

Source: Phoenix.Socket.V1.JSONSerializer, Phoenix.Socket.V2.JSONSerializer; phoenix.js serializer.js.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from rig.errors import LocalProtocolError, RemoteProtocolError
from rig.phoenix.message import REPLY, AnyMessage, BinaryFrame, BinaryMessage, Message, MessageV1, ReplyPayload

_FIELD_LIMIT = 255
"""Bytes of a header field in a binary frame: its length is one byte."""

_MALFORMED = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What decoding raises at a malformed frame."""

_encode = msgspec.json.Encoder().encode
_decode_reply = msgspec.json.Decoder(ReplyPayload).decode
_decode_any = msgspec.json.Decoder().decode

Decoded = TypeVar("Decoded", Message, MessageV1)


class Serializer(Protocol):
    """One version of the protocol."""

    vsn: str

    def encode(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any) -> bytes:
        """
        Return the frame.

        Args:
            join_ref: The ref of the channel's join, or None for the socket's own messages.
            ref: The message's own ref, or None where no reply is wanted.
            topic: The channel's topic.
            event: The event's name.
            payload: Plain objects or `msgspec.Raw` for a text frame; `bytes`, `bytearray` or `memoryview` for a binary one.

        Raises:
            LocalProtocolError: If the payload cannot be put into a frame of this version.
        """

    def decode_batch(self, frames: Sequence[bytes]) -> Sequence[AnyMessage]:
        """
        Return one message a frame.

        Args:
            frames: Each valid UTF-8. Payloads are not looked at, beyond where they end.

        Raises:
            RemoteProtocolError: If any of the frames is malformed.
        """

    def decode(self, frame: bytes) -> AnyMessage:
        """
        Return the message in one text frame, patient with refs that are no strings.

        Raises:
            RemoteProtocolError: If it is malformed.
        """


class SerializerV2:
    """`[join_ref, ref, topic, event, payload]`, and binary frames."""

    vsn = "2.0.0"

    def __init__(self) -> None:
        self._batch = msgspec.json.Decoder(list[Message]).decode
        self._lenient = msgspec.json.Decoder(tuple[Any, Any, str, str, msgspec.Raw]).decode

    def encode(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any) -> bytes:
        """Return `[join_ref, ref, topic, event, payload]`, or a binary push."""
        if isinstance(payload, bytes | bytearray | memoryview):
            return _encode_binary(join_ref, ref, topic, event, payload)
        return _encode_text((join_ref, ref, topic, event, payload))

    def decode_batch(self, frames: Sequence[bytes]) -> list[Message]:
        """Return one message a frame."""
        return _decode_joined(self._batch, frames)

    def decode(self, frame: bytes) -> Message:
        """Return the message of one frame. More than five elements are accepted, as Phoenix accepts them."""
        try:
            elements = msgspec.json.decode(frame, type=list[msgspec.Raw])
            join_ref, ref, topic, event, payload = self._lenient(b"[" + b",".join(elements[:5]) + b"]")
        except _MALFORMED as exc:
            raise RemoteProtocolError(_reason(exc)) from exc
        return Message(_ref(join_ref), _ref(ref), topic, event, payload)


class SerializerV1:
    """`{"topic", "event", "payload", "ref"}`, text only."""

    vsn = "1.0.0"

    def __init__(self) -> None:
        self._batch = msgspec.json.Decoder(list[MessageV1]).decode

    def encode(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any) -> bytes:
        """Return the object; `join_ref` goes in, since V1 servers accept it."""
        if isinstance(payload, bytes | bytearray | memoryview):
            raise LocalProtocolError("serializer 1.0.0 has no binary frames: use --vsn 2.0.0, or push JSON")
        fields = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        return _encode_text(fields if join_ref is None else fields | {"join_ref": join_ref})

    def decode_batch(self, frames: Sequence[bytes]) -> list[MessageV1]:
        """Return one message a frame."""
        return _decode_joined(self._batch, frames)

    def decode(self, frame: bytes) -> MessageV1:
        """Return the message of one frame."""
        try:
            fields = msgspec.json.decode(frame, type=dict[str, msgspec.Raw])
            topic, event, ref = (_decode_any(fields[name]) for name in ("topic", "event", "ref"))
            join_ref = _decode_any(fields["join_ref"]) if "join_ref" in fields else None
            payload = fields["payload"]
        except KeyError as exc:
            raise RemoteProtocolError(f"the key {exc} is missing") from exc
        except _MALFORMED as exc:
            raise RemoteProtocolError(_reason(exc)) from exc
        if not isinstance(topic, str) or not isinstance(event, str):
            raise RemoteProtocolError("topic and event must be strings")
        return MessageV1(topic, event, payload, _ref(ref), _ref(join_ref))


SERIALIZERS: dict[str, type[SerializerV1] | type[SerializerV2]] = {"1.0.0": SerializerV1, "2.0.0": SerializerV2}
"""By `vsn`."""


def decode_binary(frame: bytes) -> BinaryMessage:
    """
    Return the message in a binary frame from the server.

    Layouts, each length one byte: push `00 jl tl el | join_ref topic event data`, reply `01 jl rl tl sl | join_ref ref
    topic status data`, broadcast `02 tl el | topic event data`.

    Raises:
        RemoteProtocolError: If the kind is unknown, the frame too short, or a field not UTF-8.

    Source: phoenix.js serializer.js, binaryDecode.
    """
    kind = frame[0] if frame else None
    match kind:
        case 0:
            (join_ref, topic, event), data = _fields(frame, 3)
            return BinaryMessage(join_ref or None, None, topic, event, data)
        case 1:
            (join_ref, ref, topic, status), data = _fields(frame, 4)
            return BinaryMessage(join_ref or None, ref or None, topic, REPLY, data, status)
        case 2:
            (topic, event), data = _fields(frame, 2)
            return BinaryMessage(None, None, topic, event, data)
        case None:
            raise RemoteProtocolError("an empty binary frame")
        case _:
            raise RemoteProtocolError(f"a binary frame of unknown kind {kind}")


def decode_reply(message: AnyMessage) -> tuple[str, Any]:
    """
    Return status and response of a `phx_reply`; the response is plain objects, or bytes in a binary reply.

    Raises:
        RemoteProtocolError: If the payload is not that of a reply.
    """
    if isinstance(message, BinaryMessage):
        if message.status is None:
            raise RemoteProtocolError("a binary push that calls itself phx_reply")
        return message.status, message.payload
    try:
        reply = _decode_reply(message.payload)
        return reply.status, _decode_any(reply.response)
    except _MALFORMED as exc:
        raise RemoteProtocolError(f"a reply without status and response: {_reason(exc)}") from exc


def decode_payload(message: AnyMessage) -> Any:
    """
    Return the payload as plain objects, or bytes if the frame was binary.

    Raises:
        RemoteProtocolError: If it is not JSON.
    """
    if isinstance(message, BinaryMessage):
        return message.payload
    try:
        return _decode_any(message.payload)
    except _MALFORMED as exc:
        raise RemoteProtocolError(_reason(exc)) from exc


def _decode_joined(decode: Callable[[bytes], list[Decoded]], frames: Sequence[bytes]) -> list[Decoded]:
    try:
        messages = decode(b"".join((b"[", b",".join(frames), b"]")))
    except _MALFORMED as exc:
        raise RemoteProtocolError(_reason(exc)) from exc
    if len(messages) != len(frames):
        raise RemoteProtocolError("two frames that make sense only together")
    return messages


def _encode_text(fields: Any) -> bytes:
    try:
        return _encode(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise LocalProtocolError(f"the payload cannot be written as JSON ({exc}): use plain objects, structs or bytes") from exc


def _encode_binary(
    join_ref: str | None, ref: str | None, topic: str, event: str, payload: bytes | bytearray | memoryview
) -> BinaryFrame:
    """Return `00 jl rl tl el | join_ref ref topic event data`."""
    header = bytearray(b"\0")
    encoded = []
    for name, value in (("join_ref", join_ref), ("ref", ref), ("topic", topic), ("event", event)):
        try:
            data = (value or "").encode()
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(f"{name} cannot be written as UTF-8 ({exc})") from exc
        if len(data) > _FIELD_LIMIT:
            raise LocalProtocolError(f"{name} is {len(data)} bytes long: a binary push holds at most {_FIELD_LIMIT}")
        header.append(len(data))
        encoded.append(data)
    return BinaryFrame(b"".join((bytes(header), *encoded, bytes(payload))))


def _fields(frame: bytes, count: int) -> tuple[list[str], bytes]:
    lengths = frame[1 : 1 + count]
    start = 1 + count
    if len(lengths) < count or start + sum(lengths) > len(frame):
        raise RemoteProtocolError("a binary frame that ends within its header")
    fields = []
    for length in lengths:
        try:
            fields.append(frame[start : start + length].decode())
        except UnicodeDecodeError as exc:
            raise RemoteProtocolError("a binary frame whose header is not UTF-8") from exc
        start += length
    return fields, frame[start:]


def _ref(value: Any) -> str | None:
    """Return a ref as text. An integer counts as its digits; any other value matches no ref that rig makes."""
    return value if value is None or isinstance(value, str) else str(value)


def _reason(exc: Exception) -> str:
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)
