"""
How a WebSocket is opened: the name, TCP, TLS and the upgrade, within one time limit.

Nothing is left behind by an attempt that fails or is cancelled: the socket is ours, and closed by us.
"""

import asyncio
import socket
from contextlib import suppress

import aiohappyeyeballs
from picows import WSHandshakeError

from rig.errors import ConnectTimeout
from rig.transport.base import TransportOwner
from rig.transport.endpoint import Endpoint
from rig.transport.gate import upgrade
from rig.transport.handshake import closed_during_handshake, connect_failed, handshake_failed
from rig.transport.websocket import WebSocketTransport

MIB = 1024 * 1024

_HAPPY_EYEBALLS_DELAY = 0.25
_TURNS_TO_CLOSE = 20


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
        endpoint: Where to connect. Redirects are not followed: they would carry the token to another place.
        owner: Told what arrives, from the next turn of the loop after this returns.
        connect_timeout: Seconds for the name, TCP, TLS and the upgrade together.
        close_timeout: Seconds for the closing handshake, after which the socket is cut.
        max_frame_bytes: Limit of one message. A larger one is dropped and reported; a frame of more than 16 times
            the limit ends the connection with 1009.
        read_buffer_bytes: What one read takes at most, and so what is still handed on after `pause_reading`; 256 KiB or less.

    Raises:
        ConfigError: If a TLS file cannot be used.
        ConnectFailed: If the host is not found, or the port cannot be reached.
        ConnectTimeout: If it is not done within `connect_timeout`.
        TlsFailed: If the TLS handshake fails, most often because of the certificate.
        AuthenticationRefused: If the server answers 401 or 403.
        HandshakeRefused: If the server answers another status than 101.
        NotWebSocket: If what the server answers is no WebSocket handshake.
    """
    transport = WebSocketTransport(
        owner, close_timeout=close_timeout, max_frame_bytes=max_frame_bytes, read_buffer_bytes=read_buffer_bytes
    )
    context = endpoint.ssl_context()
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(connect_timeout):
            sock = await _connect_tcp(endpoint)
            answered = await upgrade(
                transport.reader,
                endpoint.websocket_url(),
                sock,
                headers=endpoint.request_headers(),
                ssl_context=context,
                server_hostname=endpoint.host if context else None,
            )
    except asyncio.CancelledError:
        await _hang_up(transport, sock)
        raise
    except Exception as exc:
        await _hang_up(transport, sock)
        if isinstance(exc, TimeoutError) and exc.errno is None:  # with a number it is the kernel's, and came earlier
            raise ConnectTimeout(endpoint.display, connect_timeout) from exc
        if sock is None and isinstance(exc, OSError):
            raise connect_failed(endpoint, exc) from exc
        if isinstance(exc, OSError | WSHandshakeError):
            raise handshake_failed(endpoint, exc) from exc
        raise
    if not answered:
        raise closed_during_handshake(endpoint)
    asyncio.get_running_loop().call_soon(transport.release)
    return transport


async def _connect_tcp(endpoint: Endpoint) -> socket.socket:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY, interleave=1)


async def _hang_up(transport: WebSocketTransport, sock: socket.socket | None) -> None:
    """
    Close the socket of a handshake that failed.

    picows shields the handshake from cancellation, and keeps its transport to itself. Shutting the socket down makes that
    transport see the end of the stream and close in the next turns of the loop, so that the descriptor is free afterwards.
    """
    if sock is None:
        return
    if transport.is_open:
        transport.abort()
    else:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    for _ in range(_TURNS_TO_CLOSE):
        if sock.fileno() == -1:
            return
        await asyncio.sleep(0)
    sock.close()
