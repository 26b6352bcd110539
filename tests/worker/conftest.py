"""What the tests of a worker share: the memory that outlives workers, and the life of one worker without its process."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple

import msgspec
import pytest

from rig.app import App
from rig.counters import WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.gap import Gap
from rig.records import Kind, encode_events, encode_gap, encode_names
from rig.ring import Doorbell, Producer, RingMemory
from rig.worker.binding import Bindings, Call
from rig.worker.lane import Lane
from rig.worker.loop import WorkerLoop
from rig.worker.stored import StoredEvents
from tests.worker.handlers import LANES


class GivenUp(NamedTuple):
    """A dead letter."""

    topic: str
    event: str
    handler: str
    payload: bytes
    reason: str


class FakeContext:
    """Remembers what was pushed, and answers with `answer`, or raises it."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, str, Any]] = []
        self.answer: Any = {}

    async def push(self, topic: str, event: str, payload: Any, *, timeout: float | None, reply: bool) -> Any:
        self.pushed.append((topic, event, payload))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class EventsRing:
    """An events ring with its doorbell, and an io process's end of it."""

    def __init__(self) -> None:
        self.memory = RingMemory.create(256 * 1024, lanes=LANES)
        self.bell = Doorbell.create()
        self.producer = Producer(self.memory)

    def close(self) -> None:
        self.memory.close()
        self.bell.close()


class Bench:
    """
    A worker's events rings, and its counters.

    Attributes:
        rings: One for each io process.
        memory: Of the first of them.
        producer: Likewise.
        dead: The events that were given up, by any worker.
        room: Set while there is room for dead letters.
        executor: For plain functions.
    """

    def __init__(self, rings: int = 1) -> None:
        self.rings = [EventsRing() for _ in range(rings)]
        self.memory, self.producer = self.rings[0].memory, self.rings[0].producer
        self.page = Page.create(WORKER_COUNTERS, WORKER_HISTOGRAMS)
        self.context = FakeContext()
        self.executor = ThreadPoolExecutor(LANES)
        self.dead: list[GivenUp] = []
        self.room = asyncio.Event()
        self.room.set()

    def close(self) -> None:
        self.executor.shutdown(cancel_futures=True)
        for ring in self.rings:
            ring.close()
        self.page.close()

    def publish(self, *events: tuple[str, str, Any], ring: bool = True, to: int = 0) -> None:
        """Put (topic, event, payload) into one of the rings as one record; payloads of bytes make a binary one."""
        pairs = list(dict.fromkeys((topic, event) for topic, event, _ in events))
        numbers = [pairs.index((topic, event)) for topic, event, _ in events]
        binary = any(isinstance(payload, bytes) for _, _, payload in events)
        payloads = [payload if binary else msgspec.json.encode(payload) for _, _, payload in events]
        names = encode_names([name for pair in pairs for name in pair])
        record = encode_events(names, numbers, payloads, binary=binary)
        kind = Kind.EVENTS_BINARY if binary else Kind.EVENTS
        self.rings[to].producer.put(record, kind=kind, count=len(events), time_ns=time.monotonic_ns())
        if ring:
            self.rings[to].bell.ring()

    def publish_gap(self, gap: Gap) -> None:
        """Put a gap into the ring."""
        self.producer.put(encode_gap(gap), kind=Kind.GAP, count=0, time_ns=time.monotonic_ns())
        self.rings[0].bell.ring()

    def worker(self, app: App, *, retries: int = 0, backoff: float = 0.0, stored: StoredEvents | None = None) -> "Life":
        """Start a worker on the rings."""
        return Life(self, app, retries, backoff, stored)


class Life:
    """One worker, from its start to its death."""

    started: ClassVar[list[Lane]] = []

    def __init__(self, bench: Bench, app: App, retries: int, backoff: float, stored: StoredEvents | None) -> None:
        self._bench = bench
        self.lanes = [
            Lane(
                index,
                context=bench.context,
                page=bench.page,
                retries=retries,
                backoff=backoff,
                give_up=self._give_up,
            )
            for index in range(LANES)
        ]
        self.started.extend(self.lanes)
        bindings = Bindings(app.routes, LANES, bench.executor, gap_routes=app.gap_routes)
        self.loops = [
            WorkerLoop(ring.memory, ring.bell, bindings, self.lanes, page=bench.page, rings=len(bench.rings), stored=stored)
            for ring in bench.rings
        ]
        self.tasks = [asyncio.create_task(lane.run()) for lane in self.lanes]
        for loop in self.loops:
            loop.start()

    async def idle(self) -> None:
        """Wait until everything in the rings is handled and committed."""
        for loop in self.loops:
            await loop.wait_idle()
        assert not any(ring.producer.used_bytes for ring in self._bench.rings)

    async def die(self) -> None:
        """End as `kill -9` does: what is in hand stays in hand, and nothing more is stored."""
        for loop in self.loops:
            loop.stop()
        for lane, task in zip(self.lanes, self.tasks, strict=True):
            lane.stop()
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _give_up(self, call: Call, raw: Any, reason: str, exc: BaseException | None, received_ns: int) -> None:
        while not self._bench.room.is_set():  # as a worker's letters wait for room in their ring
            await self._bench.room.wait()
        self._bench.dead.append(GivenUp(call.topic, call.event, call.route.name, bytes(raw), reason))


Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture
def run(run: Run) -> Run:
    """As everywhere, but a test that fails while a worker lives ends: lanes heed a cancellation only once they are stopped."""

    def run_and_stop(main: Callable[[], Awaitable[None]]) -> None:
        async def ended() -> None:
            try:
                await main()
            finally:
                for lane in Life.started:
                    lane.stop()
                Life.started.clear()

        run(ended)

    return run_and_stop


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Give an empty ring of events."""
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def two_rings() -> Iterator[Bench]:
    """Give two empty rings of events to one worker."""
    bench = Bench(2)
    yield bench
    bench.close()
