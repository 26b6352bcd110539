"""
From the workers' storage rings to the database: pushes that must not be lost, and dead letters.

All that is at hand goes into one commit. What must stay true: a record is committed in its ring only when what it held is in the
database and, of a push, the answer is in the worker's ring. So whatever a killed io process had in hand comes to its successor
again; the unique key of a push makes that harmless. A push that the database does not take is refused. A letter is tried again
until it is stored, and keeps no push behind it waiting meanwhile; should the io process be killed just then, a push behind it that
was refused may be stored after all.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec
import structlog

from rig.counters import Page
from rig.errors import OutboxFull, StoreFailed
from rig.io import vital
from rig.log import Throttle
from rig.records import DeadLetter, EnqueueRequest, Kind, Outcome, PushResult, decode_enqueues, decode_letters
from rig.ring import Consumer, Doorbell, Record, RingMemory
from rig.store import DeadLetters, NewLetter, NewPush, Outbox

_AT_HAND = 4
"""Records of one ring that are taken together, 512 pushes each at most: decoding more would keep the loop from its other work."""
_LARGEST_GROUP = 256
"""Records of letters that are stored together."""
_TRY_AGAIN = 1.0
"""Seconds after which letters that could not be stored are tried again."""
_LAST_TRY = 1.5
"""Seconds that letters have, at most, to be stored at the end."""
_REPORT_INTERVAL = 5.0
"""Seconds between two lines about the same fault."""

Answer = Callable[[list[PushResult], Callable[[], None]], None]
"""Takes results, and what to call once they are in the replies ring."""

log = structlog.get_logger()


class Inlet:
    """One worker's storage ring, and the way back to the worker."""

    def __init__(self, memory: RingMemory, bell: Doorbell, answer: Answer) -> None:
        self.bell, self.answer = bell, answer
        self._consumer = Consumer(memory)
        self._open: deque[Record] = deque()
        self._finished: set[int] = set()

    def take(self) -> list[Record]:
        """Return the next records, to be given to `finish` in any order."""
        records = self._consumer.poll(_AT_HAND)
        self._open += records
        return records

    def finish(self, record: Record) -> None:
        """Commit the oldest records as far as they are finished."""
        self._finished.add(record.position)
        last = None
        while self._open and self._open[0].position in self._finished:
            last = self._open.popleft()
            self._finished.discard(last.position)
        if last is not None:
            self._consumer.commit(last)


