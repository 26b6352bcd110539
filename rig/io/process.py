"""
An io process: one socket, kept alive through anything, and its rings to all workers.

It never imports the user's application. It ignores SIGINT and SIGTERM: the supervisor tells it to drain and to stop, and
the end of the control stream is the supervisor's death.
"""

import asyncio
import random
import socket
from functools import partial
from pathlib import Path

import structlog

from rig import log as rig_log
from rig.app import State
from rig.child import attach, collect_garbage, settle_garbage_collector
from rig.config import Settings
from rig.connection import Connection, Dial, make_socket
from rig.control import (
    AuthenticationGivenUp,
    Control,
    Drain,
    Drained,
    DumpFlight,
    Failed,
    FlightDumped,
    IoSpec,
    ListTopics,
    Ready,
    Rotate,
    Stop,
)
from rig.counters import IO_COUNTERS, IO_HISTOGRAMS, Page
from rig.dialling import Dialler
from rig.errors import RigError, StoreFailed
from rig.flight import Flight, FlightLog
from rig.gap import Gap
from rig.io.answers import endpoints, rotated, topics
from rig.io.auth_failure import AuthFailure
from rig.io.database import Database
from rig.io.dispatch import Dispatch
from rig.io.ending import send_and_leave
from rig.io.keeper import Keeper
from rig.io.outlet import Outlet
from rig.io.overflow import Overflow
from rig.io.owner import Owner
from rig.io.relay import Relay
from rig.io.report import Reporter
from rig.io.resume import Resume
from rig.io.router import Router
from rig.io.saving import StoredCursors
from rig.io.spiller import Spiller
from rig.io.storing import Inlet
from rig.io.uplink import OnEvents, Uplink
from rig.marks import Marks
from rig.phoenix import events
from rig.records import Kind, encode_gap, encode_state
from rig.renewal import Renewal
from rig.store import StateDirectory

_ALONE = 5.0
"""Seconds that the end has without a supervisor."""
_OF_THE_TIME = 0.9
"""What of the time that there is for the end it waits for the server."""
_STORING = 0.9
"""Seconds that there are for storing, however little there is for the server."""

log = structlog.get_logger()


async def serve(sock: socket.socket) -> None:
    """Run the io process as the first line on the control socket says."""
    control = await Control.open(sock, child=True)
    spec = await control.receive()
    if isinstance(spec, IoSpec):
        settings = spec.settings
        rig_log.configure(settings.log_level, settings.log_format, process=spec.name)
        try:
            await IoProcess(spec, control).run()
        except RigError as exc:
            control.send(Failed(str(exc), exc.exit_code))
    await control.flush()
    control.close()


