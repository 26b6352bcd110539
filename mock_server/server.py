"""
The server: one port for HTTP and WebSocket, a control API beside it, scenarios on top.

    async with MockServer(scenario="max") as server:
        ... connect to server.url ...
        server.publish("room:lobby", "news", {"n": 1})
"""

import asyncio
import contextlib
import logging
import ssl
from typing import Any, Self

from aiohttp import web

from mock_server.answers import answer_refusals, set_headers
from mock_server.behaviour import Behaviour
from mock_server.connection import Connection
from mock_server.control import control_routes
from mock_server.describe import describe
from mock_server.faults import Faults
from mock_server.history import History, HistoryChannel
from mock_server.hub import Hub
from mock_server.joins import Joins
from mock_server.ledger import Ledger
from mock_server.ledger_channel import LedgerChannel
from mock_server.longpoll import Sessions
from mock_server.longpoll_endpoint import LongPollEndpoint
from mock_server.mount import MOUNTS
from mock_server.presence import Presence
from mock_server.received import Received
from mock_server.reference import ROUTES
from mock_server.reference_http import reference_routes
from mock_server.scenarios import Scenario, load_scenario
from mock_server.socket import Environment, Socket
from mock_server.tokens import Tokens
from mock_server.websocket_endpoint import WebSocketEndpoint

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 2.0
_POLL_SECONDS = 15.0
_PROOFS = (("ledger:*", LedgerChannel), ("history:*", HistoryChannel))


