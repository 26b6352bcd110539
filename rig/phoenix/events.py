"""
What the core tells its shell: facts, in the past tense, in the order in which they came about.

`ConnectDue` and `CloseDue` are the two that ask for something: dial, or end the connection.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from rig.backoff import Cause
from rig.phoenix.message import AnyMessage
from rig.phoenix.push import Push


class ConnectDue(msgspec.Struct, frozen=True, gc=False):
    """It is time to dial. `attempt` counts from 0 since the connection was last well."""

    attempt: int


class CloseDue(msgspec.Struct, frozen=True, gc=False):
    """The transport must be closed with this code: its heartbeat is lost, or the owner wants to leave."""

    code: int
    reason: str


class SocketOpened(msgspec.Struct, frozen=True, gc=False):
    """The transport is open; joins and buffered pushes are on their way."""


class SocketClosed(msgspec.Struct, frozen=True, gc=False):
    """
    There is no connection, or none came about.

    Attributes:
        cause: Why, as a label.
        code: The close code, None if it never opened.
        reason: What the peer or the failed dial said.
        delay: Seconds until the next attempt; None if none follows, because the owner closed the socket.
        by: Who ended it: "us", "server", or "nobody", where it was cut or never came about.
        decision: What follows, in words.
        heartbeat_age: Seconds since the server answered a heartbeat, or since it opened; None if it never opened.
        open_for: Seconds that it was open; None if it never opened.
    """

    cause: Cause
    code: int | None
    reason: str
    delay: float | None
    by: str = "nobody"
    decision: str = ""
    heartbeat_age: float | None = None
    open_for: float | None = None


class Joined(msgspec.Struct, frozen=True, gc=False):
    """The server accepted a join. `rejoined` if the channel had been joined before."""

    topic: str
    response: Any
    rejoined: bool


class JoinRejected(msgspec.Struct, frozen=True, gc=False):
    """
    The server refused a join, or its payload could not be made; it is tried again after `delay` seconds.

    `unauthorized` if the response says so: then it is time for a fresh token. The first retry leaves a second to get one, the
    later ones are slow. `refusals` counts such answers in a row.
    """

    topic: str
    response: Any
    delay: float
    unauthorized: bool = False
    refusals: int = 0


class JoinTimedOut(msgspec.Struct, frozen=True, gc=False):
    """The server did not answer a join; it is tried again after `delay` seconds."""

    topic: str
    delay: float


class ChannelErrored(msgspec.Struct, frozen=True, gc=False):
    """The channel crashed on the server; it is joined again after `delay` seconds."""

    topic: str
    payload: Any
    delay: float


class ChannelClosed(msgspec.Struct, frozen=True, gc=False):
    """The channel is closed. `left` if we asked; else the server stopped it, and `delay` says when it is joined again, if it is."""

    topic: str
    left: bool
    delay: float | None = None


class MessagesReceived(msgspec.Struct, frozen=True, gc=False):
    """Events of joined channels: message `i` came as frame `i`. `binary` says which kind of frame."""

    messages: Sequence[AnyMessage]
    frames: Sequence[bytes]
    binary: bool = False


class ReplyReceived(msgspec.Struct, frozen=True, gc=False):
    """The answer to a push: any status, any response."""

    push: Push
    status: str
    response: Any


class PushRejected(msgspec.Struct, frozen=True, gc=False):
    """The push cannot be sent: its topic was never joined, or its payload does not fit the serializer."""

    push: Push
    reason: str


class PushTimedOut(msgspec.Struct, frozen=True, gc=False):
    """No answer came in time. `push.ref` is None if it was never sent, since the channel was not joined."""

    push: Push


class PushInterrupted(msgspec.Struct, frozen=True, gc=False):
    """The connection or the channel ended between the push and its answer: whether the server acted is unknown."""

    push: Push
    reason: str


class HeartbeatReplied(msgspec.Struct, frozen=True, gc=False):
    """The server answered a heartbeat after `rtt` seconds."""

    rtt: float


class HeartbeatMissed(msgspec.Struct, frozen=True, gc=False):
    """Neither the reply nor anything else came in time; `missed` beats in a row."""

    missed: int


class FramesRejected(msgspec.Struct, frozen=True, gc=False):
    """Frames that no Phoenix server would send, dropped. `sample` is the beginning of the first."""

    count: int
    reason: str
    sample: bytes


class MessagesDropped(msgspec.Struct, frozen=True, gc=False):
    """Messages for a topic that is not joined, or from an earlier life of its channel."""

    count: int
    topic: str


PushEvent: TypeAlias = ReplyReceived | PushRejected | PushTimedOut | PushInterrupted
"""What becomes of a push that wants a reply, and of one that cannot be sent."""

Event: TypeAlias = (
    ConnectDue
    | CloseDue
    | SocketOpened
    | SocketClosed
    | Joined
    | JoinRejected
    | JoinTimedOut
    | ChannelErrored
    | ChannelClosed
    | MessagesReceived
    | PushEvent
    | HeartbeatReplied
    | HeartbeatMissed
    | FramesRejected
    | MessagesDropped
)
