"""
The parent process: makes the shared memory, starts and watches the children, drains them in order at the end.

It runs no user code and speaks no protocol.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from rig.admin.run import Run
from rig.config import Settings
from rig.control import (
    AuthenticationGivenUp,
    Drain,
    Drained,
    Failed,
    FromChild,
    Stacks,
    State,
    Stop,
)
from rig.counters import Page, enter_state
from rig.errors import AppError, AuthenticationFailed, RigError
from rig.store import StateDirectory
from rig.supervisor.care import Care
from rig.supervisor.child import Child, Died
from rig.supervisor.children import make_ios, make_workers
from rig.supervisor.description import describe
from rig.supervisor.memory import SharedMemory
from rig.supervisor.mock import BundledMock
from rig.supervisor.operations import Operations
from rig.supervisor.state import claimed
from rig.supervisor.status import Status, overall
from rig.supervisor.status_lines import summarise, tell_status
from rig.supervisor.store import count_waiting, insist_usable
from rig.worker.describe import Description

_LEAVING = 10.0
"""Seconds of --graceful-timeout, at most, that are kept for the io processes to store what is left, to send and to leave."""
_LEAVING_SHARE = 5
"""What part of it is kept, of a long one."""
_STORING = 2.0
"""Seconds that they have to store what is left, however short it is, up to half of it."""
_ADMIN_WAITS = 2.0
"""Seconds that the admin API leaves the children to start in peace."""
_FORCED = 130
_STARTING = State("connecting", "starting", 0)

T = TypeVar("T")

log = structlog.get_logger()


class Supervisor:
    """One run of `rig run`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers: list[Child] = []
        self._ios: list[Child] = []
        self._io_pages: list[Page] = []
        self._states: dict[str, State] = {}
        self._care: Care | None = None
        self._undrained: set[str] = set()
        self._stopping = asyncio.Event()
        self._drained = asyncio.Event()
        self._forced = False
        self._refused: str | None = None
        self._operations: Operations | None = None

    @property
    def state(self) -> State:
        """Where the connections stand."""
        return overall(self._states) if self._states else _STARTING

    async def run(self) -> int:
        """
        Run until a signal, and return the exit code.

        Raises:
            AppError: If the application, or the bundled mock server, cannot be started, or the state directory, or the store in it,
                not be used.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        mock: BundledMock | None = None
        try:
            description = await self._unless_stopped(describe(self._settings))
            if description is not None and not self._settings.url:
                mock = await self._unless_stopped(BundledMock.start(self._settings))
            if description is None or self._stopping.is_set():
                log.info("ended before it had started")
                return 0
            if mock:
                log.info("no --url: the bundled mock server plays the Max platform", url=mock.url)
            with claimed(self._settings, description.name) as directory:
                await insist_usable(directory, self._settings.store_sync)
                url = (mock.url,) if mock else self._settings.url
                self._settings = msgspec.structs.replace(self._settings, url=url, state_dir=str(directory.path))
                memory = _make_memory(self._settings, len(description.joins))
                try:
                    return await self._run(description, memory, directory)
                finally:
                    memory.close()
        finally:
            if mock:
                await mock.stop()

    async def _unless_stopped(self, step: Coroutine[Any, Any, T]) -> T | None:
        """Take a step of the start-up; None if a signal ended it: the import of an application can take for ever."""
        task, stopping = asyncio.create_task(step), asyncio.create_task(self._stopping.wait())
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def _run(self, description: Description, memory: SharedMemory, directory: StateDirectory) -> int:
        status = Status(memory)
        self._make_children(description, memory)
        children = [*self._workers, *self._ios]
        operations = self._operations = Operations(
            description.name,
            self._ios,
            self._workers,
            memory,
            state=lambda: self.state,
        )
        log.info("starting", app=description.name, workers=len(self._workers), handlers=len(description.routes))
        keepers = {child: asyncio.create_task(child.keep(), name=child.name) for child in children}
        ticker = asyncio.create_task(tell_status(status, lambda: self.state, self._settings.status_interval))
        self._care = Care(list(zip(self._workers, memory.workers, strict=True)), self._settings, directory.stalls)
        caring = asyncio.create_task(self._care.run())
        admin = asyncio.create_task(_serve_admin(operations, children, directory.path))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopping, *keepers.values()], return_when=asyncio.FIRST_COMPLETED)
        complete = not self._failed(children) and await self._drain(keepers)
        for child in children:
            child.kill()
        await asyncio.wait(keepers.values())
        caring.cancel()
        await asyncio.wait([caring])
        ticker.cancel()
        stopping.cancel()
        admin.cancel()
        await asyncio.wait([admin])
        for failed in self._failed(children):
            raise _as_error(failed)
        await self._summarise(status, directory)
        if self._refused is not None and not self._forced:
            raise AuthenticationFailed(self._refused)
        return 0 if complete else _FORCED if self._forced else 1

    async def _summarise(self, status: Status, directory: StateDirectory) -> None:
        """Say what became of the run; after a second signal without a look into the store, which might take its time."""
        waiting = None if self._forced else await count_waiting(directory, self._settings.store_sync)
        summarise(status, recycled=sum(worker.recycled for worker in self._workers), waiting=waiting)

    @staticmethod
    def _failed(children: list[Child]) -> list[Failed]:
        return [child.failed for child in children if child.failed is not None and not child.was_ready]

    def _make_children(self, description: Description, memory: SharedMemory) -> None:
        self._workers = make_workers(self._settings, memory, self._heard)
        self._ios = make_ios(self._settings, description, memory, self._heard)
        self._io_pages = memory.io_pages
        self._states = {child.name: _STARTING for child in self._ios}
        self._undrained = set(self._states)

    async def _drain(self, keepers: dict[Child, "asyncio.Task[None]"]) -> bool:
        """Stop taking events, finish those in the rings, leave; return False if that was cut short."""
        log.info("draining: handlers finish what was received; a second signal ends it now")
        complete, loop = True, asyncio.get_running_loop()
        deadline = loop.time() + self._settings.graceful_timeout
        try:
            async with asyncio.timeout_at(deadline - _time_to_leave(self._settings.graceful_timeout)):
                for io in self._ios:
                    io.tell(Drain())
                await self._drained.wait()
                for worker in self._workers:
                    worker.tell(Drain())
                await asyncio.wait([keepers[worker] for worker in self._workers])
        except TimeoutError:
            log.error("not everything was finished within --graceful-timeout", seconds=self._settings.graceful_timeout)
            complete = False
            for worker in self._workers:
                worker.kill()
        left = max(deadline - loop.time(), 0.0)
        for io in self._ios:  # which store what is left, so that the next run finds it
            io.tell(Stop(left))
        await asyncio.wait([keepers[io] for io in self._ios], timeout=max(left, _STORING))
        for io in self._ios:
            if not keepers[io].done():
                log.error("process did not end in time, and is killed: what it had not stored is lost", name=io.name)
                complete = False
        return complete and not self._forced

    def _heard(self, child: Child, message: FromChild | Died) -> None:
        self._note(message, child)
        if self._operations is None:
            return
        self._operations.heard(child, message)
        if isinstance(message, Died) and child in self._ios:
            self._operations.heard(child, self._states[child.name])

    def _note(self, message: FromChild | Died, child: Child) -> None:
        match message:
            case State():
                self._states[child.name] = message
            case Died() if child in self._ios:
                self._io_died(child, str(message))
            case Stacks() if self._care is not None:
                self._care.heard(child, message)
            case Drained():
                self._undrained.discard(child.name)
                if not self._undrained:
                    self._drained.set()
            case AuthenticationGivenUp(reason=reason):
                self._refused = self._refused or reason
                self._stopping.set()
            case Failed(reason=reason):
                if child.was_ready:
                    log.error("process cannot start", name=child.name, reason=reason)
            case _:
                pass

    def _io_died(self, child: Child, how: str) -> None:
        """Say where its connection stands, which nobody else can say now."""
        page = self._io_pages[self._ios.index(child)]
        for gauge in ("connected", "joined"):
            page.set(gauge, 0)
        enter_state(page, "connecting", time.monotonic_ns())
        known = self._states[child.name].disconnects
        self._states[child.name] = State("connecting", how, 0, time.time(), known)

    def _signalled(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            return
        log.warning("second signal: ending now")
        self._forced = True
        self._drained.set()
        for child in [*self._workers, *self._ios]:
            child.kill()


async def _serve_admin(operations: Operations, children: list[Child], directory: Path) -> None:
    """Serve the admin API once the children run: it brings an HTTP library, which must not slow the start."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ADMIN_WAITS):
            for child in children:
                await child.ready.wait()
    serve = await asyncio.to_thread(_import_admin)
    await serve(operations, directory)


def _import_admin() -> Callable[[Run, Path], Coroutine[Any, Any, None]]:
    from rig.admin.server import serve

    return serve


def _time_to_leave(graceful_timeout: float) -> float:
    """Return how much of it is kept for the io processes; handlers that end early leave them more."""
    return min(_LEAVING, max(graceful_timeout / _LEAVING_SHARE, _STORING), graceful_timeout / 2)


def _make_memory(settings: Settings, topics: int) -> SharedMemory:
    try:
        return SharedMemory(settings, settings.resolve_workers(), topics=topics)
    except OSError as exc:
        raise AppError(
            f"there is no room for the shared memory ({exc}): take fewer --workers or --io-processes, or smaller --ring-bytes"
        ) from exc


def _as_error(failed: Failed) -> RigError:
    error = RigError(failed.reason)
    error.exit_code = failed.exit_code  # type: ignore[misc]
    return error
