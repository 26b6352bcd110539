"""What the tests of a worker share: the memory that outlives workers, and the life of one worker without its process."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec
import pytest

from rig.app import App
from rig.counters import WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.records import Kind, encode_events, encode_names
from rig.ring import Doorbell, Producer, RingMemory
from rig.worker.binding import Bindings, Call
from rig.worker.lane import Lane
from rig.worker.loop import WorkerLoop

LANES = 4


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


class Bench:
    """
    An events ring with its doorbell and counters, and the io process's end of it.

    Attributes:
        dead: The events that were given up, by any worker.
        executor: For plain functions.
    """

    def __init__(self) -> None:
        self.memory = RingMemory.create(256 * 1024, lanes=LANES)
        self.bell = Doorbell.create()
        self.page = Page.create(WORKER_COUNTERS, WORKER_HISTOGRAMS)
        self.producer = Producer(self.memory)
        self.context = FakeContext()
        self.executor = ThreadPoolExecutor(LANES)
        self.dead: list[GivenUp] = []

    def close(self) -> None:
        self.executor.shutdown(cancel_futures=True)
        self.memory.close()
        self.bell.close()
        self.page.close()

    def publish(self, *events: tuple[str, str, Any], ring: bool = True) -> None:
        """Put (topic, event, payload) into the ring as one record; payloads of bytes make a binary one."""
        pairs = list(dict.fromkeys((topic, event) for topic, event, _ in events))
        numbers = [pairs.index((topic, event)) for topic, event, _ in events]
        binary = any(isinstance(payload, bytes) for _, _, payload in events)
        payloads = [payload if binary else msgspec.json.encode(payload) for _, _, payload in events]
        names = encode_names([name for pair in pairs for name in pair])
        record = encode_events(names, numbers, payloads, binary=binary)
        kind = Kind.EVENTS_BINARY if binary else Kind.EVENTS
        self.producer.put(record, kind=kind, count=len(events), time_ns=time.monotonic_ns())
        if ring:
            self.bell.ring()

    def worker(self, app: App, *, retries: int = 0, backoff: float = 0.0) -> "Life":
        """Start a worker on the ring."""
        return Life(self, app, retries, backoff)


class Life:
    """One worker, from its start to its death."""

    def __init__(self, bench: Bench, app: App, retries: int, backoff: float) -> None:
        self._bench = bench
        self.lanes = [
            Lane(
                index,
                context=bench.context,
                page=bench.page,
                retries=retries,
                backoff=backoff,
                give_up=self._give_up,
                finished=self._finished,
            )
            for index in range(LANES)
        ]
        bindings = Bindings(app.routes, LANES, bench.executor)
        self.loop = WorkerLoop(bench.memory, bench.bell, bindings, self.lanes, page=bench.page, give_up=self._give_up)
        self.tasks = [asyncio.create_task(lane.run()) for lane in self.lanes]
        self.loop.start()

    async def idle(self) -> None:
        """Wait until everything in the ring is handled and committed."""
        await self.loop.wait_idle()
        assert self._bench.producer.used_bytes == 0

    async def die(self) -> None:
        """End as `kill -9` does: what is in hand stays in hand, and nothing more is stored."""
        self.loop.stop()
        for lane, task in zip(self.lanes, self.tasks, strict=True):
            lane.stop()
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _finished(self) -> None:
        self.loop.record_finished()

    def _give_up(self, call: Call, raw: Any, reason: str) -> None:
        self._bench.dead.append(GivenUp(call.topic, call.event, call.route.name, bytes(raw), reason))


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Give an empty ring of events."""
    bench = Bench()
    yield bench
    bench.close()
