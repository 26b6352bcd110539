"""
Which transport a connection takes: a WebSocket, long-poll, or whichever gets through.

`auto` begins with a WebSocket. Where that does not open in time, or what answers does not speak WebSocket, long-poll is
tried: something between here and the server may let plain HTTP through and nothing else. It is not tried where it would
meet the same: a name that is unknown, a port that is closed, a certificate or a token that is refused, a server that says
that it is busy.

That long-poll was taken is remembered, unless a WebSocket has worked before: then it will again, and this was a server that
restarts. Whoever remembers goes straight to long-poll, until long-poll fails, or the time has come to try a WebSocket again.
That happens at the next dial; a session that is well is left alone.

A WebSocket has worked once anything came through it. One that opened and ended before that was swallowed by something between,
and long-poll is tried at the next dial. (phoenix.js pings for this; here the core's heartbeats end such a connection, in 25 s.)
During a hand-over there are two connections, of which either may be of either kind: one that is not over is not judged, and one of
two through which something came speaks for both.

Source: phoenix.js `Socket.connectWithFallback` (`longPollFallbackMs`).
"""

import time
from collections.abc import Callable
from typing import Literal

import structlog

from rig.errors import (
    AuthenticationRefused,
    ConnectError,
    ConnectTimeout,
    HandshakeRefused,
    NotWebSocket,
    RedirectRefused,
    RigError,
    TlsFailed,
)
from rig.transport.base import Transport, TransportOwner
from rig.transport.endpoint import Endpoint
from rig.transport.upgrade import dial
from rig.transport.websocket import WebSocketTransport

Mode = Literal["websocket", "longpoll", "auto"]

WEBSOCKET: Literal["websocket"] = "websocket"
LONGPOLL: Literal["longpoll"] = "longpoll"

_LONGEST_REST_FACTOR = 16

log = structlog.get_logger()


