"""The HTTP routes of the reference application, on the same port as its sockets."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from mock_server.flood import Flood, FloodRequest, SizeTooSmall
from mock_server.pace import Pace, PaceRequest

if TYPE_CHECKING:
    from mock_server.server import MockServer


class ReferenceHttp:
    """The handlers, over one server; they answer in plain text, as the recorded application does."""

    def __init__(self, server: "MockServer") -> None:
        self._server = server

    async def info(self, request: web.Request) -> web.Response:
        """Say which version is simulated, and how much is connected."""
        server = self._server
        channels = sum(len(socket.channels) for socket in server.sockets.values())
        body = {"phoenix": server.behaviour.phoenix, "mock": True, "sockets": len(server.sockets), "channels": channels}
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def disconnect(self, request: web.Request) -> web.Response:
        """Broadcast `disconnect` to a socket id."""
        self._server.disconnect(request.match_info["id"])
        return _text(f"disconnected {request.match_info['id']}")

    async def flood(self, request: web.Request) -> web.Response:
        """Broadcast many events at once."""
        topic, count, size = request.match_info["topic"], int(request.match_info["n"]), int(request.match_info["size"])
        try:
            flood = Flood(FloodRequest(topics=[topic], count=count, size=size), self._server.hub)
        except SizeTooSmall as exc:
            return _text(str(exc), status=400)
        result = await flood.run()
        return _text(f"flooded {result.sent} in {round(result.seconds * 1e6)} us")

    async def pace(self, request: web.Request) -> web.Response:
        """Broadcast events at a steady rate."""
        count, rate = int(request.match_info["n"]), int(request.match_info["rate"])
        if not count or not rate:
            return _text("the number of events and the rate must be at least 1", status=400)
        topic, size = request.match_info["topic"], int(request.match_info["size"])
        try:
            pace = Pace(PaceRequest(topics=[topic], rate=rate, seconds=count / rate, size=size), self._server.hub)
        except SizeTooSmall as exc:
            return _text(str(exc), status=400)
        result = await pace.run()
        return _text(f"paced {result.sent} in {round(result.seconds * 1e6)} us")

    async def broadcast(self, request: web.Request) -> web.Response:
        """Broadcast one event whose payload is the query."""
        topic, event = request.match_info["topic"], request.match_info["event"]
        self._server.publish(topic, event, dict(request.query))
        return _text("ok")

    async def kill_channels(self, request: web.Request) -> web.Response:
        """Crash every channel of a topic."""
        return _text(f"killed {self._server.kill_channels(request.match_info['topic'])}")

    async def drain(self, request: web.Request) -> web.Response:
        """Close every socket that has joined a topic, as a draining shutdown does."""
        return _text(f"drained {self._server.drain(request.match_info['topic'])}")


def reference_routes(server: "MockServer") -> Iterable[web.RouteDef]:
    """Return the routes."""
    pages = ReferenceHttp(server)
    return (
        web.get("/info", pages.info),
        web.get("/disconnect/{id}", pages.disconnect),
        web.get(r"/flood/{topic}/{n:\d+}/{size:\d+}", pages.flood),
        web.get(r"/pace/{topic}/{n:\d+}/{size:\d+}/{rate:\d+}", pages.pace),
        web.get("/broadcast/{topic}/{event}", pages.broadcast),
        web.get("/kill_channels/{topic}", pages.kill_channels),
        web.get("/drain/{topic}", pages.drain),
    )


def _text(text: str, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=text.encode() + b"\n")
