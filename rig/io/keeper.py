"""
The io process's hold on the store: opened as soon as it can be, and looked at for what others write.

What must stay true: a store that fails takes no live event down. Without one durable pushes are refused, dead letters wait in their
rings, and it is tried again.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import structlog

from rig.config import Settings
from rig.control import IoSpec
from rig.counters import Page
from rig.dialling import Dialler
from rig.errors import RigError, StoreFailed
from rig.io import vital
from rig.io.database import Database
from rig.io.dispatch import Dispatch
from rig.io.redelivery import Redelivery
from rig.io.router import Router
from rig.io.sender import Sender
from rig.io.storing import Inlet, Storing
from rig.io.stream import Terms
from rig.io.uplink import Uplink
from rig.log import Throttle
from rig.phoenix import events
from rig.routing import rendezvous
from rig.store import DeadLetters, Outbox, Store

_OPEN_AGAIN = 2.0
"""Seconds after which a store that could not be opened is tried again."""
_LOOK = 0.5
"""Seconds between two looks at what others have written."""
_REPORT_INTERVAL = 30.0
"""Seconds between two lines about the same fault."""
_STEPS = 3
"""Of the end: what the workers wanted stored, the server's last answers, and what became of what was sent."""
_REMEMBERED = 100_000
"""Topics of which it is remembered whose they are."""

log = structlog.get_logger()


class Keeper:
    """Everything of an io process that works with the store."""

    def __init__(
        self,
        spec: IoSpec,
        inlets: Sequence[Inlet],
        *,
        page: Page,
        connection: Uplink,
        dialler: Dialler,
        router: Router,
        dispatch: Dispatch,
        database: Database,
        trouble: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """
        Put the parts together; nothing happens before `start`.

        Args:
            spec: Of the io process.
            inlets: The storage rings.
            page: The io process's counters.
            connection: Joins and pushes.
            dialler: Knows what goes into a join's payload.
            router: Knows which events are wanted.
            dispatch: Takes events that are to be tried again.
            database: Where all is stored.
            trouble: Called with the reason when the store begins to fail, and with nothing when it works again.
        """
        self._database, self._trouble, self._failure, self._probe_at = database, trouble, "", 0.0
        self._settings, self._page, self._router, self._dispatch = spec.settings, page, router, dispatch
        self._connection, self._dialler = connection, dialler
        index, processes = spec.index, spec.settings.io_processes
        self._owns = lru_cache(_REMEMBERED)(lambda topic: processes == 1 or rendezvous(topic, processes) == index)
        self._throttle = Throttle(_REPORT_INTERVAL)
        self._gaps = spec.gaps
        self._redelivery: Redelivery | None = None
        self._draining = False
        self._task: asyncio.Task[None] | None = None
        self._retrying: asyncio.Task[None] | None = None
        self._letters_changed = asyncio.Event()
        self._sender = Sender(
            _terms(spec.settings),
            page=page,
            wanted=spec.joins,
            owns=self._owns,
            send=connection.push,
            unsent_bytes=lambda: connection.write_buffer_bytes,
            deaf=lambda: connection.reading_paused,
            join=self._join,
            leave=self._leave,
        )
        self._storing = Storing(inlets, page=page, stored=self._sender.stored, health=self._note_health)

    def start(self) -> None:
        """Take what the workers want stored, open the store, and send what is in it."""
        self._storing.start()
        self._task = vital.start(self._keep(), "store")

    def resolve(self, event: events.PushEvent) -> None:
        """Note what became of a push that no worker waits for."""
        self._sender.resolve(event)

    def note(self, event: events.Event) -> None:
        """Note what happens to channels."""
        self._sender.note(event)

    def drain(self) -> None:
        """Try no more dead letters again."""
        self._draining = True
        if self._redelivery is not None:
            self._redelivery.stop()

    async def close(self, within: float = math.inf) -> None:
        """
        Store what is in the rings, and send nothing more. The connection is still open, and so is the database.

        Args:
            within: Seconds that there are for it.
        """
        await self._storing.close(within / _STEPS)
        tasks = [task for task in (self._task, self._retrying) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sender.close(within / _STEPS)

    async def _keep(self) -> None:
        store = await self._open()
        outbox, letters = Outbox(store, self._settings.outbox_max_bytes), DeadLetters(store)
        self._storing.use(outbox, letters)
        self._redelivery = Redelivery(
            letters, self._router, self._dispatch, owns=self._owns, largest=self._settings.ring_bytes // 8 - 1024, gaps=self._gaps
        )
        if self._draining:
            self._redelivery.stop()
        self._retrying = vital.start(self._redeliver(self._redelivery), "dead letters tried again")
        self._sender.use(outbox)
        changed = True
        while True:
            try:
                await self._sender.tend()
                changed = await store.changed_by_others() or changed
                await self._look(outbox, changed=changed)
                changed = False
                if self._failure and time.monotonic() >= self._probe_at:
                    self._probe_at = time.monotonic() + _OPEN_AGAIN
                    await store.probe()
                    self._note_health(None)
            except StoreFailed as exc:
                self._say("the store cannot be read, and is tried again", exc)
            await asyncio.sleep(_LOOK)

    async def _open(self) -> Store:
        while True:
            try:
                store = await self._database.store()
            except StoreFailed as exc:
                self._note_health(exc)
                self._storing.refuse(exc)
                self._say("there is no store: durable pushes are refused, dead letters wait", exc)
                await asyncio.sleep(_OPEN_AGAIN)
            else:
                self._note_health(None)
                return store

    def _note_health(self, failure: StoreFailed | None) -> None:
        """Say once that the store fails, and once that it works again."""
        reason = "" if failure is None else str(failure)
        if reason != self._failure:
            self._failure = reason
            self._trouble(reason)

    async def _redeliver(self, redelivery: Redelivery) -> None:
        """Have dead letters tried again, beside all else: each has to wait until its worker has room."""
        while True:
            await self._letters_changed.wait()
            self._letters_changed.clear()
            try:
                await redelivery.look()
            except StoreFailed as exc:
                self._say("dead letters cannot be read, which is tried again", exc)
                self._letters_changed.set()
                await asyncio.sleep(_OPEN_AGAIN)

    async def _look(self, outbox: Outbox, *, changed: bool) -> None:
        counts = await outbox.counts()
        self._page.set("outbox_rows", counts.rows)
        self._sender.size_pages(counts)
        if changed:
            self._letters_changed.set()
            await self._sender.look()
        if counts.rows:
            await self._sender.expire()

    def _join(self, topic: str) -> None:
        """Join a topic for its rows alone: what the server sends on it is for no handler."""
        payload = self._dialler.join_payload({})
        try:
            if callable(payload):
                payload()  # what it raises at a join of an open socket would come out at whoever turns it
        except RigError as exc:
            asyncio.get_running_loop().call_soon(self._sender.not_joined, topic, str(exc))
            return
        self._router.mute(topic)
        self._connection.join(topic, payload)

    def _leave(self, topic: str) -> None:
        self._connection.leave(topic)
        self._router.unmute(topic)

    def _say(self, message: str, exc: StoreFailed) -> None:
        self._throttle.say(log.error, message, time.monotonic(), reason=str(exc))


def _terms(settings: Settings) -> Terms:
    return Terms(settings.outbox_window, settings.push_timeout, settings.outbox_on_error, settings.outbox_retries)
