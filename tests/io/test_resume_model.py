"""
The whole way of cursors against a server that keeps everything: whatever is cut or killed, no event is lost and none comes twice.

The io process is real but for its connection: router, outlets, rings, marks. It dies at any line of the code that hands a batch on.
The server replays what was missed, and its live events overtake the replay as Phoenix's do. The workers commit when they like.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import rig.io.dispatch
import rig.io.resume
import rig.io.router
import rig.io.stage
import rig.io.track
import rig.marks
import rig.ring.producer
from rig.backoff import Cause
from rig.control import RouteSpec
from rig.counters import IO_COUNTERS, Page
from rig.cursors import Cursor
from rig.errors import StoreFailed
from rig.gap import Gap
from rig.io.outlet import Outlet
from rig.io.resume import CATCH_UP, TICK, Resume
from rig.io.router import Router
from rig.marks import Marks
from rig.phoenix import events
from rig.phoenix.message import Message
from rig.records import Kind, decode_events, decode_names
from rig.ring import Consumer, Doorbell, RingMemory
from tests.dying import die_at
from tests.io.outlets import dispatch_to

CAPACITY = 64 * 1024
CODE = (rig.io.dispatch, rig.io.resume, rig.io.router, rig.io.stage, rig.io.track, rig.marks, rig.ring.producer)
TOPICS = ("one:a", "one:b", "many:a")
"""The events of `one:` go to one worker each, those of `many:` to both."""
ROUTES = [RouteSpec("one:*", "tick", "topic", cursor="payload.id"), RouteSpec("many:*", "tick", "payload.key", cursor="payload.id")]


class Store:
    """Where cursors are kept; it may fail."""

    def __init__(self) -> None:
        self.kept: dict[str, Cursor] = {}
        self.works = True
        self.on_save: Callable[[Mapping[str, Cursor]], None] = lambda cursors: None

    async def load(self) -> dict[str, Cursor]:
        return dict(self.kept)

    async def save(self, cursors: Mapping[str, Cursor]) -> None:
        if not self.works:
            raise StoreFailed("rig.db", "disk full", "free some space")
        self.on_save(cursors)
        self.kept |= cursors


class Worker:
    """One end of a ring: it handles records, and commits them later."""

    def __init__(self, memory: RingMemory) -> None:
        self.consumer = Consumer(memory)
        self.open: list[Any] = []
        self.handled: list[tuple[str, int]] = []
        self.committed: list[tuple[str, int]] = []

    def poll(self) -> None:
        for record in self.consumer.poll(1000):
            found = []
            if record.kind == Kind.EVENTS:
                raw, numbers, payloads = decode_events(record.kind, record.payload)
                names = decode_names(raw)
                found = [
                    (names[2 * number], msgspec.json.decode(payload)["id"])
                    for number, payload in zip(numbers, payloads, strict=True)
                ]
            self.handled += found
            self.open.append((record, found))

    def commit(self, count: int) -> None:
        for record, found in self.open[:count]:
            self.consumer.commit(record)
            self.committed += found
        del self.open[:count]


class Universe:
    """
    A server, a run with two workers, and a clock.

    Attributes:
        history: The numbers of the events that were ever sent on each topic.
        excused: Those that nobody could ask for again: they were sent before a join without a cursor.
        runs: For each run what its workers handled.
        deaths: How often the io process died.
        early: Cursors that were saved before one of their events was committed.
    """

    def __init__(self, chance: random.Random, *, answers: bool, size: int) -> None:
        self.chance, self.answers, self.pad = chance, answers, "x" * size
        self.history: dict[str, list[int]] = {topic: [] for topic in TOPICS}
        self.excused: set[tuple[str, int]] = set()
        self.store = Store()
        self.store.on_save = self._saved
        self.now = 1000.0
        self.workers: list[Worker] = []
        self.runs: list[list[Worker]] = []
        self.deaths = 0
        self.gaps: list[Gap] = []
        self.early: list[tuple[str, Cursor, tuple[str, int]]] = []
        self.resources: list[Any] = []

    # Lives.

    async def start_run(self) -> None:
        """Begin with nothing but the store."""
        self.marks = Marks.create(len(TOPICS), 2)
        self.memories = [RingMemory.create(CAPACITY) for _ in range(2)]
        self.bells = [Doorbell.create() for _ in range(2)]
        self.page = Page.create(IO_COUNTERS)
        self.resources += [self.marks, *self.memories, *self.bells, self.page]
        self.workers = [Worker(memory) for memory in self.memories]
        self.runs.append(self.workers)
        await self.start_io()

    async def start_io(self) -> None:
        """Begin with what a predecessor left in memory."""
        marks = Marks.attach(os.dup(self.marks.fd))
        self.resources.append(marks)
        self.resume = Resume(
            marks,
            self.memories,
            page=self.page,
            tell=self.gaps.append,
            cursor_field="last_seen_id",
            resumed_field="resumed",
            store=self.store,
            clock=lambda: self.now,
        )
        router = Router(ROUTES, 2, tracks=self.resume.track)
        outlets = [Outlet(memory, bell) for memory, bell in zip(self.memories, self.bells, strict=True)]
        self.dispatch = dispatch_to(outlets, router, self.page)
        await self.resume.load()
        self.resume.take_over(router, outlets)
        self.payloads = {topic: self.resume.join_payload(topic, {}, has_cursor=True) for topic in TOPICS}
        self.connect()

    def bury_io(self) -> None:
        """End the life's timers, as the end of a process does."""
        if self.resume._timer is not None:
            self.resume._timer.cancel()
        saver = self.resume._saver
        if saver is not None and saver._saving is not None:
            saver._saving.cancel()

    # The server.

    def connect(self) -> None:
        """Join everything, and get what was missed, overtaken by live events."""
        self.pending: list[Message] = []
        for topic in TOPICS:
            asked = self.payloads[topic]().get("last_seen_id")
            missed = [] if asked is None else [number for number in self.history[topic] if number > asked]
            if asked is None:
                self.excused |= {(topic, number) for number in self.history[topic]}
            self.hand_on([self.event(topic) for _ in range(self.chance.choice((0, 0, 1)))])  # before the answer to the join
            answer = {"resumed": True, "missed": len(missed)} if self.answers and asked is not None else {}
            self.resume.note(events.Joined(topic, answer, True))
            self.pending += [self.message(topic, number, pushed=True) for number in missed]
        live = iter([self.event(self.chance.choice(TOPICS)) for _ in range(self.chance.choice((0, 0, 3)))])
        for message in list(live):  # anywhere in the replays, in their own order
            places = [place for place, other in enumerate(self.pending) if other.join_ref is None]
            self.pending.insert(self.chance.randint(places[-1] + 1 if places else 0, len(self.pending)), message)

    def event(self, topic: str) -> Message:
        """Make the next event of a topic; numbers grow, and some are left out."""
        numbers = self.history[topic]
        numbers.append((numbers[-1] if numbers else 0) + self.chance.choice((1, 1, 5)))
        return self.message(topic, numbers[-1])

    def message(self, topic: str, number: int, *, pushed: bool = False) -> Message:
        """Write an event, always alike, as a broadcast or as the push of a channel."""
        payload = msgspec.json.encode({"id": number, "key": number % 7, "pad": self.pad})
        return Message("1" if pushed else None, None, topic, "tick", msgspec.Raw(payload))

    def hand_on(self, messages: list[Message]) -> None:
        """Do what the process does with a batch."""
        self.dispatch.dispatch(messages, binary=False)
        self.resume.dispatched()

    # What happens.

    def publish(self, count: int) -> None:
        """Send live events, which are on their way."""
        self.pending += [self.event(self.chance.choice(TOPICS)) for _ in range(count)]

    def receive(self, count: int) -> None:
        """Take a batch of what is on its way, unless reading is paused."""
        if not self.dispatch._overflow._paused:
            batch, self.pending = self.pending[:count], self.pending[count:]
            self.hand_on(batch)

    def cut(self) -> None:
        """Lose the connection with what was on its way, and with what is sent before it is there again."""
        self.resume.note(events.SocketClosed(Cause.LINK_LOST, 1006, "", 0.0))
        self.publish(self.chance.randint(0, 3))
        self.connect()

    async def kill_io(self, line: int) -> None:
        """Die at a line while a batch is handed on, or between two of them."""
        self.publish(6)
        batch, self.pending = self.pending[:6], []
        die_at(line, lambda: self.hand_on(batch), *CODE)
        self.deaths += 1
        self.bury_io()
        await self.start_io()

    async def kill_run(self) -> None:
        """Lose everything but the store."""
        self.bury_io()
        await self.start_run()

    async def wait(self) -> None:
        """Let so much time pass that no replay is expected any more; all that has begun is over by then."""
        while self.pending:
            self.receive(5)
            await self.work(10**6)
        await self.tick(CATCH_UP)

    async def tick(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.now += seconds
        if self.resume._timer is not None:
            self.resume._timer.cancel()
        if self.dispatch._overflow._paused:
            self.dispatch._overflow._time_passed()
        self.resume._tick()
        for _ in range(3):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let everything come to its end."""
        self.store.works = True
        self.cut()
        while self.pending or self.dispatch._overflow._paused:
            self.receive(5)
            await self.work(10**6)
        await self.work(10**6)
        for _ in range(5):
            await self.tick(2 * CATCH_UP)

    async def work(self, count: int) -> None:
        """Let the workers handle what is there, and commit some of it."""
        for worker in self.workers:
            worker.poll()
            worker.commit(count)
        await self.tick(TICK)

    def close(self) -> None:
        """Give back what the test took."""
        self.bury_io()
        for resource in self.resources:
            resource.close()

    # What must be true.

    def handled(self, run: list[Worker]) -> list[tuple[str, int]]:
        """Return what the workers of a run handled."""
        return [event for worker in run for event in worker.handled]

    def lost(self) -> set[tuple[str, int]]:
        """Return the events that nobody handled, though they could have been asked for."""
        sent = {(topic, number) for topic, numbers in self.history.items() for number in numbers}
        return sent - self.excused - {event for run in self.runs for event in self.handled(run)}

    def repeated(self) -> list[tuple[str, int]]:
        """Return the events that were handled twice in one run."""
        return [event for run in self.runs for event, count in Counter(self.handled(run)).items() if count > 1]

    def _saved(self, cursors: Mapping[str, Cursor]) -> None:
        committed = {event for run in self.runs for worker in run for event in worker.committed}
        for topic, cursor in cursors.items():
            due = {(topic, number) for number in self.history[topic] if number <= cursor}  # type: ignore[operator]
            self.early += [(topic, cursor, event) for event in due - committed - self.excused]


Step = tuple[Any, ...]
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 8)),
    st.tuples(st.just("receive"), st.integers(1, 12)),
    st.tuples(st.just("work"), st.integers(0, 4)),
    st.tuples(st.just("tick"), st.just(TICK)),
    st.tuples(st.just("wait")),
    st.tuples(st.just("cut")),
    st.tuples(st.just("kill_io"), st.integers(0, 400)),
    st.tuples(st.just("kill_run")),
    st.tuples(st.just("store"), st.booleans()),
)


async def play(universe: Universe, steps: list[Step]) -> None:
    """Take the steps, and then let all come to its end."""
    await universe.start_run()
    for name, *arguments in steps:
        if name == "store":
            universe.store.works = arguments[0]
            continue
        done = getattr(universe, name)(*arguments)
        if done is not None:
            await done
    await universe.settle()


def live(chance: random.Random, steps: list[Step], **options: Any) -> Universe:
    """Live through it on a loop of its own, and insist that nothing is lost."""
    universe = Universe(chance, **options)

    async def main() -> None:
        try:
            await play(universe, steps)
        finally:
            universe.close()

    with structlog.testing.capture_logs():
        asyncio.run(main())
    assert not universe.early
    assert not universe.lost()
    return universe


@settings(max_examples=300, deadline=None)
@given(chance=st.randoms(use_true_random=False), steps=st.lists(STEPS, max_size=30), answers=st.booleans())
def test_no_event_is_lost_and_none_comes_twice(chance: random.Random, steps: list[Step], answers: bool) -> None:
    """Only the end of a whole run makes events come again, and only those that were not committed and saved."""
    universe = live(chance, steps, answers=answers, size=0)

    assert universe.repeated() == []


@settings(max_examples=100, deadline=None)
@given(chance=st.randoms(use_true_random=False), steps=st.lists(STEPS, max_size=30), answers=st.booleans())
def test_no_event_is_lost_while_rings_are_full(chance: random.Random, steps: list[Step], answers: bool) -> None:
    """What waits for room dies with the io process, and is sent again; what a full ring has overwritten may come twice then."""
    universe = live(chance, steps, answers=answers, size=2_000)

    assert universe.deaths or universe.repeated() == []
