"""
The five fields of a Phoenix message, as V2 and V1 put them on the wire.

A message's payload stays as it came: `msgspec.Raw` (JSON text) in a text frame, `bytes` in a binary one. Whoever knows
the type decodes it, once.

Source: Phoenix.Socket.Message; phoenix.js serializer.js.
"""

from typing import TypeAlias

import msgspec

PHOENIX = "phoenix"
"""The topic of the socket itself: heartbeats."""
HEARTBEAT = "heartbeat"
JOIN = "phx_join"
LEAVE = "phx_leave"
REPLY = "phx_reply"
ERROR = "phx_error"
CLOSE = "phx_close"

CONTROL = frozenset({REPLY, ERROR, CLOSE})
"""The events that a server sends about a channel, as opposed to in it."""


class BinaryFrame(bytes):
    """A frame that travels with the binary opcode. Plain `bytes` travel as text."""

    __slots__ = ()


class Message(msgspec.Struct, array_like=True, gc=False):
    """V2: `[join_ref, ref, topic, event, payload]`."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: msgspec.Raw


class MessageV1(msgspec.Struct, gc=False):
    """V1: `{"topic", "event", "payload", "ref"}`. A V1 server never says `join_ref`."""

    topic: str
    event: str
    payload: msgspec.Raw
    ref: str | None
    join_ref: str | None = None


class BinaryMessage(msgspec.Struct, gc=False):
    """A decoded binary frame: the payload is bytes."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: bytes
    status: str | None = None
    """Of a reply: what stands beside the response. None for a push or a broadcast."""


AnyMessage: TypeAlias = Message | MessageV1 | BinaryMessage


class ReplyPayload(msgspec.Struct, gc=False):
    """The payload of a `phx_reply`: any string as the status, any JSON value as the response."""

    status: str
    response: msgspec.Raw
