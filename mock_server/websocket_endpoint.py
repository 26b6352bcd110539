"""
The HTTP side of a WebSocket: refusals before the upgrade, and the upgrade itself.

Source: Phoenix.Transports.WebSocket; Phoenix.Socket.Transport, `check_subprotocols/2`; WebSockAdapter, `UpgradeValidation`.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any, cast

from aiohttp import web

from mock_server.answers import crash, refuse
from mock_server.connect import check_request, connect, hang
from mock_server.connection import Connection
from mock_server.mount import Mount
from mock_server.serializer import Serializer
from mock_server.socket import Environment, Identity, Socket
from mock_server.websocket import Limits, WebSocket

_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_AUTH_PREFIX = "base64url.bearer.phx."
_STANDARD_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_SEND_TIMEOUT = 30.0


class Upgraded(web.StreamResponse):
    """What a handler returns once the connection is no longer HTTP: aiohttp is to send nothing more."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send no header."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send no body."""


class _Remainder:
    """Takes the bytes that followed the upgrade request at once, in the place of aiohttp's own WebSocket parser."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        pass


class WebSocketEndpoint:
    """
    Handles the upgrade requests of one mount.

    Args:
        mount: Its options.
        environment: What the server's sockets share.
        on_open: Called with every new socket.
        on_close: Called when its connection is gone.
    """

    def __init__(
        self, mount: Mount, environment: Environment, *, on_open: Callable[[Socket], None], on_close: Callable[[Connection], None]
    ) -> None:
        self._mount = mount
        self._environment = environment
        self._on_open = on_open
        self._on_close = on_close
        self._takes_tokens = mount.auth_token and environment.behaviour.auth_tokens
        self._subprotocols: tuple[str, ...] = (*mount.subprotocols, *(("phoenix",) if self._takes_tokens else ()))
        self._limits = Limits(
            idle_timeout=mount.idle_timeout * environment.time_scale,
            send_timeout=_SEND_TIMEOUT * environment.time_scale,
            max_frame_bytes=mount.max_frame_bytes or environment.behaviour.default_frame_bytes,
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """
        Upgrade the connection and stay until it ends.

        Raises:
            Refused: If it is not upgraded.
        """
        await hang(request, self._environment)
        if request.method != "GET":
            refuse(400)
        if self._environment.faults.refuse_websockets is not None:
            refuse(self._environment.faults.refuse_websockets)
        check_request(request, self._mount, self._environment)
        offered, token = self._auth_token(request)
        subprotocol = self._choose_subprotocol(offered)
        serializer, identity = connect(request, self._mount, self._environment, auth_token=token)
        problem = _upgrade_problem(request)
        if problem is not None:
            refuse(400, problem.encode())
        return await self._upgrade(request, serializer, identity, subprotocol)

    def _auth_token(self, request: web.Request) -> tuple[list[str], str | None]:
        """Split the offered subprotocols from the token among them."""
        offered = [item.strip() for item in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if item.strip()]
        tokens = [item.removeprefix(_AUTH_PREFIX) for item in offered if item.startswith(_AUTH_PREFIX)]
        if not self._takes_tokens or len(tokens) != 1:
            return offered, None
        return [item for item in offered if not item.startswith(_AUTH_PREFIX)], _decode_token(tokens[0])

    def _choose_subprotocol(self, offered: list[str]) -> str | None:
        """Return the first of the server's own that the client offers; a client that offers none gets none."""
        if not self._subprotocols or not offered:
            return None
        chosen = next((subprotocol for subprotocol in self._subprotocols if subprotocol in offered), None)
        if chosen is None:
            refuse(403)
        return chosen

    async def _upgrade(
        self, request: web.Request, serializer: Serializer, identity: Identity, subprotocol: str | None
    ) -> web.StreamResponse:
        compressed = self._mount.compression and "permessage-deflate" in request.headers.get("Sec-WebSocket-Extensions", "")
        transport = request.transport
        if transport is None:
            refuse(400)
        transport.write(_switching_protocols(request, subprotocol=subprotocol, compressed=compressed))
        connection = WebSocket(replace(self._limits, compression=compressed), self._on_close)
        socket = Socket(connection, serializer, identity, self._environment)
        remainder = _Remainder()
        request.protocol.set_parser(cast(Any, remainder))
        self._on_open(socket)
        connection.take_over(transport, request.protocol)
        if remainder.data:
            connection.data_received(remainder.data)
        await connection.lost
        response = Upgraded(status=101)
        response.force_close()
        return response


def _decode_token(text: str) -> str:
    """Decode a token as Phoenix does: standard base64, padding optional, anything else crashes."""
    if not _STANDARD_BASE64.fullmatch(text):
        crash()
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        crash()


def _upgrade_problem(request: web.Request) -> str | None:
    """Return what keeps the request from being a WebSocket upgrade, in the words of Phoenix's web server, or None."""
    headers = request.headers
    if request.version < (1, 1):
        return f"HTTP version HTTP/{request.version.major}.{request.version.minor} unsupported"
    if not headers.get("Host"):
        return "'host' header is absent"
    for name, needed in (("connection", "upgrade"), ("upgrade", "websocket")):
        values = headers.getall(name, [])
        if not any(needed in value.lower() for value in values):
            return f"'{name}' header must contain '{needed}', got {json.dumps(values)}"
    if not headers.get("Sec-WebSocket-Key"):
        return "'sec-websocket-key' header is absent"
    versions = headers.getall("Sec-WebSocket-Version", [])
    if versions != ["13"]:
        return f"'sec-websocket-version' header must equal '13', got {json.dumps(versions)}"
    return None


def _switching_protocols(request: web.Request, *, subprotocol: str | None, compressed: bool) -> bytes:
    key = request.headers["Sec-WebSocket-Key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SALT, usedforsecurity=False).digest()).decode()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        f"date: {formatdate(usegmt=True)}",
        "upgrade: websocket",
        "connection: Upgrade",
        f"sec-websocket-accept: {accept}",
        "cache-control: max-age=0, private, must-revalidate",
    ]
    if subprotocol is not None:
        lines.append(f"sec-websocket-protocol: {subprotocol}")
    if compressed:
        lines.append("sec-websocket-extensions: permessage-deflate;client_max_window_bits=15")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
