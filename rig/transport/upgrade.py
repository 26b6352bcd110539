"""
How a WebSocket is opened: the name, TCP, a proxy, TLS, the upgrade and where it redirects to, within one time limit.

Nothing is left behind by an attempt that fails or is cancelled: the socket is ours, and closed by us.
"""

import asyncio
import socket
from contextlib import suppress

import structlog
from picows import WSHandshakeError

from rig.errors import ConnectTimeout
from rig.transport.base import TransportOwner
from rig.transport.endpoint import Endpoint
from rig.transport.gate import upgrade
from rig.transport.handshake import (
    Redirect,
    chosen_subprotocol,
    closed_during_handshake,
    connect_failed,
    handshake_failed,
    redirect_in,
)
from rig.transport.redirects import follow
from rig.transport.tcp import connect_tcp
from rig.transport.tunnel import connect_through
from rig.transport.websocket import WebSocketTransport

MIB = 1024 * 1024

_TURNS_TO_CLOSE = 20
_told: set[tuple[str, int]] = set()
"""Servers of which it was said that they read no token; no redirect adds to them, since none takes a token to another server."""

log = structlog.get_logger()


async def dial(
    endpoint: Endpoint,
    owner: TransportOwner,
    *,
    connect_timeout: float = 5.0,
    close_timeout: float = 2.0,
    max_frame_bytes: int = MIB,
    read_buffer_bytes: int = 256 * 1024,
) -> WebSocketTransport:
    """
    Open a WebSocket.

    Args:
        endpoint: Where to connect. Up to five redirects are followed, see `rig.transport.redirects` for which are not.
        owner: Told what arrives, from the next turn of the loop after this returns.
        connect_timeout: Seconds for the name, TCP, the proxy, TLS, the upgrade and its redirects together.
        close_timeout: Seconds for the closing handshake, after which the socket is cut.
        max_frame_bytes: Limit of one message. A larger one is dropped and reported; a frame of more than 16 times
            the limit ends the connection with 1009.
        read_buffer_bytes: What one read takes at most, and so what is still handed on after `pause_reading`; 256 KiB or less.

    Raises:
        ConfigError: If a TLS file or a proxy that the environment names cannot be used.
        ConnectFailed: If the host is not found, or the port cannot be reached.
        ConnectTimeout: If it is not done within `connect_timeout`.
        ProxyFailed: If the proxy cannot be reached, or does not let us through.
        TlsFailed: If the TLS handshake fails, most often because of the certificate.
        PinMismatch: If the certificate is not the pinned one; nothing was sent then.
        AuthenticationRefused: If the server answers 401 or 403.
        RedirectRefused: If the server redirects to where we do not follow.
        HandshakeRefused: If the server answers another status than 101.
        NotWebSocket: If what the server answers is no WebSocket handshake.
    """
    transport = WebSocketTransport(
        owner, close_timeout=close_timeout, max_frame_bytes=max_frame_bytes, read_buffer_bytes=read_buffer_bytes
    )
    try:
        async with asyncio.timeout(connect_timeout):
            await _open_where_it_leads(endpoint, transport)
    except TimeoutError as exc:
        raise ConnectTimeout(endpoint.display, connect_timeout) from exc
    asyncio.get_running_loop().call_soon(transport.release)
    return transport


async def _open_where_it_leads(endpoint: Endpoint, transport: WebSocketTransport) -> None:
    trail = [endpoint]
    while (redirect := await _open(trail[-1], transport)) is not None:
        trail.append(follow(trail, redirect))


async def _open(endpoint: Endpoint, transport: WebSocketTransport) -> Redirect | None:
    """Open the transport, or say where the server sends us instead."""
    context = endpoint.ssl_context()
    # A dot at the end of the name is for the resolver: neither SNI (RFC 6066, section 3) nor certificates know it.
    name = endpoint.host.rstrip(".") if context else None
    sock: socket.socket | None = None
    try:
        sock = await _connect(endpoint)
        headers = await upgrade(
            transport.reader,
            endpoint.websocket_url(),
            sock,
            headers=endpoint.request_headers(),
            ssl_context=context,
            server_hostname=name,
        )
        chosen = None if headers is None else chosen_subprotocol(endpoint, headers)
    except BaseException as exc:
        await _hang_up(transport, sock)
        if (redirect := redirect_in(exc)) is not None:
            return redirect
        if sock is None and isinstance(exc, OSError):
            raise connect_failed(endpoint, exc) from exc
        if isinstance(exc, OSError | WSHandshakeError):
            raise handshake_failed(endpoint, exc) from exc
        raise
    if headers is None:
        raise closed_during_handshake(endpoint)
    if chosen is None and endpoint.auth_token is not None:
        _tell_unread_token(endpoint)
    return None


def _tell_unread_token(endpoint: Endpoint) -> None:
    """
    Say once of each server that it took no notice of the token; it may have let us in for other reasons.

    Source: Phoenix.Transports.WebSocket 1.8 (`auth_token: true` makes it choose `phoenix`).
    """
    server = (endpoint.host, endpoint.port)
    if server not in _told:
        _told.add(server)
        log.info(
            "the server does not read auth tokens from the subprotocol (Phoenix before 1.8?)",
            server=f"{endpoint.host}:{endpoint.port}",
        )


async def _connect(endpoint: Endpoint) -> socket.socket:
    if endpoint.via is not None:
        return await connect_through(endpoint.via, endpoint.host, endpoint.port)
    return await connect_tcp(endpoint.host, endpoint.port)


async def _hang_up(transport: WebSocketTransport, sock: socket.socket | None) -> None:
    """
    Close the socket of a handshake that failed.

    picows shields the handshake from cancellation, and keeps its transport to itself. Shutting the socket down makes that
    transport see the end of the stream and close in the next turns of the loop, so that the descriptor is free afterwards.
    An answer that is read before that end opens the connection all the same, which then reads nothing: it is cut.
    """
    if sock is None:
        return
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    for _ in range(_TURNS_TO_CLOSE):
        if sock.fileno() == -1:
            return
        if transport.is_open:
            transport.abort()
        await asyncio.sleep(0)
    sock.close()
