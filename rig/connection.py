"""
Drives one `phoenix.Socket` over one transport at a time: dials when told, sends what it is given, keeps one timer.

It decides nothing. Every delay, time-out and rejoin is computed by the core; what is not here is a sleep or a retry
loop. One mutation of the core, then its events are acted on, its frames sent and its deadline armed, then the next one:
a mutation that is asked for meanwhile waits its turn.
"""

import asyncio
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from rig import errors
from rig.backoff import Cause
from rig.config import Settings
from rig.flight import Flight
from rig.phoenix import ChannelState, Push, Socket, SocketState, events
from rig.transport.base import Closed, Transport, TransportOwner

_CAUSES: list[tuple[type[errors.ConnectError], Cause]] = [
    (errors.AuthenticationRefused, Cause.UNAUTHORIZED),
    (errors.NotWebSocket, Cause.NOT_WEBSOCKET),
    (errors.NotLongPoll, Cause.NOT_WEBSOCKET),
    (errors.TlsFailed, Cause.TLS),
    (errors.ProxyFailed, Cause.PROXY),
    (errors.TokenUnavailable, Cause.NO_TOKEN),
    (errors.ConnectTimeout, Cause.TIMEOUT),
    (errors.HostNotFound, Cause.DNS),
    (errors.ConnectRefused, Cause.REFUSED),
]
_BUSY = (429, 503)


class Dial(Protocol):
    """How a transport comes about."""

    async def __call__(self, owner: TransportOwner) -> Transport:
        """
        Return an open transport.

        Raises:
            ConnectError: If there is none.
        """


def make_socket(settings: Settings, *, rejoin_stopped: bool = False) -> Socket:
    """
    Make a socket as the settings say, for a connection to drive.

    Args:
        settings: For serializer, heartbeats and joins.
        rejoin_stopped: True joins a channel again that the server closed.

    Raises:
        Nothing.
    """
    return Socket(
        random=random.random,
        vsn=settings.vsn,
        heartbeat_interval=settings.heartbeat_interval,
        heartbeat_timeout=settings.heartbeat_timeout,
        join_timeout=settings.join_timeout,
        rejoin_stopped=rejoin_stopped,
        join_rate=settings.join_rate,
    )


