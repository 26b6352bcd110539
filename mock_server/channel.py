"""
A channel: one topic joined on one socket, and what its handlers can do.

A channel module is a subclass with a table `handlers` from event to function. A function takes the channel and the push
and returns `Reply`, `Stop` or None (no reply, ever). An exception crashes the channel, and so does an unknown event.
Broadcasts whose event is in `intercepts` do not go to the client directly but to `handle_out`.
Source: Phoenix.Channel, Phoenix.Channel.Server.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from mock_server.socket import Socket


@dataclass(frozen=True, slots=True)
class Push:
    """A client's message to a joined channel."""

    ref: Any
    event: Any
    payload: Any


@dataclass(frozen=True, slots=True)
class Intercepted:
    """A broadcast on its way through the channel instead of around it."""

    event: str
    payload: Any


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a push or a join; `response` is any JSON value, or `bytes` for a binary reply."""

    status: str = "ok"
    response: Any = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """The channel ends: `normal` and `shutdown` send phx_close, any other reason phx_error."""

    reason: str = "normal"
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Delayed:
    """A join that takes `seconds`, during which the whole socket waits."""

    seconds: float
    reply: Reply


Outcome = Reply | Stop | None
Handler = Callable[[Any, Push], Outcome]


class UnknownEvent(Exception):
    """No handler clause matches: in Phoenix a FunctionClauseError that crashes the channel."""


class Channel:
    """
    The base of every channel module.

    Args:
        socket: The socket it is joined on.
        topic: Its topic.
        join_ref: What its own pushes carry: the join's join_ref, or the join's ref where that was null.
        live_ref: The join's join_ref as sent, null included; what incoming messages are compared with.
        join_payload: What the client joined with.
    """

    handlers: ClassVar[Mapping[str, Handler]] = {}
    intercepts: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, socket: "Socket", topic: str, *, join_ref: Any, live_ref: Any, join_payload: Any) -> None:
        self.socket = socket
        self.topic = topic
        self.join_ref = join_ref
        self.live_ref = live_ref
        self.join_payload = join_payload
        self.ended: str | None = None
        self._timers: set[asyncio.TimerHandle] = set()

    # what a module overrides

    def join(self, params: Any) -> Reply | Delayed:
        """Accept (status `ok`) or refuse (any other status) the join."""
        return Reply()

    def after_join(self) -> None:
        """Do what follows the join's reply."""

    def terminate(self) -> None:
        """Clean up; the channel is no longer subscribed, but may still push: behind a phx_close, before a phx_error."""

    def handle_out(self, event: str, payload: Any) -> None:
        """Do what has to be done with a broadcast that the channel intercepts; pushes it on."""
        self.push(event, payload)

    def handle(self, push: Push) -> Outcome:
        """
        Find the handler of a push and run it.

        Raises:
            UnknownEvent: If there is none.
        """
        handler = self.handlers.get(push.event) if isinstance(push.event, str) else None
        if handler is None:
            raise UnknownEvent(push.event)
        return handler(self, push)

    # what a handler calls

    def push(self, event: str, payload: Any) -> None:
        """Send to this client only."""
        self.socket.deliver_event(self.socket.serializer.encode_push(self.join_ref, self.topic, event, payload))

    def reply(self, ref: Any, reply: Reply) -> None:
        """Answer a push, now or later."""
        self.socket.reply(self.join_ref, ref, self.topic, reply)

    def broadcast(self, event: str, payload: Any, *, to_self: bool = True) -> None:
        """Send to every subscriber of the topic."""
        self.socket.hub.broadcast(self.topic, event, payload, skip=None if to_self else self)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run `action` after a while, unless the channel has ended by then."""

        def run() -> None:
            self._timers.discard(timer)
            action()

        timer = self.socket.later(seconds, run)
        self._timers.add(timer)

    def end(self, reason: str) -> None:
        """End as if the channel process had exited with `reason`; messages that wait for it are lost."""
        if self.ended is not None:
            return
        self.ended = reason
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.socket.hub.unsubscribe(self)
        self.socket.channel_ended(self)