class Storing:
    """Takes what all workers want stored."""

    def __init__(
        self,
        inlets: Sequence[Inlet],
        *,
        page: Page,
        stored: Callable[[Iterable[str]], None],
        health: Callable[[StoreFailed | None], None] = lambda failure: None,
    ) -> None:
        """
        Connect the rings with a store that may not be there yet.

        Args:
            inlets: One for each worker.
            page: The io process's counters.
            stored: Told of the topics that have new rows.
            health: Told of each failure of the store, and with None of each success.
        """
        self._health = health
        self._inlets, self._page, self._stored = inlets, page, stored
        self._loop = asyncio.get_running_loop()
        self._outbox: Outbox | None = None
        self._letters: DeadLetters | None = None
        self._failure: StoreFailed | None = None
        self._known = asyncio.Event()
        self._rung = asyncio.Event()
        self._lettered = asyncio.Event()
        self._unburied: list[tuple[Inlet, Record, list[DeadLetter]]] = []
        self._closing = self._all_taken = False
        self._tasks: list[asyncio.Task[None]] = []
        self._throttle = Throttle(_REPORT_INTERVAL)

    def use(self, outbox: Outbox, letters: DeadLetters) -> None:
        """Store there from now on."""
        self._outbox, self._letters, self._failure = outbox, letters, None
        self._known.set()

    def refuse(self, failure: StoreFailed) -> None:
        """Refuse pushes for this reason until there is a store."""
        self._failure = failure
        self._known.set()

    def start(self) -> None:
        """Take records whenever a doorbell rings, and those that are there."""
        for inlet in self._inlets:
            self._loop.add_reader(inlet.bell.fd, self._ring, inlet.bell)
        self._rung.set()
        self._tasks = [
            vital.start(self._take_all(), "storing"),
            vital.start(self._bury_all(), "dead letters"),
        ]

    async def close(self, within: float = math.inf) -> None:
        """
        Store what is in the rings, and take no more. The workers are gone.

        Args:
            within: Seconds that there are for it.
        """
        for inlet in self._inlets:
            self._loop.remove_reader(inlet.bell.fd)
        self._closing = True
        self._rung.set()
        await asyncio.wait(self._tasks, timeout=min(_LAST_TRY, within))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._unburied:
            lost = sum(len(letters) for _, _, letters in self._unburied)
            log.error("dead letters are lost: they could not be stored before the end", letters=lost)

    def _ring(self, bell: Doorbell) -> None:
        bell.clear()
        self._rung.set()

    async def _take_all(self) -> None:
        await self._known.wait()
        while True:
            await self._rung.wait()
            self._rung.clear()
            while taken := [(inlet, record) for inlet in self._inlets for record in inlet.take()]:
                await self._take(taken)
            if self._closing:
                self._all_taken = True
                self._lettered.set()
                return

    async def _take(self, taken: list[tuple[Inlet, Record]]) -> None:
        pushes: list[tuple[Inlet, Record, list[EnqueueRequest]]] = []
        for inlet, record in taken:
            try:
                if record.kind == Kind.ENQUEUE:
                    pushes.append((inlet, record, decode_enqueues(record.payload)))
                else:
                    self._unburied.append((inlet, record, decode_letters(record.payload)))
                    self._lettered.set()
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                log.error("a record of the storage ring was given up: it cannot be read", kind=record.kind, reason=str(exc))
                inlet.finish(record)
        if pushes:
            await self._store(pushes)

    async def _store(self, pushes: list[tuple[Inlet, Record, list[EnqueueRequest]]]) -> None:
        requests = [request for _, _, some in pushes for request in some]
        failures = await self._add(requests)
        topics = {request.topic for request, failure in zip(requests, failures, strict=True) if failure is None}
        results = iter([_result(request.id, failure) for request, failure in zip(requests, failures, strict=True)])
        for inlet, record, some in pushes:
            inlet.answer([next(results) for _ in some], lambda inlet=inlet, record=record: inlet.finish(record))  # type: ignore[misc]
        if topics:
            self._stored(topics)

    async def _add(self, requests: list[EnqueueRequest]) -> Sequence[StoreFailed | None]:
        """Store pushes, and return for each why it was not."""
        failures = await self._try([_row(request) for request in requests])
        refused = sum(failure is not None for failure in failures)
        self._page.add("durable_stored", len(requests) - refused)
        self._page.add("durable_refused", refused)
        if refused:
            reason = next(str(failure) for failure in failures if failure is not None)
            self._say("durable pushes were refused", pushes=refused, reason=reason)
        return failures

    async def _try(self, rows: list[NewPush]) -> Sequence[StoreFailed | None]:
        if self._outbox is None:
            return [self._failure] * len(rows)
        try:
            await self._outbox.add(rows)
        except OutboxFull as exc:
            if len(rows) == 1:
                return [exc]
            # One large push must not keep out the small ones beside it.
            return [failure for one in await asyncio.gather(*(self._try([row]) for row in rows)) for failure in one]
        except StoreFailed as exc:
            self._health(exc)
            return [exc] * len(rows)
        self._health(None)
        return [None] * len(rows)

    async def _bury_all(self) -> None:
        await self._known.wait()
        while True:
            await self._lettered.wait()
            self._lettered.clear()
            while self._unburied:
                some = self._unburied[:_LARGEST_GROUP]
                if await self._bury([letter for _, _, letters in some for letter in letters]):
                    del self._unburied[: len(some)]
                    for inlet, record, _ in some:
                        inlet.finish(record)
                else:
                    await asyncio.sleep(_TRY_AGAIN)
            if self._all_taken:
                return

    async def _bury(self, letters: list[DeadLetter]) -> bool:
        failure = self._failure
        if self._letters is not None:
            try:
                await self._letters.add([NewLetter(*msgspec.structs.astuple(letter)) for letter in letters])
            except StoreFailed as exc:
                self._health(exc)
                failure = exc
            else:
                self._health(None)
                self._page.add("dead_letters", len(letters))
                return True
        self._say(
            "dead letters wait in the ring: they could not be stored, and are tried again",
            letters=len(letters),
            reason=str(failure),
        )
        return False

    def _say(self, message: str, **fields: object) -> None:
        self._throttle.say(log.error, message, time.monotonic(), **fields)


def _row(request: EnqueueRequest) -> NewPush:
    return NewPush(request.key, request.topic, request.event, request.payload, request.binary, request.expires_at)


def _result(identity: int, failure: StoreFailed | None) -> PushResult:
    match failure:
        case None:
            return PushResult(identity, Outcome.STORED, "", b"", True)
        case OutboxFull(path=path, limit_bytes=limit_bytes):
            return PushResult(identity, Outcome.OUTBOX_FULL, "", msgspec.json.encode([path, limit_bytes]), False)
        case StoreFailed(path=path, reason=reason, remedy=remedy):
            return PushResult(identity, Outcome.STORE_FAILED, "", msgspec.json.encode([path, reason, remedy]), False)