class MockServer:
    """
    A mock Phoenix server on the running loop.

    Args:
        host: The address to listen on.
        port: 0 picks a free one.
        control_port: A port for the control API of its own; None mounts it on the main port. 0 picks a free one.
        scenario: The application on top of the reference application, such as "max".
        rate: Live updates per second of the scenario, over all topics.
        phoenix: The version to behave like.
        strict_join_ref: Drop pushes with a null join_ref, as 1.8.3 to 1.8.11 do.
        ssl_context: Serve TLS.
        time_scale: Factor on every time-out and wait of the server, to make tests of seconds take less.
        history: Of the topics `history:*`; hand over that of another server to go on where it ended. It is read and written by
            the server that runs.
        received: What was pushed to `ledger:*`; likewise.

    Raises:
        UnknownPhoenixVersion: If `phoenix` is not a version.
        UnknownScenario: If there is no such scenario.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        control_port: int | None = None,
        scenario: str = "reference",
        rate: float = 50.0,
        phoenix: str = "1.8.12",
        strict_join_ref: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        time_scale: float = 1.0,
        history: History | None = None,
        received: Received | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.behaviour = Behaviour.of(phoenix, strict_join_ref=strict_join_ref)
        self.faults = Faults()
        self.ledger = Ledger()
        self.history = History() if history is None else history
        self.received = Received() if received is None else received
        self.joins = Joins()
        self.tokens = Tokens()
        self.sockets: dict[Connection, Socket] = {}
        self._sessions = Sessions()
        self._control_port = control_port
        self._scenario_class = load_scenario(scenario)
        self._rate = rate
        self._ssl_context = ssl_context
        self._time_scale = time_scale
        self._runners: list[web.AppRunner] = []
        self._frozen: list[Connection] = []
        self._scenario: Scenario | None = None
        self.hub: Hub

    # starting and stopping

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """
        Listen, and start the scenario.

        Raises:
            OSError: If a port is taken or the address cannot be bound, or the file of the history be used.
        """
        self.history.open()
        self.hub = Hub(self.ledger, self.history)
        self._scenario = self._scenario_class(self.hub, self._rate)
        environment = Environment(
            behaviour=self.behaviour,
            hub=self.hub,
            faults=self.faults,
            tokens=self.tokens,
            joins=self.joins,
            routes=(*self._scenario.routes, *ROUTES, *_PROOFS),
            services={
                Presence: Presence(self.hub),
                History: self.history,
                Received: self.received,
                type(self._scenario): self._scenario,
            },
            time_scale=self._time_scale,
        )
        main = self._main_app(environment)
        try:
            if self._control_port is None:
                main.router.add_routes(control_routes(self))
            else:
                control = web.Application()
                control.router.add_routes(control_routes(self))
                self._control_port = await self._listen(control, self._control_port, None)
            self.port = await self._listen(main, self.port, self._ssl_context)
        except OSError:
            await self._cleanup()
            raise
        self._scenario.start()

    def _main_app(self, environment: Environment) -> web.Application:
        app = web.Application(middlewares=[answer_refusals])
        app.on_response_prepare.append(set_headers)
        for mount in MOUNTS:
            websocket = WebSocketEndpoint(mount, environment, on_open=self._opened, on_close=self._closed)
            app.router.add_route("*", mount.path + mount.websocket_path, websocket.handle)
            longpoll = LongPollEndpoint(mount, environment, self._sessions, on_open=self._opened, on_close=self._closed)
            app.router.add_route("*", mount.path + mount.longpoll_path, longpoll.handle)
        app.router.add_routes(reference_routes(self))
        return app

    async def _listen(self, app: web.Application, port: int, ssl_context: ssl.SSLContext | None) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, self.host, port, ssl_context=ssl_context).start()
        bound: int = runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """
        Stop as a Phoenix that is told to: drain the joined, answer what was asked, then close the rest with 1000.

        A poll that waits holds this up until its window ends, unless its client has gone. Frozen connections end without a word.
        """
        self._end_frozen()
        if self._scenario is not None:
            await self._scenario.stop()
        self.drain()
        for runner in self._runners:
            for site in list(runner.sites):
                await site.stop()
        await self._sessions.answered(_POLL_SECONDS * self._time_scale)
        await self._sessions.abandon(_CLOSE_SECONDS)
        lost = [connection.lost for connection in self.sockets]
        for socket in list(self.sockets.values()):
            socket.disconnect(1000)
        if lost:
            await asyncio.wait(lost, timeout=_CLOSE_SECONDS)
        for connection in list(self.sockets):
            connection.drop()
        await self._cleanup()

    async def crash(self) -> None:
        """Stop as a Phoenix that is killed: every connection ends without a word, and nothing is said to anybody."""
        if self._scenario is not None:
            await self._scenario.stop()
        self._end_frozen()
        lost = [connection.lost for connection in self.sockets]
        for connection in list(self.sockets):
            connection.drop()
        if lost:
            await asyncio.wait(lost, timeout=_CLOSE_SECONDS)
        await self._cleanup()

    def _end_frozen(self) -> None:
        for connection in self._frozen:
            connection.drop()
        self.thaw()

    async def _cleanup(self) -> None:
        self.history.close()
        while self._runners:
            with contextlib.suppress(OSError):
                await self._runners.pop().cleanup()

    def _opened(self, socket: Socket) -> None:
        self.sockets[socket.connection] = socket
        logger.debug("client connected connection=%s mount=%s", socket.connection.id, socket.identity.mount.path)

    def _closed(self, connection: Connection) -> None:
        socket = self.sockets.pop(connection, None)
        if socket is not None:
            socket.connection_lost()
            logger.debug("client gone connection=%s", connection.id)

    # what a user asks of it

    @property
    def url(self) -> str:
        """The socket's URL, to which clients add `/websocket`."""
        return f"{'wss' if self._ssl_context else 'ws'}://{self._url_host}:{self.port}/socket"

    @property
    def http_url(self) -> str:
        """The root of the HTTP routes."""
        return f"{'https' if self._ssl_context else 'http'}://{self._url_host}:{self.port}"

    @property
    def control_url(self) -> str:
        """The root of the control API."""
        if self._control_port is None:
            return f"{self.http_url}/control"
        return f"http://{self._url_host}:{self._control_port}/control"

    @property
    def _url_host(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"[{host}]" if ":" in host else host

    @property
    def clients(self) -> list[dict[str, Any]]:
        """The connected clients, oldest first."""
        return [describe(socket) for socket in self.sockets.values()]

    def publish(self, topic: str, event: str, payload: Any) -> int:
        """
        Broadcast to every subscriber of a topic; returns to how many.

        Raises:
            Unencodable: If the payload is not an object.
        """
        return self.hub.broadcast(topic, event, payload)

    def disconnect(self, socket_id: str) -> int:
        """Close the sockets with this id, as an `Endpoint.broadcast(id, "disconnect", …)` does; returns how many."""
        return self.close_where(self.behaviour.disconnect_code, socket_id=socket_id)

    def close_where(self, code: int, *, client: str | None = None, socket_id: str | None = None, topic: str | None = None) -> int:
        """
        Close the connections that fit every condition given.

        Args:
            code: The close code; 0 drops the connection without a close frame.
            client: The connection's id.
            socket_id: The socket's id, such as `user:1`.
            topic: A topic it has joined.
        """
        chosen = [
            socket
            for socket in self.sockets.values()
            if client in (None, socket.connection.id)
            and socket_id in (None, socket.identity.socket_id)
            and (topic is None or any(channel.topic == topic for channel in socket.channels))
        ]
        for socket in chosen:
            if code:
                socket.disconnect(code)
            else:
                socket.connection.drop()
        return len(chosen)

    def drain(self, topic: str | None = None) -> int:
        """Close the connections that have joined a topic, or any, with 1012, as a Phoenix that shuts down; returns how many."""
        joined = [socket for socket in self.sockets.values() if any(topic in (None, channel.topic) for channel in socket.channels)]
        for socket in joined:
            socket.disconnect(1012)
        return len(joined)

    def freeze(self, client: str | None = None) -> int:
        """Neither send nor read on the connections that there are, or on one, as on a dead link; returns how many."""
        chosen = [connection for connection in self.sockets if client in (None, connection.id)]
        for connection in chosen:
            connection.freeze()
        self._frozen += [connection for connection in chosen if connection not in self._frozen]
        return len(chosen)

    def thaw(self) -> int:
        """Let frozen connections go on; returns how many."""
        frozen, self._frozen = self._frozen, []
        for connection in frozen:
            connection.thaw()
        return len(frozen)

    def kill_channels(self, topic: str) -> int:
        """Crash every channel of a topic; returns how many."""
        channels = self.hub.subscribers(topic)
        for channel in channels:
            channel.end("killed")
        return len(channels)
