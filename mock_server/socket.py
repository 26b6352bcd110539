"""
Phoenix's socket process: it decodes, joins, routes to channels, and keeps their order.

The real server runs one process per socket and one per channel, and their interleaving shows on the wire. Here the same
order comes from two queues that are worked off behind each batch of frames (one TCP read): the ends of channels, then
the channels' own messages. A push right behind a leave is therefore lost, as with Phoenix.
Source: Phoenix.Socket, Phoenix.Channel.Server.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mock_server.behaviour import Behaviour
from mock_server.channel import Channel, Delayed, Intercepted, Push, Reply, Stop
from mock_server.connection import Connection
from mock_server.faults import Faults
from mock_server.frames import TEXT, encode_frame
from mock_server.hub import Hub
from mock_server.joins import Joins
from mock_server.mount import Mount
from mock_server.serializer import Message, Serializer, Undecodable
from mock_server.tokens import Tokens

logger = logging.getLogger(__name__)

Route = tuple[str, type[Channel]]

_AFTER_JOIN = object()
_GARBLED = encode_frame(TEXT, b'["garbled",')
_UNMATCHED = Reply("error", {"reason": "unmatched topic"})


@dataclass(frozen=True, slots=True)
class Environment:
    """What the sockets of one server share; `time_scale` shortens every wait of the reference application."""

    behaviour: Behaviour
    hub: Hub
    faults: Faults
    tokens: Tokens
    joins: Joins
    routes: Sequence[Route]
    services: Mapping[type[Any], Any]
    time_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The HTTP request that a client connected with, as it came: path, query, headers in order, and the peer's address."""

    path: str
    query: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    peer: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """What a client said when it connected: the mount, its parameters, its token, the socket id made of them, the request."""

    mount: Mount
    params: dict[str, str] = field(repr=False)
    auth_token: str | None = field(repr=False)
    socket_id: str | None
    request: RequestRecord


