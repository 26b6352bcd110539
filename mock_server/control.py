"""
The control API: JSON over HTTP under `/control`, for tests, benchmarks and people.

A request that cannot be understood is answered with 400 and `{"error": …}`.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from mock_server.flood import Flood, FloodRequest, SizeTooSmall
from mock_server.pace import Pace, PaceRequest
from mock_server.serializer import Unencodable

if TYPE_CHECKING:
    from mock_server.server import MockServer

_Request = TypeVar("_Request")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Publish(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /control/publish` takes."""

    topic: str
    event: str
    payload: dict[str, Any] = {}


class Kick(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /control/kick` takes: one client or all; code 0 drops TCP without a close frame."""

    client: str | None = None
    all: bool = False
    code: int = 1000


class Disconnect(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /control/disconnect` takes: the `user` parameter of the clients to disconnect."""

    user: str


class Drain(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /control/drain` takes: a topic, or nothing for every connection that has joined one."""

    topic: str | None = None


class ControlApi:
    """The handlers, over one server."""

    def __init__(self, server: "MockServer") -> None:
        self._server = server

    async def clients(self, request: web.Request) -> web.Response:
        """List who is connected."""
        return _json(self._server.clients)

    async def publish(self, request: web.Request) -> web.Response:
        """Broadcast one event."""
        body = await _read(request, Publish)
        return _json({"delivered": self._server.publish(body.topic, body.event, body.payload)})

    async def flood(self, request: web.Request) -> web.Response:
        """Send many events as fast as possible; answers when all are written."""
        body = await _read(request, FloodRequest)
        _require_topics(body.topics)
        return _json(await Flood(body, self._server.hub).run())

    async def pace(self, request: web.Request) -> web.Response:
        """Send events at a steady rate; answers when all are written."""
        body = await _read(request, PaceRequest)
        _require_topics(body.topics)
        if body.rate <= 0 or body.rate * body.seconds < 1:
            raise web.HTTPBadRequest(text="rate and seconds must make at least one event")
        return _json(await Pace(body, self._server.hub).run())

    async def kick(self, request: web.Request) -> web.Response:
        """Close one connection, or all."""
        body = await _read(request, Kick)
        if body.client is None and not body.all:
            raise web.HTTPBadRequest(text="name a client, or give all: true")
        return _json({"kicked": self._server.close_where(body.code, client=None if body.all else body.client)})

    async def disconnect(self, request: web.Request) -> web.Response:
        """Close the sockets of one user, as the application would."""
        body = await _read(request, Disconnect)
        return _json({"disconnected": self._server.disconnect(f"user:{body.user}")})

    async def drain(self, request: web.Request) -> web.Response:
        """Close the connections that have joined a topic, as a server that shuts down."""
        body = await _read(request, Drain)
        return _json({"drained": self._server.drain(body.topic)})

    async def expire_tokens(self, request: web.Request) -> web.Response:
        """Refuse from now on every token that a client has shown so far; connections stay."""
        return _json({"expired": self._server.tokens.expire()})

    async def settings(self, request: web.Request) -> web.Response:
        """Switch faults on and off; answers with all of them."""
        changes = await _read(request, dict[str, Any]) if request.method == "POST" else {}
        try:
            self._server.faults.change(changes)
        except msgspec.ValidationError as exc:
            raise web.HTTPBadRequest(text=str(exc)) from exc
        return _json(self._server.faults)

    async def ledger(self, request: web.Request) -> web.Response:
        """Say what was sent on each topic."""
        return _json(self._server.ledger.snapshot())

    async def reset(self, request: web.Request) -> web.Response:
        """Switch all faults off and forget the ledger; connections stay."""
        self._server.faults.reset()
        self._server.ledger.reset()
        return _json({"reset": True})


def control_routes(server: "MockServer") -> Iterable[web.RouteDef]:
    """Return the routes of the control API."""
    api = ControlApi(server)
    return (
        web.get("/control/clients", _guarded(api.clients)),
        web.post("/control/publish", _guarded(api.publish)),
        web.post("/control/flood", _guarded(api.flood)),
        web.post("/control/pace", _guarded(api.pace)),
        web.post("/control/kick", _guarded(api.kick)),
        web.post("/control/disconnect", _guarded(api.disconnect)),
        web.post("/control/drain", _guarded(api.drain)),
        web.post("/control/expire_tokens", _guarded(api.expire_tokens)),
        web.get("/control/settings", _guarded(api.settings)),
        web.post("/control/settings", _guarded(api.settings)),
        web.get("/control/ledger", _guarded(api.ledger)),
        web.post("/control/reset", _guarded(api.reset)),
    )


def _guarded(handler: _Handler) -> _Handler:
    """Answer a bad request in JSON."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPBadRequest as exc:
            return _json({"error": exc.text}, status=400)
        except (SizeTooSmall, Unencodable) as exc:
            return _json({"error": str(exc)}, status=400)

    return guarded


async def _read(request: web.Request, kind: type[_Request]) -> _Request:
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except msgspec.MsgspecError as exc:
        raise web.HTTPBadRequest(text=str(exc)) from exc


def _require_topics(topics: list[str]) -> None:
    if not topics or len(set(topics)) != len(topics):
        raise web.HTTPBadRequest(text="give at least one topic, and each only once")


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