class Connection:
    """
    A socket with its I/O. All methods are called on the loop's thread.

    Attributes:
        last_error: What the latest dial raised, None after one that succeeded.
    """

    def __init__(
        self, socket: Socket, dial: Dial, on_events: Callable[[list[events.Event]], None], *, flight: Flight | None = None
    ) -> None:
        """
        Put the parts together; nothing happens before `start`.

        Args:
            socket: The core, idle.
            dial: Opens a transport for an owner.
            on_events: Gets the core's events, in order. What it raises is a bug in the owner: the caller of the turn gets it,
                after the turn's frames are sent and its deadline is armed.
            flight: Records the frames.
        """
        self._socket, self._dial, self._on_events = socket, dial, on_events
        self._flight = flight if flight is not None and flight.recording else None
        self._loop = asyncio.get_running_loop()
        self._transport: Transport | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = math.inf
        self._turns: deque[Callable[[float], list[events.Event]]] = deque()
        self._turning = False
        self._paused = False
        self._ended = asyncio.Event()
        self._stillborn: list[Closed] = []
        self.last_error: Exception | None = None

    # What the owner does.

    def start(self) -> None:
        """Dial, and go on for ever."""
        self._turn(self._socket.connect)

    def hurry(self) -> None:
        """Dial now instead of after the delay; nothing happens where there is none to wait for."""
        self._turn(lambda now: self._socket.connect(now) if self._socket.state is SocketState.WAITING else [])

    def join(self, topic: str, payload: Any, *, lasting: bool = False) -> None:
        """
        Want to be in a topic; see `Socket.join`.

        Raises:
            LocalProtocolError: If the topic is joined already.
        """
        self._turn(lambda now: self._socket.join(topic, payload, now, lasting=lasting))

    def leave(self, topic: str) -> None:
        """Leave a topic."""
        self._turn(lambda now: self._socket.leave(topic, now))

    def push(self, pushes: Sequence[Push]) -> None:
        """Send pushes, all in one turn; `PushRejected` follows for one that cannot be sent."""

        def turn(now: float) -> list[events.Event]:
            received: list[events.Event] = []
            for push in pushes:
                try:
                    received += self._socket.push(push, now)
                except errors.LocalProtocolError as exc:
                    received.append(events.PushRejected(push, str(exc)))
            return received

        self._turn(turn)

    def ping(self) -> None:
        """
        Send a heartbeat beside the usual ones; see `Socket.ping`.

        Raises:
            LocalProtocolError: If the connection is not open.
        """
        self._turn(self._socket.ping)

    def reconnect(self, reason: str) -> None:
        """End this connection, so that another follows; see `Socket.reconnect`."""
        self._turn(lambda now: self._socket.reconnect(reason))

    def pause_reading(self) -> None:
        """Let TCP push back on the server; heartbeats go on."""
        if not self._paused:
            self._paused = True
            if self._transport is not None:
                self._transport.pause_reading()
            self._turn(lambda now: self._socket.reading_paused())

    def resume_reading(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()
            self._turn(self._socket.reading_resumed)

    def end(self) -> None:
        """Close for good, and wait for nothing: the transport goes by itself."""
        if self._paused:
            self.resume_reading()
        self._turn(self._socket.close)
        if self._dialling is not None:
            self._dialling.cancel()

    async def close(self) -> None:
        """Close for good, and return when the transport is gone."""
        self.end()
        if self._dialling is not None:
            await asyncio.gather(self._dialling, return_exceptions=True)
        if self._transport is not None:
            await self._ended.wait()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def open(self) -> bool:
        """True while there is a transport that works."""
        return self._socket.state is SocketState.OPEN

    def channel_state(self, topic: str) -> ChannelState:
        """Return where a channel stands."""
        return self._socket.channel_state(topic)

    def awaited_replies(self) -> Counter[str]:
        """Count the sent pushes that wait for their replies, by topic."""
        return self._socket.awaited_replies()

    @property
    def reading_paused(self) -> bool:
        """True while nothing is read, so that no answer can come."""
        return self._paused

    @property
    def write_buffer_bytes(self) -> int:
        """Bytes that wait to be written."""
        return 0 if self._transport is None else self._transport.write_buffer_bytes

    # What the transport does (TransportOwner).

    def text_received(self, frames: list[bytes]) -> None:
        """Hand a batch of text frames to the core."""
        if self._flight is not None:
            self._flight.received(frames)
        self._turn(partial(self._socket.receive, frames))

    def binary_received(self, frames: list[bytes]) -> None:
        """Hand a batch of binary frames to the core."""
        if self._flight is not None:
            self._flight.received(frames, binary=True)
        self._turn(partial(self._socket.receive_binary, frames))

    def frames_rejected(self, count: int, reason: str) -> None:
        """Tell the core of frames that were too large."""
        self._turn(lambda now: self._socket.frames_rejected(count, reason, now))

    def transport_closed(self, closed: Closed) -> None:
        """Tell the core that the transport ended; one that ends before its dial has returned never opened."""
        if self._dialling is not None:
            self._stillborn.append(closed)
            return
        self._transport = None
        self._ended.set()
        self._turn(lambda now: self._socket.closed(closed.code, closed.reason, now))

    # One turn.

    def _turn(self, mutate: Callable[[float], list[events.Event]]) -> None:
        if self._turning:
            self._turns.append(mutate)
            return
        self._turning = True
        try:
            self._settle(mutate(time.monotonic()))
            while self._turns:
                self._settle(self._turns.popleft()(time.monotonic()))
        finally:
            self._turning = False

    def _settle(self, received: list[events.Event]) -> None:
        try:
            if received:
                self._act(received)
                self._on_events(received)
        finally:
            frames = self._socket.frames_to_send()
            if frames and self._transport is not None:
                if self._flight is not None:
                    self._flight.sent(frames)
                self._transport.send(frames)
            self._arm(self._socket.deadline)

    def _act(self, received: list[events.Event]) -> None:
        for event in received:
            if isinstance(event, events.ConnectDue):
                self._dialling = self._loop.create_task(self._connect(), name="dial")
            elif isinstance(event, events.CloseDue) and self._transport is not None:
                self._transport.close(event.code, event.reason)

    def _arm(self, deadline: float) -> None:
        """Keep a timer that fires no later than the deadline; one that fires early just looks again."""
        if self._armed_for <= deadline and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline < math.inf:
            self._armed_for = deadline
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._time_passed)

    def _time_passed(self) -> None:
        self._timer, self._armed_for = None, math.inf
        self._turn(self._socket.handle_timeout)

    async def _connect(self) -> None:
        self._ended.clear()
        self._stillborn.clear()
        try:
            transport = await self._dial(self)
        except Exception as exc:  # a certificate that was replaced, no descriptor left: attempts never end
            self.last_error = exc
            retry_after = exc.retry_after if isinstance(exc, errors.ConnectError) else None
            self._failed(_cause(exc), str(exc) or repr(exc), retry_after)
            return
        if self._stillborn:
            self._failed(Cause.LINK_LOST, f"closed with {self._stillborn[0].code} at once", None)
            return
        self._dialling = None
        self._transport, self.last_error = transport, None
        if self._paused:
            transport.pause_reading()
        self._turn(self._socket.opened)
        if self._paused:
            self._turn(lambda now: self._socket.reading_paused())

    def _failed(self, cause: Cause, reason: str, retry_after: float | None) -> None:
        self._dialling = None
        self._turn(lambda now: self._socket.connect_failed(cause, reason, now, retry_after=retry_after))


def _cause(error: Exception) -> Cause:
    if isinstance(error, errors.NoEndpoint):
        return _cause(error.decisive)
    if isinstance(error, errors.HandshakeRefused) and not isinstance(error, errors.AuthenticationRefused):
        return _cause_of_status(error.status)
    return next((cause for kind, cause in _CAUSES if isinstance(error, kind)), Cause.UNREACHABLE)


def _cause_of_status(status: int) -> Cause:
    if status in _BUSY:
        return Cause.BUSY
    if status < 400:  # an answer, or a redirect that is not followed: what is there is no Phoenix socket
        return Cause.NOT_WEBSOCKET
    return Cause.HTTP_4XX if status < 500 else Cause.HTTP_5XX
