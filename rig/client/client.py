"""A connection with its channels: joins, pushes, leaves, and where events go."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from rig.client.channel import ClientChannel
from rig.client.presence import Presence
from rig.client.queue import ClientEvent, EventQueue
from rig.connection import Connection
from rig.dialling import Dialler
from rig.errors import (
    ConnectionLost,
    JoinRefused,
    JoinTimeout,
    LocalProtocolError,
    PingTimeout,
    PushRefused,
    PushTimeout,
    RemoteProtocolError,
    RigError,
)
from rig.phoenix import Push, Socket
from rig.phoenix import events as core
from rig.phoenix.message import AnyMessage
from rig.phoenix.serializer import decode_payload
from rig.renewal import Renewal
from rig.transport import Endpoint


class Client:
    """A connection with its channels; made by `connect`."""

    def __init__(self, socket: Socket, dialler: Dialler, *, push_timeout: float, join_timeout: float, max_queued: int) -> None:
        self._push_timeout, self._join_timeout, self._max_queued = push_timeout, join_timeout, max_queued
        self._socket, self._dialler = socket, dialler
        self._connection = Connection(socket, dialler, self._on_events)
        self._renewal = Renewal(dialler, self._connection.reconnect)
        self._channels: dict[str, ClientChannel] = {}
        self._waiting: dict[Push, asyncio.Future[Any]] = {}
        self._joining: dict[str, asyncio.Future[Any]] = {}
        self._leaving: dict[str, asyncio.Future[None]] = {}
        self._pinging: list[asyncio.Future[float]] = []
        self._all: EventQueue | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._paused = False
        self._closed = False

    @property
    def endpoint(self) -> Endpoint:
        """Where it is connected, or goes first."""
        return self._dialler.endpoint

    @property
    def connected(self) -> bool:
        """True while the connection is open."""
        return self._connection.open

    async def join(
        self, topic: str, payload: Any = None, *, events: bool = True, presence: Presence | None = None
    ) -> ClientChannel:
        """
        Join a topic, and stay in it over every reconnect.

        Args:
            topic: The channel's topic.
            payload: Plain objects, sent with every join; a callable is asked each time. None sends `{}`.
            events: False passes over the topic's events, for a channel that only pushes. Else somebody must take them: where
                `max_queued` wait, nothing is read any more, replies included.
            presence: Follows who is in the channel, whether its events are wanted or not.

        Raises:
            JoinRefused: If the server answers with an error; the topic is not tried again.
            JoinTimeout: If it does not answer in time.
            ConnectionLost: If the client was closed meanwhile, or the server ended the channel before it answered.
            LocalProtocolError: If the topic is joined already, the payload cannot be encoded, or the presence follows another
                channel.
        """
        if topic in self._channels:
            raise LocalProtocolError(f"{topic!r} is joined already: use the channel that there is")
        if presence is not None:
            presence.follow(lambda: self._socket.join_ref(topic))
        channel = self._channels[topic] = ClientChannel(self, topic, wanted=events, presence=presence)
        answer = self._joining[topic] = asyncio.get_running_loop().create_future()
        try:
            self._connection.join(topic, self._dialler.join_payload({} if payload is None else payload))
            async with asyncio.timeout(self._join_timeout):
                channel.response = await answer
        except BaseException as exc:
            self._channels.pop(topic, None)
            channel._end()
            self._connection.leave(topic)
            if isinstance(exc, TimeoutError):
                raise JoinTimeout(topic, self._join_timeout) from None
            raise
        finally:
            self._joining.pop(topic, None)
        return channel

    async def events(self) -> AsyncIterator[ClientEvent]:
        """Yield the events of all channels that are not iterated over, from this call on."""
        if self._all is None:
            self._collect(EventQueue(self._relieve))
        assert self._all is not None
        async for event in self._all.iterate():
            yield event

    async def ping(self, *, timeout: float | None = None) -> float:
        """
        Send a heartbeat beside the usual ones, and return the seconds that a heartbeat's round trip takes now.

        Args:
            timeout: Seconds to wait for the reply; None takes the client's `push_timeout`.

        Raises:
            ConnectionLost: If there is no connection, or it ends before a reply comes.
            PingTimeout: If no reply came in time.
        """
        seconds = self._push_timeout if timeout is None else timeout
        if not self.connected:
            raise ConnectionLost("it was not open")
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._pinging.append(answer)
        self._connection.ping()
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise PingTimeout(seconds) from None
        finally:
            if answer in self._pinging:
                self._pinging.remove(answer)

    def _start(self) -> None:
        self._connection.start()

    def _collect(self, queue: EventQueue) -> None:
        """Put the events of all channels that are not iterated over into this queue, from now on."""
        self._all = queue
        for channel in self._channels.values():
            if not channel._iterated:
                channel._queue.pour_into(queue)
        if self._closed:
            queue.end()

    async def _push(self, topic: str, event: str, payload: Any, timeout: float | None) -> Any:
        seconds = self._push_timeout if timeout is None else timeout
        push = Push(topic, event, _encoded(payload), seconds)
        answer = self._waiting[push] = asyncio.get_running_loop().create_future()
        self._connection.push([push])
        try:
            return await answer
        finally:
            self._waiting.pop(push, None)

    async def _send(self, topic: str, event: str, payload: Any) -> None:
        push = Push(topic, event, _encoded(payload), self._push_timeout, wants_reply=False)
        rejected = self._waiting[push] = asyncio.get_running_loop().create_future()
        self._connection.push([push])
        del self._waiting[push]
        if rejected.done():
            rejected.result()

    async def _leave(self, channel: ClientChannel) -> None:
        topic = channel.topic
        if self._closed or self._channels.get(topic) is not channel:
            return
        left = self._leaving.get(topic)
        if left is None:
            left = self._leaving[topic] = asyncio.get_running_loop().create_future()
            self._connection.leave(topic)
            self._relieve()
        await asyncio.wait([left])

    def _end(self) -> None:
        """Close for good in one turn: whoever is cancelled while it closes leaves nothing that goes on, and nobody who waits."""
        self._closed = True
        self._connection.end()
        self._answer_pings(None, ConnectionLost("the connection was closed"))
        for joining in self._joining.values():
            self._answer(joining, None, ConnectionLost("the connection was closed"))
        for channel in self._channels.values():
            channel._end()
        if self._all is not None:
            self._all.end()

    async def _close(self) -> None:
        self._end()
        await self._renewal.close()
        await self._connection.close()

    def _on_events(self, received: list[core.Event]) -> None:
        for event in received:
            match event:
                case core.MessagesReceived(messages=messages, frames=frames):
                    self._deliver(messages, frames)
                case core.ReplyReceived(push=push, status=status, response=response):
                    refused = None if status == "ok" else PushRefused(push.topic, push.event, status, response)
                    self._answer(self._waiting.get(push), response, refused)
                case core.PushTimedOut(push=push):
                    self._answer(self._waiting.get(push), None, PushTimeout(push.topic, push.event, push.timeout))
                case core.PushInterrupted(push=push, reason=reason):
                    self._answer(self._waiting.get(push), None, ConnectionLost(reason))
                case core.PushRejected(push=push, reason=reason):
                    self._answer(self._waiting.get(push), None, LocalProtocolError(reason))
                case core.HeartbeatReplied(rtt=rtt):
                    self._answer_pings(rtt, None)
                case core.SocketOpened() | core.SocketClosed():
                    self._note_connection(event)
                case _:
                    self._note_channel(event)

    def _note_connection(self, event: core.SocketOpened | core.SocketClosed) -> None:
        if isinstance(event, core.SocketClosed):
            self._answer_pings(None, ConnectionLost(event.reason or str(event.cause)))
            if self._dialler.lost(event):
                self._connection.hurry()
        if self._opened.done():
            return
        error = self._connection.last_error
        if isinstance(event, core.SocketOpened):
            self._opened.set_result(None)
        elif error is not None:
            self._opened.set_exception(error)

    def _note_channel(self, event: core.Event) -> None:
        self._renewal.note(event)
        match event:
            case core.Joined(topic=topic, response=response):
                self._answer(self._joining.get(topic), response, None)
            case core.JoinRejected(topic=topic, response=response):
                self._answer(self._joining.get(topic), None, JoinRefused(topic, response))
            case core.JoinTimedOut(topic=topic):
                self._answer(self._joining.get(topic), None, JoinTimeout(topic, self._join_timeout))
            case core.ChannelClosed(topic=topic, left=True) if topic in self._joining:
                pass  # an earlier life of the channel, given up before it was joined
            case core.ChannelClosed(topic=topic):
                channel = self._channels.pop(topic, None)
                if channel is not None:
                    channel._end()
                self._answer(self._joining.get(topic), None, ConnectionLost("the server closed the channel"))
                self._answer(self._leaving.pop(topic, None), None, None)
                self._relieve()

    def _answer_pings(self, rtt: float | None, error: RigError | None) -> None:
        pinging, self._pinging = self._pinging, []
        for answer in pinging:
            self._answer(answer, rtt, error)

    @staticmethod
    def _answer(future: "asyncio.Future[Any] | None", result: Any, error: RigError | None) -> None:
        if future is None or future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _deliver(self, messages: Sequence[AnyMessage], frames: Sequence[bytes]) -> None:
        for message, frame in zip(messages, frames, strict=True):
            channel = self._channels.get(message.topic)
            if channel is None:
                continue
            presence = channel.presence
            if presence is not None and not presence.follows(message.event):
                presence = None
            if presence is None and not channel._wanted:
                continue
            try:
                event = ClientEvent(message.topic, message.event, decode_payload(message), frame)
            except RemoteProtocolError:
                continue
            if presence is not None:
                presence.receive(event.topic, event.event, event.payload)
            if channel._wanted:
                (channel._queue if self._all is None or channel._iterated else self._all).put(event)
        if not self._paused and self._queued() >= self._max_queued:
            self._paused = True
            self._connection.pause_reading()

    def _queued(self) -> int:
        """Count what somebody may still take: of a channel that is being left, nobody will."""
        wanted = sum(len(channel._queue) for topic, channel in self._channels.items() if topic not in self._leaving)
        return wanted + (0 if self._all is None else len(self._all))

    def _relieve(self) -> None:
        if self._paused and self._queued() <= self._max_queued // 2:
            self._paused = False
            self._connection.resume_reading()


def _encoded(payload: Any) -> Any:
    """Encode now, so that what cannot be encoded is the caller's error."""
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    try:
        return msgspec.Raw(msgspec.json.encode({} if payload is None else payload))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise LocalProtocolError(f"the payload cannot be written as JSON ({exc}): use plain objects, structs or bytes") from exc