class Socket:
    """One client's socket over one connection."""

    def __init__(self, connection: Connection, serializer: Serializer, identity: Identity, environment: Environment) -> None:
        self.connection = connection
        self.serializer = serializer
        self.identity = identity
        self.environment = environment
        self.hub = environment.hub
        self._channels: dict[str, Channel] = {}
        self._ended: deque[Channel] = deque()
        self._mailbox: deque[tuple[Channel, Any]] = deque()
        self._busy = False
        self._loop = asyncio.get_running_loop()
        connection.on_message = self._dispatch
        connection.on_batch_end = self.run

    @property
    def channels(self) -> list[Channel]:
        """The joined channels, oldest first."""
        return list(self._channels.values())

    # the queues

    def run(self) -> None:
        """Work off the queues, unless a slow join holds the socket up."""
        if self._busy:
            return
        self._busy = True
        try:
            while not self.connection.held and self._step():
                pass
        finally:
            self._busy = False

    def _step(self) -> bool:
        if self._ended:
            self._announce_end(self._ended.popleft())
        elif self._mailbox:
            self._process(*self._mailbox.popleft())
        else:
            return False
        return True

    def _dispatch(self, opcode: int, payload: bytes) -> None:
        try:
            message = self.serializer.decode(opcode, payload)
        except Undecodable as exc:
            logger.debug("frame not decoded connection=%s reason=%s", self.connection.id, exc)
            self.connection.close(1011)
            return
        self._busy = True
        try:
            self._handle(message)
        finally:
            self._busy = False

    def _handle(self, message: Message) -> None:
        if message.topic == "phoenix" and message.event == "heartbeat":
            if not self.environment.faults.ignore_heartbeats:
                self.reply(None, message.ref, "phoenix", Reply())
        elif message.event == "phx_join":
            self._join(message)
        else:
            self._route(message)

    def _route(self, message: Message) -> None:
        """Pass a message on to its channel, or answer for the one that is not there."""
        channel = self._channels.get(message.topic) if isinstance(message.topic, str) else None
        if channel is None:
            if message.event == "phx_leave":
                self.reply(message.join_ref, message.ref, message.topic, Reply())
            else:
                self.reply(None, message.ref, message.topic, _UNMATCHED)
        elif self.environment.behaviour.accepts(message.event, message.join_ref, channel.live_ref):
            self._mailbox.append((channel, Push(message.ref, message.event, message.payload)))

    # joining

    def _join(self, message: Message) -> None:
        self.environment.joins.note(self.connection.id, message.topic, message.payload)
        module = self._module(message.topic)
        if module is None:
            self.reply(None, message.ref, message.topic, _UNMATCHED)
            return
        old = self._channels.pop(message.topic, None)
        if old is not None:
            old.end("duplicate_join")
        if self._full():
            self._refuse(message, "too many channels joined")
            return
        if self.environment.faults.refuses_join(message.topic):
            self._refuse(message, "refused by the mock server")
            return
        join_ref = message.ref if message.join_ref is None else message.join_ref
        channel = module(self, message.topic, join_ref=join_ref, live_ref=message.join_ref, join_payload=message.payload)
        try:
            outcome = channel.join(message.payload)
        except Exception as exc:
            logger.debug("join crashed topic=%s error=%r", message.topic, exc)
            self._refuse(message, "join crashed")
            return
        if isinstance(outcome, Delayed):
            reply = outcome.reply
            self.connection.hold()
            self.later(outcome.seconds, lambda: self.connection.release(lambda: self._finish_join(message, channel, reply)))
        else:
            self._finish_join(message, channel, outcome)

    def _module(self, topic: Any) -> type[Channel] | None:
        """Return the channel module of the first route that matches."""
        if not isinstance(topic, str):
            return None
        for pattern, module in self.environment.routes:
            if topic == pattern or (pattern.endswith("*") and topic.startswith(pattern[:-1])):
                return module
        return None

    def _full(self) -> bool:
        limit = self.identity.mount.max_channels or self.environment.behaviour.max_channels
        return limit is not None and len(self._channels) >= limit

    def _refuse(self, message: Message, reason: str) -> None:
        self.reply(message.join_ref, message.ref, message.topic, Reply("error", {"reason": reason}))

    def _finish_join(self, message: Message, channel: Channel, reply: Reply) -> None:
        if reply.status == "ok":
            self._channels[channel.topic] = channel
            self.hub.subscribe(channel)
            self._mailbox.append((channel, _AFTER_JOIN))
        self.reply(message.join_ref, message.ref, message.topic, reply)

    # channels at work

    def _process(self, channel: Channel, item: Any) -> None:
        """Let a channel handle its next message; whatever it raises crashes it."""
        if channel.ended is not None:
            return
        try:
            if item is _AFTER_JOIN:
                channel.after_join()
            elif isinstance(item, Intercepted):
                channel.handle_out(item.event, item.payload)
            elif item.event == "phx_leave":
                channel.reply(item.ref, Reply())
                channel.end("left")
            else:
                self._settle(channel, item, channel.handle(item))
        except Exception as exc:
            logger.debug("channel crashed topic=%s error=%r", channel.topic, exc)
            channel.end("crash")

    def _settle(self, channel: Channel, push: Push, outcome: Reply | Stop | None) -> None:
        if isinstance(outcome, Reply):
            channel.reply(push.ref, outcome)
        elif isinstance(outcome, Stop):
            if outcome.reply is not None:
                channel.reply(push.ref, outcome.reply)
            channel.end(outcome.reason)

    def enqueue(self, channel: Channel, item: Intercepted) -> None:
        """Put a broadcast behind the messages that wait for a channel."""
        self._mailbox.append((channel, item))
        self.run()

    def channel_ended(self, channel: Channel) -> None:
        """Queue the news that a channel has ended; called by the channel itself."""
        self._ended.append(channel)
        self.run()

    def _announce_end(self, channel: Channel) -> None:
        if self._channels.get(channel.topic) is channel:
            del self._channels[channel.topic]
        if channel.ended in ("normal", "shutdown", "left", "duplicate_join"):
            self._send_end(channel, "phx_close", {})
            channel.terminate()
        else:
            channel.terminate()
            self._send_end(channel, "phx_error", self.environment.behaviour.crash_payload)

    def _send_end(self, channel: Channel, event: str, payload: dict[str, str]) -> None:
        self.deliver(self.serializer.encode_control(channel.live_ref, channel.topic, event, payload))

    # sending

    def deliver(self, frames: bytes) -> None:
        """Send complete frames."""
        self.connection.write(frames)

    def deliver_event(self, frame: bytes) -> None:
        """Send a broadcast or a channel's push, as the faults demand."""
        faults = self.environment.faults
        if faults.duplicate_events:
            frame += frame
        if faults.event_delay:
            self._loop.call_later(faults.event_delay, self.deliver, frame)
        else:
            self.deliver(frame)

    def reply(self, join_ref: Any, ref: Any, topic: Any, reply: Reply) -> None:
        """
        Send a `phx_reply`, as the faults demand.

        Raises:
            Unencodable: If the serializer cannot write the response.
        """
        frame = self.serializer.encode_reply(join_ref, ref, topic, reply.status, reply.response)
        faults = self.environment.faults
        if faults.garble_replies:
            frame = _GARBLED
        if faults.duplicate_replies:
            frame += frame
        if faults.reply_delay:
            self._loop.call_later(faults.reply_delay, self.deliver, frame)
        else:
            self.deliver(frame)

    def later(self, seconds: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        """Run `action` after `seconds`, scaled."""
        return self._loop.call_later(seconds * self.environment.time_scale, action)

    def disconnect(self, code: int) -> None:
        """Close the connection as the server does: no phx_close or phx_error comes before."""
        self.connection.close(code)

    def connection_lost(self) -> None:
        """End every channel without a word."""
        self._mailbox.clear()
        self._busy = True
        for channel in self.channels:
            channel.end("transport_closed")
        while self._ended:
            self._ended.popleft().terminate()
