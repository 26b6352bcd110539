"""
A lane: one long-lived task that handles its events one after the other.

So events with the same ordering key are handled in order, `asyncio.current_task()` is a real task, and a handler that does
not suspend costs no task switch. The words of a record's progress are stored here, one plain store an event: 2n+1 before
event n of the list is handled, 2n when the first n are finished.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from rig.app import Context, Event
from rig.backoff import full_jitter
from rig.counters import Page, bucket
from rig.ring import Record
from rig.worker.binding import Call

SAMPLE = 32
"""Events in a row of which the first is timed; the time counts for all of them."""
_TEXT_LIMIT = 1000
"""Characters of a failure that are kept."""

Item = tuple[Call, Any]
"""What is called, with the payload as it came."""
GiveUp = Callable[[Call, Any, str, BaseException | None, int], Awaitable[None]]
"""Takes what was called, the payload, the reason, what was raised, and when the event came; returns when the letter is safe."""


class OpenRecord:
    """
    A record in work.

    Attributes:
        record: As it was polled.
        words: Of its progress, one per lane.
        finished: Called when the last of its lists is finished.
        unfinished: How many are not.
        condemned: Lanes whose first unfinished event is not to be handled, but made a dead letter; what to call then.
    """

    __slots__ = ("condemned", "finished", "record", "unfinished", "words")

    def __init__(self, record: Record, words: memoryview, finished: Callable[[], None]) -> None:
        self.record, self.words, self.finished, self.unfinished = record, words, finished, 0
        self.condemned: dict[int, Callable[[], None]] = {}


class Lane:
    """The lists that wait, and the task that works on them."""

    def __init__(
        self,
        index: int,
        *,
        context: Context,
        page: Page,
        retries: int,
        backoff: float,
        give_up: GiveUp,
    ) -> None:
        """
        Make a lane; `run` is its task.

        Args:
            index: Which word of a record's progress is its own.
            context: For the events.
            page: The worker's counters.
            retries: For handlers that do not say.
            backoff: Seconds, likewise.
            give_up: Called with an event that will not be tried again.
        """
        self._index, self._context, self._page = index, context, page
        self._retries, self._backoff = retries, backoff
        self._give_up = give_up
        self._lists: deque[tuple[OpenRecord, list[Item]]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._stopped = False
        self._latency, self._duration = page.histograms["latency"], page.histograms["duration"]

    def put(self, work: OpenRecord, items: list[Item]) -> None:
        """Queue the events of one record that belong to this lane."""
        self._lists.append((work, items))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def stop(self) -> None:
        """Let the next cancellation of the task end it."""
        self._stopped = True

    async def run(self) -> None:
        """Handle lists until stopped and cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            while self._lists:
                await self._handle_list(*self._lists.popleft())
            self._waiter = loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as exc:
                self._leave_if_stopped(exc)

    async def _handle_list(self, work: OpenRecord, items: list[Item]) -> None:
        words, index, counters = work.words, self._index, self._page.words
        received_ns, context = work.record.time_ns, self._context
        if index in work.condemned:
            await self._condemn(work, items)
        done, total = words[index] >> 1, len(items)
        while done < total:
            some = items[done : done + SAMPLE]
            mark = 2 * done + 1
            started = time.monotonic_ns()
            for call, raw in some:
                words[index] = mark
                mark += 2
                try:
                    payload = call.decode(raw)
                except Exception as exc:  # the payload type may run code of the user's, `__post_init__` or a validator
                    await self._reject(call, raw, exc, received_ns)
                    continue
                event = Event(call.topic, call.event, payload, call.captures, received_ns, context)
                try:
                    await call.run(event)
                except (Exception, asyncio.CancelledError) as exc:
                    await self._retry(call, raw, event, exc)
            count = len(some)
            done += count
            counters[self._latency + bucket(started - received_ns)] += count
            counters[self._duration + bucket((time.monotonic_ns() - started) // count)] += count
        words[index] = 2 * total
        work.unfinished -= 1
        if not work.unfinished:
            work.finished()

    async def _condemn(self, work: OpenRecord, items: list[Item]) -> None:
        """Make an event a dead letter first, and mark it as finished then: a death between the two repeats the former."""
        call, raw = items[work.words[self._index] >> 1]
        reason = "it was in hand at two deaths of a worker, and is not tried a third time"
        await self._bury(call, raw, reason, None, work.record.time_ns)
        self._page.add("quarantined")
        work.condemned.pop(self._index)()

    async def _reject(self, call: Call, raw: Any, exc: Exception, received_ns: int) -> None:
        self._page.add("invalid")
        fault = str(exc) if isinstance(exc, msgspec.DecodeError | UnicodeDecodeError) else _text(exc)
        reason = "nested too deeply" if isinstance(exc, RecursionError) else fault
        await self._bury(call, raw, f"the payload does not fit {call.route.name}: {reason}", exc, received_ns)

    async def _retry(self, call: Call, raw: Any, event: Event[Any], exc: BaseException) -> None:
        """Try again, in the lane, so that what comes after it waits and order holds; then give the event up."""
        route = call.route
        retries = self._retries if route.retries is None else route.retries
        base = self._backoff if route.backoff is None else route.backoff
        for attempt in range(retries):
            self._leave_if_stopped(exc)
            self._page.add("retried")
            await asyncio.sleep(full_jitter(attempt, random.random, base=base))
            try:
                await call.run(event)
            except (Exception, asyncio.CancelledError) as again:
                exc = again
            else:
                return
        self._leave_if_stopped(exc)
        self._page.add("failed")
        attempts = f"{retries + 1} attempts" if retries else "1 attempt"
        await self._bury(call, raw, f"{route.name} failed after {attempts}: {_text(exc)}", exc, event.received_ns)

    async def _bury(self, call: Call, raw: Any, reason: str, exc: BaseException | None, received_ns: int) -> None:
        """Return when the dead letter is safe. Only then is the event finished, whoever cancels this meanwhile."""
        while True:
            try:
                return await self._give_up(call, raw, reason, exc, received_ns)
            except asyncio.CancelledError as cancelled:
                self._leave_if_stopped(cancelled)

    def _leave_if_stopped(self, exc: BaseException) -> None:
        """Let the end of the lane through. A handler that raises `CancelledError`, or cancels its task, has failed."""
        task = asyncio.current_task()
        if not isinstance(exc, asyncio.CancelledError) or task is None:
            return
        if self._stopped:
            raise exc
        while task.cancelling():
            task.uncancel()


def _text(exc: BaseException) -> str:
    """Return type and message of a user's exception, whose own `__str__` may fail, or say what cannot be encoded."""
    try:
        text = f"{type(exc).__name__}: {exc}"
    except Exception:
        text = type(exc).__name__
    return text[:_TEXT_LIMIT].encode(errors="replace").decode()
