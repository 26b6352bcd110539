"""
A worker process: import the app, take the rings, handle events until told to end.

It ignores SIGINT and SIGTERM, which a terminal or a service manager sends to everyone: only the supervisor decides when
a worker ends, so that nothing in a ring is left behind. It dies with the supervisor.
"""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import structlog

from rig import log as rig_log
from rig.app import App, Context
from rig.child import attach, settle_garbage_collector
from rig.control import Control, DeadLetter, Described, DescribeSpec, Drain, Failed, Ready, WorkerSpec
from rig.counters import WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.errors import AppError, RigError
from rig.worker.binding import Bindings, Call
from rig.worker.context import WorkerContext
from rig.worker.describe import describe, load_app
from rig.worker.lane import Lane
from rig.worker.loop import WorkerLoop
from rig.worker.spread import SpreadContext
from rig.worker.states import StateCallbacks
from rig.worker.stored import StoredEvents

_REPORT_INTERVAL = 5.0
_DEAD_LETTERS_BACKLOG = 4 * 1024 * 1024
"""Bytes on their way to the supervisor beyond which a dead letter is only counted and logged."""

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
            states = StateCallbacks(app.state_callbacks)
            contexts = [
                WorkerContext(
                    attach(one.pushes),
                    attach(one.replies),
                    page=self._page,
                    timeout=settings.push_timeout,
                    on_state=states.put,
                )
                for one in rings
            ]
            lanes = self._make_lanes(contexts[0] if len(contexts) == 1 else SpreadContext(contexts))
            bindings = Bindings(app.routes, settings.concurrency, executor)
            stored = StoredEvents(settings.state_dir)
            stack.callback(stored.close)
            loops = [
                WorkerLoop(
                    *attach(one.events),
                    bindings,
                    lanes,
                    page=self._page,
                    give_up=self._give_up,
                    rings=len(rings),
                    stored=stored,
                )
                for one in rings
            ]
            tasks = [asyncio.create_task(lane.run(), name=f"lane-{index}") for index, lane in enumerate(lanes)]

            def lane_ended(task: "asyncio.Task[None]") -> None:
                for lane in lanes:  # the end of the process cancels the others, which they heed only once they are stopped
                    lane.stop()
                _fail_loudly(task)

            for task in tasks:
                task.add_done_callback(lane_ended)
            settle_garbage_collector()
            for context in contexts:
                context.start()
            for loop in loops:
                loop.start()
            self._control.send(Ready())
            await self._obey(loops, contexts)
            for loop in loops:
                loop.stop()
            for context in contexts:
                context.stop()
            await states.close()
            for lane, task in zip(lanes, tasks, strict=True):
                lane.stop()
                task.remove_done_callback(lane_ended)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _obey(self, loops: Sequence[WorkerLoop], contexts: Sequence[WorkerContext]) -> None:
        """Return when there is nothing more to do: after a drain, or when the supervisor is gone."""
        async for message in self._control.messages():
            if isinstance(message, Drain):
                for loop in loops:  # one after the other: no io process hands on anything more
                    await loop.wait_idle()
                for context in contexts:
                    await context.wait_flushed()
                return

    def _make_lanes(self, context: Context) -> list[Lane]:
        settings = self._settings
        return [
            Lane(
                index,
                context=context,
                page=self._page,
                retries=settings.retries,
                backoff=settings.retry_backoff,
                give_up=self._give_up,
            )
            for index in range(settings.concurrency)
        ]

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


def _fail_loudly(task: "asyncio.Task[None]") -> None:
    """End the process if a lane ends: the supervisor starts a successor, which redelivers what was in hand."""
    error = "it was cancelled" if task.cancelled() else repr(task.exception())
    log.critical("a lane ended, so the worker does", error=error)
    raise SystemExit(70)
