"""
The HTTP side of long-poll: sessions are opened and polled with GET, messages are sent with POST.

Every answer to a request that can be understood is HTTP 200; the status that counts is in its body.
Source: Phoenix.Transports.LongPoll.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from mock_server.answers import Refused, crash
from mock_server.connect import check_request, connect, hang
from mock_server.connection import Connection
from mock_server.frames import BINARY, TEXT
from mock_server.longpoll import Session, Sessions
from mock_server.mount import Mount
from mock_server.socket import Environment, Socket

_RESUME_SECONDS = 1.0
_BODY_BYTES = 8_000_000
_BATCH_LINES = 100
_NDJSON = "application/x-ndjson"
_TOKEN_HEADER = "x-phoenix-longpoll-token"  # noqa: S105 - the header's name
_AUTH_HEADER = "x-phoenix-authtoken"
_LINE_ENDS = re.compile(rb"\r?\n")


class LongPollEndpoint:
    """
    Handles the long-poll requests of one mount.

    Args:
        mount: Its options.
        environment: What the server's sockets share.
        sessions: Those of the whole server, of which this mount's are some.
        on_open: Called with every new socket.
        on_close: Called when its session has ended.
    """

    def __init__(
        self,
        mount: Mount,
        environment: Environment,
        sessions: Sessions,
        *,
        on_open: Callable[[Socket], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        self._mount = mount
        self._environment = environment
        self._sessions = sessions
        self._on_open = on_open
        self._on_close = on_close

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """
        Answer one request.

        Raises:
            Refused: If the request cannot be understood, or something crashes.
        """
        await hang(request, self._environment)
        try:
            check_request(request, self._mount, self._environment)
        except Refused as refusal:
            return self._refused(refusal)
        match request.method:
            case "OPTIONS":
                return _preflight(request)
            case "GET":
                return await self._poll(request)
            case "POST":
                return await self._publish(request)
        return web.Response(status=400, headers={hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"})

    # sessions

    def _token(self, request: web.Request) -> str:
        """Return the token that the request names its session with, or the empty string."""
        if self._environment.behaviour.longpoll_header and _TOKEN_HEADER in request.headers:
            return request.headers[_TOKEN_HEADER]
        return request.query.getall("token", [""])[-1]

    async def _resume(self, token: str) -> Session | None:
        """Find a session that answers; for one that has ended, or is held up, Phoenix waits a second in vain."""
        if not self._environment.tokens.session_valid(token):
            return None
        seconds = _RESUME_SECONDS * self._environment.time_scale
        session = self._sessions.get(token)
        if session is None:
            await asyncio.sleep(seconds)
            return None
        return session if await session.responds(seconds) else None

    def _open(self, request: web.Request) -> web.Response:
        """Open a session."""
        takes_tokens = self._mount.auth_token and self._environment.behaviour.auth_tokens
        auth_token = request.headers.get(_AUTH_HEADER) if takes_tokens else None
        try:
            serializer, identity = connect(request, self._mount, self._environment, auth_token=auth_token)
        except Refused as refusal:
            return self._refused(refusal)
        token = self._environment.tokens.sign_session()
        session = Session(self._mount.window * self._environment.time_scale, self._on_close)
        self._sessions.add(token, session)
        self._on_open(Socket(session, serializer, identity, self._environment))
        return self._answer({"messages": [], "status": 410, "token": token})

    def _refused(self, refusal: Refused) -> web.Response:
        """Answer a refusal of any kind with 403 in the body; a crash, and a status that a fault asked for, stay HTTP."""
        if refusal.status == 500 or self._environment.faults.refuse_connections is not None:
            raise refusal
        return self._answer({"status": 403})

    # polls and messages

    async def _poll(self, request: web.Request) -> web.Response:
        token = self._token(request)
        session = await self._resume(token)
        if session is None:
            return self._open(request)
        messages = await self._sessions.poll(session, request)
        await session.wait_thawed()
        try:
            texts = [payload.decode() for _, payload in messages]
        except UnicodeDecodeError:
            crash()  # a binary message becomes a JSON string as it is, and all that was taken with it is lost
        return self._answer({"messages": texts, "status": 200 if texts else 204, "token": token})

    async def _publish(self, request: web.Request) -> web.Response:
        session = await self._resume(self._token(request))
        if session is None:
            return self._answer({"status": 410})
        await session.wait_thawed()
        for opcode, payload in _split_batch(request.headers.get(hdrs.CONTENT_TYPE), await _read_body(request)):
            if not await session.dispatch(opcode, payload):
                return self._answer({"status": 408})
        return self._answer({"status": 200})

    def _answer(self, body: dict[str, Any]) -> web.Response:
        headers = {
            hdrs.CONTENT_TYPE: "application/json; charset=utf-8",
            hdrs.CACHE_CONTROL: self._environment.behaviour.longpoll_cache_control,
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        }
        response = web.Response(body=msgspec.json.encode(body), headers=headers)
        response.enable_compression()
        return response


def _preflight(request: web.Request) -> web.Response:
    """Let every web page in; the origin has been checked."""
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ", ".join(request.headers.getall(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, [])),
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "get, post, options",
        hdrs.ACCESS_CONTROL_MAX_AGE: "3600",
    }
    return web.Response(headers=headers)


async def _read_body(request: web.Request) -> bytes:
    """
    Read the body.

    Raises:
        Refused: With HTTP 400 if it is longer than 8 MB.
    """
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _BODY_BYTES:
            crash(400, "Bad Request")
    return bytes(body)


def _split_batch(content_type: str | None, body: bytes) -> list[tuple[int, bytes]]:
    """
    Return opcode and payload of each message of a POST; what a batch has beyond its first hundred lines is ignored.

    Raises:
        Refused: With HTTP 500 if a line is neither an array nor base64.
    """
    if content_type != _NDJSON:
        return [(TEXT, body)]
    batch = []
    for line in _LINE_ENDS.split(body)[:_BATCH_LINES]:
        if line.startswith(b"["):
            batch.append((TEXT, line))
            continue
        try:
            batch.append((BINARY, base64.b64decode(line, validate=True)))
        except binascii.Error:
            crash()
    return batch
