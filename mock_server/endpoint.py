"""
The HTTP side of a socket: refusals before the upgrade, and the upgrade itself.

Source: Phoenix.Transports.WebSocket, `Phoenix.Socket.__connect__`, Plug.Conn.Query.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, NoReturn, cast
from urllib.parse import parse_qsl

from aiohttp import web

from mock_server.connection import Connection, Limits
from mock_server.serializer import SERIALIZERS, Serializer
from mock_server.socket import Environment, Identity, Socket

_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSIONS = re.compile(r"([12])\.0\.(0|[1-9]\d*)(\+.*)?")
_AUTH_PREFIX = "base64url.bearer.phx."
_STANDARD_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_SEND_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Mount:
    """
    One `socket "/path", …` line of the application.

    Args:
        path: Where; `/websocket` follows.
        idle_timeout: Seconds of silence that close the connection.
        max_frame_bytes: The longest frame; None for the version's default.
        compression: permessage-deflate is accepted if offered.
        auth_token: The token in `Sec-WebSocket-Protocol` is looked at.
        custom_errors: A refusal is HTTP 429 with a body.
    """

    path: str
    idle_timeout: float = 60.0
    max_frame_bytes: int | None = None
    compression: bool = False
    auth_token: bool = False
    custom_errors: bool = False


MOUNTS = (
    Mount("/socket", max_frame_bytes=8_000_000, auth_token=True),
    Mount("/default"),
    Mount("/short", idle_timeout=3.0),
    Mount("/limit", max_frame_bytes=65_536, compression=True),
    Mount("/err", custom_errors=True),
)


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


class Endpoint:
    """
    Handles the requests of one mount.

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
        self._limits = Limits(
            idle_timeout=mount.idle_timeout * environment.time_scale,
            send_timeout=_SEND_TIMEOUT * environment.time_scale,
            max_frame_bytes=mount.max_frame_bytes or environment.behaviour.default_frame_bytes,
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Refuse the connection, or upgrade it and stay until it ends."""
        if self._environment.faults.refuse_connections is not None:
            return web.Response(status=self._environment.faults.refuse_connections)
        if request.method != "GET":
            return web.Response(status=400)
        protocols, token = self._auth_token(request)
        if self._takes_tokens and protocols and "phoenix" not in protocols:
            _refuse(403)
        params = dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True))
        if "vsn[]" in params and self._environment.behaviour.list_vsn_status == 500:
            _crash()
        serializer = _choose_serializer(params)
        self._connect(params)
        problem = _upgrade_problem(request)
        if problem is not None:
            return web.Response(status=400, text=problem)
        identity = Identity(self._mount.path, params, token, f"user:{params['user']}" if "user" in params else None)
        return await self._upgrade(request, serializer, identity, echo="phoenix" in protocols and self._takes_tokens)

    @property
    def _takes_tokens(self) -> bool:
        return self._mount.auth_token and self._environment.behaviour.auth_tokens

    def _auth_token(self, request: web.Request) -> tuple[list[str], str | None]:
        """Split the offered subprotocols from the token among them."""
        offered = [item.strip() for item in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if item.strip()]
        tokens = [item.removeprefix(_AUTH_PREFIX) for item in offered if item.startswith(_AUTH_PREFIX)]
        if not self._takes_tokens or len(tokens) != 1:
            return offered, None
        return [item for item in offered if not item.startswith(_AUTH_PREFIX)], _decode_token(tokens[0])

    def _connect(self, params: dict[str, str]) -> None:
        """Do what the application's `connect/3` does: refuse by `token`."""
        match params.get("token"):
            case "bad":
                _refuse(403)
            case "reason" if self._mount.custom_errors:
                _refuse(429, b'{"reason":"slow down"}')
            case "reason":
                _refuse(403)
            case "raise":
                _crash()

    async def _upgrade(self, request: web.Request, serializer: Serializer, identity: Identity, *, echo: bool) -> web.StreamResponse:
        compressed = self._mount.compression and "permessage-deflate" in request.headers.get("Sec-WebSocket-Extensions", "")
        transport = request.transport
        if transport is None:
            _refuse(400)
        transport.write(_switching_protocols(request, echo=echo, compressed=compressed))
        limits = Limits(self._limits.idle_timeout, self._limits.send_timeout, self._limits.max_frame_bytes, compressed)
        connection = Connection(limits, self._on_close)
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


def _choose_serializer(params: dict[str, str]) -> Serializer:
    """Return the serializer that `vsn` asks for; without one it is 1.0.0."""
    match = _VERSIONS.fullmatch("" if "vsn[]" in params else params.get("vsn", "1.0.0"))
    if match is None:
        _refuse(403)
    return SERIALIZERS[match[1]]


def _decode_token(text: str) -> str:
    """Decode a token as Phoenix does: standard base64, padding optional, anything else crashes."""
    if not _STANDARD_BASE64.fullmatch(text):
        _crash()
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        _crash()


def _upgrade_problem(request: web.Request) -> str | None:
    """Return what keeps the request from being a WebSocket upgrade, in Bandit's words, or None."""
    headers = request.headers
    if "upgrade" not in headers.get("Connection", "").lower():
        return "'connection' header must contain 'upgrade', got " + repr(headers.getall("Connection", []))
    if headers.get("Upgrade", "").lower() != "websocket":
        return "'upgrade' header must contain 'websocket', got " + repr(headers.getall("Upgrade", []))
    if "Sec-WebSocket-Key" not in headers:
        return "'sec-websocket-key' header is absent"
    if headers.get("Sec-WebSocket-Version") != "13":
        return "'sec-websocket-version' header must equal '13'"
    return None


def _switching_protocols(request: web.Request, *, echo: bool, compressed: bool) -> bytes:
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
    if echo:
        lines.append("sec-websocket-protocol: phoenix")
    if compressed:
        lines.append("sec-websocket-extensions: permessage-deflate;client_max_window_bits=15")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Refused(Exception):
    """An HTTP answer in place of the upgrade."""

    def __init__(self, status: int, body: bytes, content_type: str | None) -> None:
        self.response = web.Response(status=status, body=body)
        if content_type is not None:
            self.response.headers["content-type"] = content_type
        super().__init__(f"HTTP {status}")


def _refuse(status: int, body: bytes = b"") -> NoReturn:
    raise Refused(status, body, None)


def _crash() -> NoReturn:
    """Answer as Phoenix does when `connect/3` raises."""
    raise Refused(500, b'{"errors":{"detail":"Internal Server Error"}}', "application/json; charset=utf-8")


@web.middleware
async def answer_refusals(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """Turn a refusal into its answer."""
    try:
        response: web.StreamResponse = await handler(request)
    except Refused as refusal:
        return refusal.response
    return response