class TransportChoice:
    """
    What one connection has learnt of its network.

    Args:
        mode: `auto`, or the one transport to take.
        fallback_timeout: Seconds that a WebSocket may take to open before `auto` tries long-poll.
        retry_websocket_after: Seconds until `auto` tries a WebSocket again; doubled each time that it fails, up to 16 times.
        clock: Returns seconds.

    Attributes:
        name: Which transport was taken last, or is tried first.
        reason: Why, as half a sentence.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        fallback_timeout: float,
        retry_websocket_after: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name: Literal["websocket", "longpoll"] = LONGPOLL if mode == LONGPOLL else WEBSOCKET
        self.reason = "it is tried first" if mode == "auto" else "it was asked for"
        self._mode, self._fallback_timeout, self._clock = mode, fallback_timeout, clock
        self._rest = retry_websocket_after
        self._longest_rest = retry_websocket_after * _LONGEST_REST_FACTOR
        self._websockets: list[WebSocketTransport] = []
        self._websocket_worked = False
        self._longpoll_until: float | None = None

    async def dial(self, endpoint: Endpoint, owner: TransportOwner, *, connect_timeout: float, max_frame_bytes: int) -> Transport:
        """
        Return an open transport.

        Args:
            endpoint: Where to connect.
            owner: Told what arrives.
            connect_timeout: Seconds for each transport that is tried.
            max_frame_bytes: Limit of one message.

        Raises:
            ConnectError: If there is none, see `rig.transport.dial` and `rig.transport.dial_longpoll`. If both were tried it is
                the WebSocket's error, with the other in a note; only a refusal of the token is passed on as it is.
            ConfigError: If a setting of the endpoint cannot be used.
        """
        if self._mode == WEBSOCKET:
            return await dial(endpoint, owner, connect_timeout=connect_timeout, max_frame_bytes=max_frame_bytes)
        if self._mode == LONGPOLL:
            return await _dial_longpoll(endpoint, owner, connect_timeout, max_frame_bytes)
        if self._longpoll_until is not None and self._clock() < self._longpoll_until:
            return await self._remembered(endpoint, owner, connect_timeout, max_frame_bytes)
        swallowed = self._judge_websockets(endpoint)
        if swallowed is not None:
            return await self._fall_back(endpoint, owner, connect_timeout, max_frame_bytes, blocked=swallowed)
        try:
            timeout = min(self._fallback_timeout, connect_timeout)
            transport = await dial(endpoint, owner, connect_timeout=timeout, max_frame_bytes=max_frame_bytes)
        except ConnectError as exc:
            if not may_pass_by_longpoll(exc):
                raise
            return await self._fall_back(endpoint, owner, connect_timeout, max_frame_bytes, blocked=exc)
        self._take_websocket(transport)
        return transport

    @property
    def fallback(self) -> str:
        """Why the transport that was taken last is not of the kind that was wanted; empty if it is."""
        return f"long-poll instead of a WebSocket: {self.reason}" if self._mode == "auto" and self.name == LONGPOLL else ""

    async def _remembered(
        self, endpoint: Endpoint, owner: TransportOwner, connect_timeout: float, max_frame_bytes: int
    ) -> Transport:
        try:
            return await _dial_longpoll(endpoint, owner, connect_timeout, max_frame_bytes)
        except AuthenticationRefused:
            raise
        except ConnectError as exc:
            log.info("longpoll failed; a websocket is tried next", reason=str(exc))
            self._longpoll_until = None
            raise

    async def _fall_back(
        self, endpoint: Endpoint, owner: TransportOwner, connect_timeout: float, max_frame_bytes: int, *, blocked: ConnectError
    ) -> Transport:
        try:
            transport = await _dial_longpoll(endpoint, owner, connect_timeout, max_frame_bytes)
        except AuthenticationRefused as exc:
            exc.add_note(f"A WebSocket failed before: {blocked}")
            raise
        except RigError as exc:
            blocked.add_note(f"Long-poll failed, too: {exc}")
            raise blocked from exc
        self._take_longpoll(blocked)
        return transport

    def _judge_websockets(self, endpoint: Endpoint) -> NotWebSocket | None:
        """Say whether those that are over were swallowed."""
        known, self._websockets = self._websockets, [websocket for websocket in self._websockets if not websocket.over]
        if any(websocket.bytes_received for websocket in known):
            self._websocket_worked = True
            return None
        if known == self._websockets:
            return None
        return NotWebSocket(endpoint.display, "it opened, but nothing ever came through")

    def _take_websocket(self, transport: WebSocketTransport) -> None:
        if self.name == LONGPOLL:
            log.info("taking websocket again", reason="it gets through now")
        self.name, self.reason = WEBSOCKET, "it gets through"
        self._websockets.append(transport)

    def _take_longpoll(self, blocked: ConnectError) -> None:
        if self.name == WEBSOCKET:
            log.warning("taking longpoll", reason=str(blocked))
        self.name, self.reason = LONGPOLL, f"a websocket failed: {blocked}"
        if not self._websocket_worked:
            self._longpoll_until = self._clock() + self._rest
            self._rest = min(self._rest * 2, self._longest_rest)


async def _dial_longpoll(endpoint: Endpoint, owner: TransportOwner, connect_timeout: float, max_frame_bytes: int) -> Transport:
    from rig.transport.longpoll import dial_longpoll  # with it comes an HTTP library, which most connections never need

    return await dial_longpoll(endpoint, owner, connect_timeout=connect_timeout, max_frame_bytes=max_frame_bytes)


def may_pass_by_longpoll(error: ConnectError) -> bool:
    """Tell whether plain HTTP may get through where a WebSocket failed with this error."""
    match error:
        case AuthenticationRefused() | RedirectRefused():
            return False
        case HandshakeRefused():
            # A redirect leads both away, and who names a time to come back is busy, not blocked.
            return error.status // 100 != 3 and error.status != 429 and error.retry_after is None
        case TlsFailed():
            # The certificate is the same for both; a connection that was reset after the upgrade request is not.
            return isinstance(error.__cause__, ConnectionError)
        case NotWebSocket() | ConnectTimeout():
            return True
        case _:
            return False
