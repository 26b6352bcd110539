"""A long-poll endpoint that answers what a test tells it, and keeps what it was asked."""

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from rig.transport import BinaryFrame, Endpoint

OPENED = {"status": 410, "token": "session-1", "messages": []}

Answer = dict[str, Any] | bytes | int | Callable[[web.Request], Awaitable[web.StreamResponse]]
"""A body of Phoenix, any other body, an HTTP status, or what makes the response."""


def says(*messages: str, status: int = 200) -> dict[str, Any]:
    """Build the body of a poll's answer."""
    return {"status": status, "token": "session-1", "messages": list(messages)}


async def hangs(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def breaks(request: web.Request) -> web.StreamResponse:
    """Hang up instead of answering."""
    request.transport.abort()
    return web.Response()


async def breaks_off(request: web.Request) -> web.StreamResponse:
    """Hang up in the middle of the answer."""
    response = web.StreamResponse()
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b'{"status":200,"messages":["[1')
    request.transport.abort()
    return response


async def leads_away(_: web.Request) -> web.StreamResponse:
    """Answer with a redirect."""
    return web.Response(status=307, headers={"Location": "/elsewhere/longpoll"})


@dataclass
class Asked:
    """A request."""

    method: str
    target: str
    query: list[tuple[str, str]]
    headers: CIMultiDict[str]
    body: bytes
    client: tuple[str, int]

    @property
    def frames(self) -> list[bytes]:
        """What a POST holds, read as Phoenix reads it."""
        if self.headers["Content-Type"] != "application/x-ndjson":
            return [self.body]
        lines = self.body.split(b"\n")[:100]
        return [line if line.startswith(b"[") else BinaryFrame(base64.b64decode(line, validate=True)) for line in lines]


class PollServer:
    """
    Serves `/socket/longpoll` on a free port.

    Attributes:
        opening: The answers to GETs without a token, one after the other, then always a new session.
        polls: The answers to polls; without one a poll waits.
        posts: The answers to POSTs, one after the other, then always 200.
        asked: Every request, in order.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.opening: deque[Answer] = deque()
        self.polls: asyncio.Queue[Answer] = asyncio.Queue()
        self.posts: deque[Answer] = deque()
        self.asked: list[Asked] = []
        self.port = 0
        self._changed = asyncio.Event()

    async def __aenter__(self) -> "PollServer":
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runner.cleanup()

    def endpoint(self, **settings: Any) -> Endpoint:
        scheme, host = ("wss", "localhost") if self._context else ("ws", "127.0.0.1")
        return Endpoint(f"{scheme}://{host}:{self.port}/socket", **settings)

    def says(self, *messages: str, status: int = 200) -> None:
        """Answer the next poll with these."""
        self.polls.put_nowait(says(*messages, status=status))

    @property
    def gets(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "GET"]

    @property
    def posted(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "POST"]

    @property
    def frames(self) -> list[bytes]:
        """Every frame that was posted, in order."""
        return [frame for asked in self.posted for frame in asked.frames]

    async def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait for a request after which the condition holds."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        client = request.transport.get_extra_info("peername")
        asked = Asked(request.method, request.raw_path, list(request.query.items()), CIMultiDict(request.headers), body, client)
        self.asked.append(asked)
        self._changed.set()
        if request.method == "POST":
            return await self._answer(request, self.posts.popleft() if self.posts else {"status": 200})
        if "X-Phoenix-Longpoll-Token" not in request.headers:
            return await self._answer(request, self.opening.popleft() if self.opening else OPENED)
        return await self._answer(request, await self.polls.get())

    async def _answer(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        if isinstance(answer, dict):
            return web.json_response(answer)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json", charset="utf-8")
        if isinstance(answer, int):
            return web.Response(status=answer)
        return await answer(request)
