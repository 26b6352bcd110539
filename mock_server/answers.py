"""
The HTTP answers of the server: refusals from anywhere in a handler, and the headers that Phoenix puts on every answer.

Source: Plug.Conn, Bandit, and recordings of both.
"""

from collections.abc import Awaitable, Callable
from typing import NoReturn

from aiohttp import hdrs, web

_NOT_CACHED = "max-age=0, private, must-revalidate"


class Refused(Exception):
    """An HTTP answer in place of what was asked for."""

    def __init__(self, status: int, body: bytes = b"", content_type: str | None = None) -> None:
        self.status = status
        self.response = web.Response(status=status, body=body)
        if content_type is not None:
            self.response.headers[hdrs.CONTENT_TYPE] = content_type
        super().__init__(f"HTTP {status}")


def refuse(status: int, body: bytes = b"") -> NoReturn:
    """
    End the request with this answer.

    Raises:
        Refused: Always.
    """
    raise Refused(status, body)


def crash(status: int = 500, detail: str = "Internal Server Error") -> NoReturn:
    """
    Answer as Phoenix does when the code behind a request raises.

    Raises:
        Refused: Always.
    """
    body = b'{"errors":{"detail":"%s"}}' % detail.encode()
    raise Refused(status, body, "application/json; charset=utf-8")


@web.middleware
async def answer_refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn a refusal into its answer."""
    try:
        return await handler(request)
    except Refused as refusal:
        return refusal.response


async def set_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Make the headers those of Phoenix behind Bandit; called for every answer before it is sent."""
    response.headers.pop(hdrs.SERVER, None)
    response.headers.setdefault(hdrs.VARY, "accept-encoding")
    response.headers.setdefault(hdrs.CACHE_CONTROL, _NOT_CACHED)
    if response.content_type == "application/octet-stream":
        response.headers.pop(hdrs.CONTENT_TYPE, None)
