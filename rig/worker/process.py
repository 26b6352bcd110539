"""
A worker process: import the app, take the rings, handle events until told to end.

It ignores SIGINT and SIGTERM, which a terminal or a service manager sends to everyone: only the supervisor decides when
a worker ends, so that nothing in a ring is left behind. It dies with the supervisor.
"""

import asyncio
import gc
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import structlog

from rig import log as rig_log
from rig.app import App
from rig.control import Control, DeadLetter, Described, DescribeSpec, Drain, Failed, Ready, RingFds, WorkerSpec
from rig.counters import WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.errors import AppError, RigError
from rig.ring import Doorbell, RingMemory
from rig.worker.binding import Bindings, Call
from rig.worker.context import WorkerContext
from rig.worker.describe import describe, load_app
from rig.worker.lane import Lane
from rig.worker.loop import WorkerLoop

_REPORT_INTERVAL = 5.0
_DEAD_LETTERS_BACKLOG = 4 * 1024 * 1024
"""Bytes on their way to the supervisor beyond which a dead letter is only counted and logged."""
_GC_THRESHOLD = 200_000

log = structlog.get_logger()


async def serve(sock: socket.socket) -> None:
    """Run one worker, or describe an app, as the first line on the control socket says."""
    control = await Control.open(sock, child=True)
    spec = await control.receive()
    try:
        if isinstance(spec, DescribeSpec):
            settings = spec.settings
            found = describe(settings.target, settings.app_dir, settings.factory)
            control.send(Described(msgspec.Raw(msgspec.json.encode(found))))
        elif isinstance(spec, WorkerSpec):
            await Worker(spec, control).run()
    except RigError as exc:
        control.send(Failed(str(exc), exc.exit_code))
    await control.flush()
    control.close()


class Worker:
    """Everything that one worker process holds."""

    def __init__(self, spec: WorkerSpec, control: Control) -> None:
        settings = spec.settings
        self._spec, self._control, self._settings = spec, control, settings
        rig_log.configure(settings.log_level, settings.log_format, process=f"worker-{spec.index}")
        self._throttle = rig_log.Throttle(_REPORT_INTERVAL)
        self._page = Page(spec.counters, WORKER_COUNTERS, WORKER_HISTOGRAMS)
        self._loop: WorkerLoop | None = None

    async def run(self) -> None:
        """
        Handle events until the supervisor says `Drain` or is gone.

        Raises:
            AppError: If the application cannot be loaded, or its lifespan cannot be entered.
        """
        settings, rings = self._settings, self._spec.rings
        app = load_app(settings.target, app_dir=settings.app_dir, factory=settings.factory)
        async with AsyncExitStack() as stack:
            executor = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="handler")
            # A thread whose handler has timed out may run on: nobody waits for it.
            stack.callback(executor.shutdown, wait=False, cancel_futures=True)
            await _enter(stack, app, settings.target)
            context = WorkerContext(_attach(rings.pushes), _attach(rings.replies), page=self._page, timeout=settings.push_timeout)
            lanes = self._make_lanes(context)
            loop = self._loop = WorkerLoop(
                *_attach(rings.events), self._bindings(app, executor), lanes, page=self._page, give_up=self._give_up
            )
            tasks = [asyncio.create_task(lane.run(), name=f"lane-{index}") for index, lane in enumerate(lanes)]

            def lane_ended(task: "asyncio.Task[None]") -> None:
                for lane in lanes:  # the end of the process cancels the others, which they heed only once they are stopped
                    lane.stop()
                _fail_loudly(task)

            for task in tasks:
                task.add_done_callback(lane_ended)
            _settle_garbage_collector()
            context.start()
            loop.start()
            self._control.send(Ready())
            await self._obey(loop, context)
            loop.stop()
            context.stop()
            for lane, task in zip(lanes, tasks, strict=True):
                lane.stop()
                task.remove_done_callback(lane_ended)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _obey(self, loop: WorkerLoop, context: WorkerContext) -> None:
        """Return when there is nothing more to do: after a drain, or when the supervisor is gone."""
        async for message in self._control.messages():
            if isinstance(message, Drain):
                await loop.wait_idle()
                await context.wait_flushed()
                return

    def _make_lanes(self, context: WorkerContext) -> list[Lane]:
        settings = self._settings
        return [
            Lane(
                index,
                context=context,
                page=self._page,
                retries=settings.retries,
                backoff=settings.retry_backoff,
                give_up=self._give_up,
                finished=self._record_finished,
            )
            for index in range(settings.concurrency)
        ]

    def _bindings(self, app: App, executor: ThreadPoolExecutor) -> Bindings:
        return Bindings(app.routes, self._settings.concurrency, executor)

    def _record_finished(self) -> None:
        if self._loop is not None:
            self._loop.record_finished()

    def _give_up(self, call: Call, raw: Any, reason: str) -> None:
        """Make an event a dead letter: the supervisor keeps it, unless too many come, and the log says so once a while."""
        if self._control.backlog_bytes < _DEAD_LETTERS_BACKLOG:
            letter = DeadLetter(self._spec.index, call.topic, call.event, call.route.name, reason, bytes(raw))
            self._control.send(letter)
        # By what is before the first colon: what follows is text of the handler's, or of the peer's.
        suppressed = self._throttle.allow((call.route.name, reason.partition(":")[0]), asyncio.get_running_loop().time())
        if suppressed is not None:
            log.error("event given up", topic=call.topic, event_name=call.event, reason=reason, suppressed=suppressed)


async def _enter(stack: AsyncExitStack, app: App, target: str) -> None:
    try:
        await stack.enter_async_context(app.lifespan(app))
    except RigError:
        raise
    except Exception as exc:
        raise AppError(f"the lifespan of {target} failed: {type(exc).__name__}: {exc}") from exc


def _attach(fds: RingFds) -> tuple[RingMemory, Doorbell]:
    return RingMemory.attach(fds.memory), Doorbell.attach(*fds.bell)


def _settle_garbage_collector() -> None:
    """Leave what is loaded out of every collection, and collect rarely: events make no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)


def _fail_loudly(task: "asyncio.Task[None]") -> None:
    """End the process if a lane ends: the supervisor starts a successor, which redelivers what was in hand."""
    error = "it was cancelled" if task.cancelled() else repr(task.exception())
    log.critical("a lane ended, so the worker does", error=error)
    raise SystemExit(70)