class IoProcess:
    """Everything that an io process holds."""

    def __init__(self, spec: IoSpec, control: Control) -> None:
        """
        Put the parts together.

        Raises:
            ConfigError: If the settings of the connection cannot be used.
        """
        settings = spec.settings
        self._spec, self._control = spec, control
        self._page = Page(spec.counters, IO_COUNTERS, IO_HISTOGRAMS)
        self._has_cursors = any(route.cursor for route in spec.routes)
        directory = StateDirectory(Path(settings.state_dir or "."))
        self._database = Database(directory.database, settings.store_sync)
        self._make_connection(settings, directory)
        self._make_outlets(settings, directory)
        self._make_inlets()

    def _make_connection(self, settings: Settings, directory: StateDirectory) -> None:
        """Make what talks to the server, and what looks at how that goes."""
        self._flight = Flight(settings.flight_frames, vsn=settings.vsn)
        self._flight_log = FlightLog(self._flight, directory.flights, process=self._spec.name)
        self._dialler = Dialler.of(settings)
        connection = self._connection = Uplink(
            self._dialler,
            self._open_connection,
            self._on_events,
            on_moved=self._moved,
            failback_interval=settings.failback_interval,
            random=random.random,
        )
        renewal = self._renewal = Renewal(connection, connection.replace)
        self._auth_failure = AuthFailure(
            settings.auth_failure,
            renewing=lambda: renewal.asking or connection.replacing or not connection.open,
            give_up=lambda reason: self._control.send(AuthenticationGivenUp(reason)),
        )
        self._reporter = Reporter(
            connection.endpoint,
            len(self._spec.joins),
            page=self._page,
            say=self._control.send,
            tell_workers=self._tell_workers,
            fallback=lambda: connection.fallback,
            name=self._spec.name,
        )

    def _make_outlets(self, settings: Settings, directory: StateDirectory) -> None:
        """Make the way of events to the workers."""
        spec, page = self._spec, self._page
        rings = [attach(rings.events) for rings in spec.rings]
        resume = self._resume = Resume(
            Marks.attach(spec.marks),
            [memory for memory, _ in rings],
            page=page,
            tell=self._tell_gap,
            cursor_field=settings.cursor_field,
            resumed_field=settings.resumed_field,
            store=StoredCursors(self._database) if self._has_cursors else None,
        )
        self._outlets = [Outlet(memory, bell) for memory, bell in rings]
        self._router = Router(spec.routes, len(self._outlets), overflow=settings.overflow, tracks=resume.track)
        self._spiller = Spiller(
            self._outlets,
            self._router,
            page=page,
            path=directory.spill,
            owner=Owner(spec.run, spec.index, settings.io_processes),
        )
        self._overflow = Overflow(
            self._outlets,
            self._spiller,
            page=page,
            pause=self._connection.pause_reading,
            resume=self._connection.resume_reading,
            pause_limit=settings.pause_limit,
        )
        self._dispatch = Dispatch(self._router, self._outlets, self._overflow, page=page)

    def _make_inlets(self) -> None:
        """Make the way of pushes, and of what is to be stored, from the workers."""
        spec, page, connection = self._spec, self._page, self._connection
        self._relays = [
            Relay(
                attach(rings.pushes),
                attach(rings.replies),
                page=page,
                send=connection.push,
                unsent_bytes=lambda: connection.write_buffer_bytes,
            )
            for rings in spec.rings
        ]
        inlets = [Inlet(*attach(rings.storage), answer=relay.answer) for rings, relay in zip(spec.rings, self._relays, strict=True)]
        self._keeper = Keeper(
            spec,
            inlets,
            page=page,
            connection=connection,
            dialler=self._dialler,
            router=self._router,
            dispatch=self._dispatch,
            database=self._database,
            trouble=self._store_in_trouble,
        )

    async def run(self) -> None:
        """Keep the connection until told to stop, or until the supervisor is gone."""
        self._reporter.tell()
        await self._resume.load()
        # First: what it finds is not committed, and cursors wait for that.
        await self._spiller.start(self._overflow.look, partial(self._resume.note_left, self._router) if self._has_cursors else None)
        self._resume.take_over(self._router, self._outlets)
        for topic, payload in self._spec.joins.items():
            with_cursor = self._resume.join_payload(topic, payload, has_cursor=self._router.has_cursor(topic))
            self._connection.join(topic, self._dialler.join_payload(with_cursor))
        self._connection.start()
        for relay in self._relays:
            relay.start()
        self._keeper.start()
        settle_garbage_collector()
        self._control.send(Ready())
        await self._end(await self._obey())

    async def _end(self, within: float) -> None:
        """Keep what is left for the next run, send what was pushed, and leave. The disk does not wait for the server."""
        deadline = asyncio.get_running_loop().time() + within * _OF_THE_TIME
        self._dispatch.stop()
        self._keeper.drain()
        self._overflow.close()
        await asyncio.gather(self._spiller.close(), self._resume.close(), self._send_and_leave(deadline))
        await self._close_database()
        await self._dialler.close()
        await self._flight_log.close()

    async def _send_and_leave(self, deadline: float) -> None:
        await self._keeper.close(max((deadline - asyncio.get_running_loop().time()) / 2, _STORING))
        await self._renewal.close()
        await send_and_leave(self._relays, self._connection, self._page, deadline)

    def _store_in_trouble(self, reason: str) -> None:
        if reason:
            self._reporter.impair("store", reason)
        else:
            self._reporter.mend("store")

    async def _close_database(self) -> None:
        try:
            await self._database.close()
        except StoreFailed as exc:
            log.error("the store could not be closed", reason=str(exc))

    def _tell_gap(self, gap: Gap) -> None:
        if self._spec.gaps:
            self._dispatch.announce(gap.topic, encode_gap(gap), Kind.GAP)

    def _open_connection(self, dial: Dial, on_events: OnEvents) -> Connection:
        """Make a connection with a core of its own; during a hand-over there are two."""
        return Connection(make_socket(self._spec.settings, rejoin_stopped=True), dial, on_events, flight=self._flight)

    async def _obey(self) -> float:
        """Return when there is nothing more to do, with the seconds that there are for the end."""
        within = _ALONE
        draining: asyncio.Task[None] | None = None
        async for message in self._control.messages():
            match message:
                case Drain():
                    self._reporter.draining()
                    self._keeper.drain()
                    draining = asyncio.create_task(self._drain(), name="drain")
                case Rotate(request=request):
                    self._rotate(request)
                case ListTopics(request=request):
                    self._control.send(topics(request, self._connection))
                case DumpFlight(request=request):
                    await self._dump_flight(request)
                case Stop(within=within):
                    break
                case _:
                    log.error("unexpected message on the control socket", message=type(message).__name__)
        if draining is not None:
            draining.cancel()
        return within

    async def _drain(self) -> None:
        await self._dispatch.drain()
        self._control.send(Drained())

    def _rotate(self, request: int) -> None:
        handover = self._connection.rotate("it was asked for")
        handover.add_done_callback(lambda result: self._control.send(rotated(request, result)))

    def _moved(self) -> None:
        self._reporter.url = self._connection.endpoint
        if self._connection.open:
            self._reporter.weigh_transport()
        self._control.send(endpoints(self._connection))

    def _on_events(self, received: list[events.Event]) -> None:
        for event in received:
            match event:
                case events.MessagesReceived(messages=messages, binary=binary):
                    self._dispatch.dispatch(messages, binary=binary)
                    if self._has_cursors:
                        self._resume.dispatched()
                case events.ReplyReceived() | events.PushTimedOut() | events.PushInterrupted() | events.PushRejected():
                    for relay in self._relays:
                        if relay.owns(event.push):
                            relay.resolve(event)
                            break
                    else:
                        self._keeper.resolve(event)
                case _:
                    self._note(event)
        for relay in self._relays:
            relay.flush()
        self._reporter.tell()

    def _note(self, event: events.Event) -> None:
        self._flight.note(event)
        self._reporter.report(event)
        self._renewal.note(event)
        self._keeper.note(event)
        self._resume.note(event)
        self._auth_failure.note(event)
        if isinstance(event, events.SocketClosed):
            self._flight_log.lost(event)
            asyncio.get_running_loop().call_soon(collect_garbage)  # behind the turn, which still holds the connection

    def _tell_workers(self, state: State) -> None:
        self._flight.note({"what": "state", "state": state.state, "reason": state.reason})
        payload = encode_state(state)
        for relay in self._relays:
            relay.tell_state(payload)

    async def _dump_flight(self, request: int) -> None:
        try:
            path = await self._flight_log.dump("asked")
        except OSError as exc:
            self._control.send(FlightDumped(request, "", str(exc)))
        else:
            self._control.send(FlightDumped(request, str(path), ""))
