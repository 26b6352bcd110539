"""
The upgrade by picows, and not a byte more: what stands behind the server's answer goes to the `FrameSplitter`.

picows parses what came in one segment with the answer before anyone can stop it, and looks at a frame before it has handed
on the one before it. It would complain about what stands behind a CLOSE instead of answering it, and break off in the
middle of a batch. So `UpgradeGate` stands between the loop and picows until the blank line that ends the answer.

`picows.ws_connect` makes its protocol itself, and lets nobody stand before it: what it does with the protocol is done here.

Source: RFC 6455 sections 4.1 and 5.5.1; RFC 9112 section 2.1 (where a header ends).
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from picows import WSAutoPingStrategy, WSListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from rig.transport.splitter import FrameSplitter

_END_OF_ANSWER = b"\r\n\r\n"
_BUFFER_BYTES = 16 * 1024
_MAX_FRAME_BYTES = 125  # picows sees no frame

_picows_log = logging.getLogger("rig.transport.picows")
_picows_log.setLevel(logging.WARNING)  # it reports every connection at INFO


async def upgrade(
    listener: WSListener,
    url: str,
    sock: socket.socket,
    *,
    headers: Sequence[tuple[str, str]],
    ssl_context: ssl.SSLContext | None,
    server_hostname: str | None,
) -> Mapping[str, str] | None:
    """
    Make a WebSocket of a TCP connection, and return the headers of the answer, or None if the server hung up instead of answering.

    Args:
        listener: Given to picows, which tells it of the connection's beginning and end.
        url: What is asked for: the Host header and the target of the request.
        sock: Connected. It belongs to the loop as soon as this is called.
        headers: Further headers of the request.
        ssl_context: For TLS, or None to do without.
        server_hostname: The name that the certificate must bear, with TLS.

    Raises:
        OSError: If the connection breaks, or the TLS handshake fails.
        WSHandshakeError: If the answer is not one that opens a WebSocket. picows takes 16 KiB of headers at most.

    Source: RFC 6455 section 4.1.
    """
    parts = urlsplit(url)
    protocol = WSProtocol(
        host_port=parts.netloc,
        ws_path=f"{parts.path}?{parts.query}" if parts.query else parts.path,
        is_client_side=True,
        ws_listener_factory=lambda request, response: listener,
        logger=_picows_log,
        disconnect_on_exception=True,
        websocket_handshake_timeout=None,
        enable_auto_ping=False,
        auto_ping_idle_timeout=0,
        auto_ping_reply_timeout=0,
        auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
        enable_auto_pong=False,
        max_frame_size=_MAX_FRAME_BYTES,
        extra_headers=headers,
        read_buffer_init_size=_BUFFER_BYTES,
    )
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: UpgradeGate(protocol), sock=sock, ssl=ssl_context, server_hostname=server_hostname)
    await protocol.wait_until_handshake_complete()
    if protocol.listener is None or protocol.transport.is_disconnected:
        return None
    return cast(Mapping[str, str], protocol.transport.response.headers)


class UpgradeGate(asyncio.BufferedProtocol):
    """
    The protocol of a connection until the server has answered.

    Args:
        parser: The protocol of picows.
    """

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._seen = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let picows send its request."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the loop is to write the next bytes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Give picows what belongs to the answer, and the rest to the splitter that has taken our place by then."""
        data = self._seen + bytes(self._buffer[:nbytes])
        end = data.find(_END_OF_ANSWER)
        stop = len(data) if end < 0 else end + len(_END_OF_ANSWER)
        self._give_to_parser(data[len(self._seen) : stop])
        self._seen = data[1 - len(_END_OF_ANSWER) :]
        successor = self._transport.get_protocol()
        if isinstance(successor, FrameSplitter):
            successor.keep_early(data[stop:])

    def eof_received(self) -> bool | None:
        """Pass on the end of the stream."""
        return bool(self._parser.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the end of the connection."""
        self._parser.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the write buffer is full."""
        self._parser.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the write buffer has room again."""
        self._parser.resume_writing()

    def _give_to_parser(self, data: bytes) -> None:
        while data:
            room = self._parser.get_buffer(len(data))
            part = data[: len(room)]
            room[: len(part)] = part
            self._parser.buffer_updated(len(part))
            data = data[len(part) :]
