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
from pathlib import Path

import msgspec
import structlog

from rig import log as rig_log
from rig.app import App
from rig.child import attach, settle_garbage_collector
from rig.control import Control, Described, DescribeSpec, Drain, DumpStacks, Failed, Ready, Recycle, RingsFds, WorkerSpec
from rig.counters import WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.durable import enqueueing_by
from rig.errors import AppError, RigError
from rig.records import DeadLetter
from rig.worker.binding import Bindings
from rig.worker.context import WorkerContext
from rig.worker.describe import describe, load_app
from rig.worker.lane import Lane
from rig.worker.letters import Letters
from rig.worker.loop import WorkerLoop
from rig.worker.spread import SpreadContext
from rig.worker.stacks import answer_signal, describe_tasks
from rig.worker.states import StateCallbacks
from rig.worker.storage import Storage
from rig.worker.stored import StoredEvents

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
        self._page = Page(spec.counters, WORKER_COUNTERS, WORKER_HISTOGRAMS)

    async def run(self) -> None:
        """
        Handle events until the supervisor says `Drain` or is gone.

        Raises:
            AppError: If the application cannot be loaded, or its lifespan cannot be entered.
        """
        settings, rings = self._settings, self._spec.rings
        answer_signal(self._spec.stacks)
        app = load_app(settings.target, app_dir=settings.app_dir, factory=settings.factory)
        states = StateCallbacks(app.state_callbacks)
        contexts = [self._make_context(one, states) for one in rings]
        context = contexts[0] if len(contexts) == 1 else SpreadContext(contexts)
        for one in contexts:  # before the lifespan is entered: what that enqueues is stored, too
            one.start()
        try:
            with enqueueing_by(context):
                drained = await self._handle(app, contexts, context)
            if drained:
                for one in contexts:
                    await one.wait_flushed()
        finally:
            for one in contexts:
                one.stop()
            await states.close()

    async def _handle(self, app: App, contexts: Sequence[WorkerContext], context: WorkerContext | SpreadContext) -> bool:
        """Handle events inside the lifespan; False if the supervisor is gone."""
        settings, rings = self._settings, self._spec.rings
        async with AsyncExitStack() as stack:
            executor = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="handler")
            # A thread whose handler has timed out may run on: nobody waits for it.
            stack.callback(executor.shutdown, wait=False, cancel_futures=True)
            await _enter(stack, app, settings.target)
            lanes = self._make_lanes(context)
            bindings = Bindings(app.routes, settings.concurrency, executor, gap_routes=app.gap_routes)
            stored = StoredEvents(settings.state_dir)
            stack.callback(stored.close)
            loops = [
                WorkerLoop(*attach(one.events), bindings, lanes, page=self._page, rings=len(rings), stored=stored) for one in rings
            ]
            tasks = [asyncio.create_task(lane.run(), name=f"lane-{index}") for index, lane in enumerate(lanes)]

            def lane_ended(task: "asyncio.Task[None]") -> None:
                for lane in lanes:  # the end of the process cancels the others, which they heed only once they are stopped
                    lane.stop()
                _fail_loudly(task)

            for task in tasks:
                task.add_done_callback(lane_ended)
            settle_garbage_collector()
            for loop in loops:
                loop.start()
            self._control.send(Ready())
            drained = await self._obey(loops, contexts, tasks)
            for loop in loops:
                loop.stop()
            for lane, task in zip(lanes, tasks, strict=True):
                lane.stop()
                task.remove_done_callback(lane_ended)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return drained

    async def _obey(
        self, loops: Sequence[WorkerLoop], contexts: Sequence[WorkerContext], lanes: Sequence["asyncio.Task[None]"]
    ) -> bool:
        """Return when there is nothing more to do: True after a drain or for a successor, False when the supervisor is gone."""
        order: asyncio.Future[Drain | Recycle | None] = asyncio.get_running_loop().create_future()
        listening = asyncio.create_task(self._listen(order, lanes), name="control line")
        match await order:
            case Drain():
                for loop in loops:  # one after the other: no io process hands on anything more
                    await loop.wait_idle()
            case Recycle():
                for loop in loops:
                    loop.read_no_more()
                for loop in loops:
                    await loop.wait_finished()
            case None:
                return False
        for context in contexts:
            await context.wait_flushed()
        listening.cancel()
        return True

    async def _listen(self, order: "asyncio.Future[Drain | Recycle | None]", lanes: Sequence["asyncio.Task[None]"]) -> None:
        """Pass on how this worker is to end, and go on answering: a handler may keep it from its end."""
        async for message in self._control.messages():
            match message:
                case DumpStacks():
                    self._control.send(describe_tasks(lanes))
                case Drain() | Recycle() if not order.done():
                    order.set_result(message)
                case _:
                    pass
        if not order.done():
            order.set_result(None)

    def _make_context(self, rings: RingsFds, states: StateCallbacks) -> WorkerContext:
        settings = self._settings
        storage = Storage(*attach(rings.storage), field=settings.idempotency_field, ttl=settings.outbox_ttl)
        return WorkerContext(
            attach(rings.pushes),
            attach(rings.replies),
            page=self._page,
            timeout=settings.push_timeout,
            storage=storage,
            on_state=states.put,
        )

    def _make_lanes(self, context: WorkerContext | SpreadContext) -> list[Lane]:
        settings = self._settings
        letters = Letters(self._spec.index, context.storage_of, store_large=self._store_large)
        return [
            Lane(
                index,
                context=context,
                page=self._page,
                retries=settings.retries,
                backoff=settings.retry_backoff,
                give_up=letters.bury,
            )
            for index in range(settings.concurrency)
        ]

    async def _store_large(self, letter: DeadLetter) -> None:
        """
        Store a letter that no ring takes, by a connection of its own.

        Raises:
            StoreFailed: If the database does not take it.
        """
        from rig.store import DeadLetters, NewLetter, StateDirectory, Store  # few workers ever need it

        directory = StateDirectory(Path(self._settings.state_dir or "."))
        store = await Store.open(directory.database, self._settings.store_sync)
        try:
            await DeadLetters(store).add([NewLetter(*msgspec.structs.astuple(letter))])
        finally:
            await store.close()


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
