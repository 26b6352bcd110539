"""
The control API: JSON over HTTP under `/control`, for tests, benchmarks and people.

`GET /control` lists what there is. A request that cannot be understood is answered with 400 and `{"error": …}`.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from mock_server.describe import describe_join
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


class Freeze(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /control/freeze` takes: one client, or nothing for all that are connected."""

    client: str | None = None


class ForgetHistory(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /control/forget_history` takes: a topic, or nothing for all."""

    topic: str | None = None


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

    async def received(self, request: web.Request) -> web.Response:
        """Say for each topic of ledger:* how many pushes came, and how many were lost, doubled, reordered or refused."""
        return _json(self._server.received.snapshot())

    async def joins(self, request: web.Request) -> web.Response:
        """List the last joins: when (monotonic seconds), by whom, of which topic, with what; secrets masked."""
        return _json([describe_join(join) for join in self._server.joins.of()])

    async def history(self, request: web.Request) -> web.Response:
        """Say for each topic of history:* its newest id, and how many events are kept."""
        return _json(self._server.history.snapshot())

    async def forget_history(self, request: web.Request) -> web.Response:
        """Drop the kept events of a topic, or of all, so that nobody can resume; ids go on."""
        body = await _read(request, ForgetHistory)
        return _json({"forgotten": self._server.history.forget(body.topic)})

    async def freeze(self, request: web.Request) -> web.Response:
        """Neither send nor read on one connection, or on all that there are, as on a dead link."""
        body = await _read(request, Freeze)
        return _json({"frozen": self._server.freeze(body.client)})

    async def thaw(self, request: web.Request) -> web.Response:
        """Let frozen connections go on."""
        return _json({"thawed": self._server.thaw()})

    def table(self) -> list[tuple[str, str, _Handler]]:
        """Return method, path and handler of everything that is understood."""
        return [
            ("GET", "", self.index),
            ("GET", "/clients", self.clients),
            ("POST", "/publish", self.publish),
            ("POST", "/flood", self.flood),
            ("POST", "/pace", self.pace),
            ("POST", "/kick", self.kick),
            ("POST", "/disconnect", self.disconnect),
            ("POST", "/drain", self.drain),
            ("POST", "/freeze", self.freeze),
            ("POST", "/thaw", self.thaw),
            ("POST", "/expire_tokens", self.expire_tokens),
            ("GET", "/settings", self.settings),
            ("POST", "/settings", self.settings),
            ("GET", "/ledger", self.ledger),
            ("GET", "/received", self.received),
            ("GET", "/joins", self.joins),
            ("GET", "/history", self.history),
            ("POST", "/forget_history", self.forget_history),
            ("POST", "/reset", self.reset),
        ]

    async def index(self, request: web.Request) -> web.Response:
        """List the requests that are understood."""
        return _json({f"{method} /control{path}": handler.__doc__ for method, path, handler in self.table()})

    async def reset(self, request: web.Request) -> web.Response:
        """Switch all faults off, thaw, and forget ledger, received pushes and joins; connections and history stay."""
        server = self._server
        server.faults.reset()
        server.thaw()
        for record in (server.ledger, server.received, server.joins):
            record.reset()
        return _json({"reset": True})


def control_routes(server: "MockServer") -> Iterable[web.RouteDef]:
    """Return the routes of the control API."""
    table = ControlApi(server).table()
    return [web.route(method, f"/control{path}", _guarded(handler)) for method, path, handler in table]


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
