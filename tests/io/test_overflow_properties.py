"""
Whatever workers, server and disk do: nothing is lost that must not be, nothing comes twice, and each key stays in order.

Workers read when they like, records and policies mix, the store fails and recovers, the io process is killed and succeeded, the
run ends and the next one has another number of workers.
"""

import asyncio
import itertools
from collections import defaultdict
from typing import Any

import msgspec
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.control import RouteSpec
from rig.counters import IO_COUNTERS, Page
from tests.io.outlets import LARGEST, Bench, Disk

POLICIES = ("spill", "block", "drop_oldest", "drop_newest", "latest")
SAFE = ("spill", "block")
DROPPED = ("dropped_oldest", "dropped_newest", "dropped_latest", "dropped_large")

sizes = st.one_of(st.integers(0, 5_000), st.integers(0, 100), st.integers(LARGEST - 200, LARGEST + 3_000))
batches = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(POLICIES), sizes), min_size=1, max_size=20)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), batches),
        st.tuples(st.just("take"), st.tuples(st.integers(0, 2), st.integers(1, 9))),
        st.tuples(st.just("wait"), st.integers(0, 4)),
        st.tuples(st.just("fail"), st.sets(st.sampled_from(["append", "next", "remove"]))),
    ),
    min_size=3,
    max_size=30,
)


class Play:
    """Events with numbers, sent and handled, and what must be true of them."""

    def __init__(self, *, keys: str | None = "topic", only: tuple[str, ...] = POLICIES) -> None:
        self.only, self.numbers = only, itertools.count()
        self.routes = [RouteSpec("*", policy, keys, policy) for policy in POLICIES]
        self.sent: list[tuple[str, str]] = []
        """For each number, its key and its policy."""
        self.handled: list[int] = []
        self.sure = 0
        """How many of those sent are in a ring or on disk, or were dropped."""
        self.lost_with_memory: set[int] = set()
        self.may_repeat: set[int] = set()
        """What was handled when a run was killed, or ended with rows of an earlier one of which some workers had their part."""
        self.life = 0
        """The first number that this life of the io process has received."""
        self.marks: list[tuple[list[int], int]] = []

    async def step(self, bench: Bench, what: str, argument: Any) -> None:
        match what:
            case "send":
                self.send(bench, argument)
            case "take":
                worker, limit = argument
                self.take(bench, worker % len(bench.consumers), limit)
            case "wait":
                await asyncio.sleep(argument / 1000)
            case "fail":
                bench.disk.fails = argument
                bench.spiller._store_at = bench.spiller._fetch_at = bench.spiller._remove_at = 0.0
            case "kill":
                self.lost_with_memory.update(range(self.sure, len(self.sent)))
                bench.kill()
                bench.begin()
                await bench.start()
                self.begin_life()
        await asyncio.sleep(0)
        self.check(bench)

    def begin_life(self) -> None:
        self.life = self.sure = len(self.sent)
        self.marks.clear()

    def send(self, bench: Bench, batch: list[tuple[int, str, int]]) -> None:
        events = []
        for key, policy, size in batch:
            policy = policy if policy in self.only else self.only[0]
            topic, number = f"room:{key}", next(self.numbers)
            self.sent.append((topic, policy))
            events.append((topic, policy, msgspec.json.encode({"n": number, "k": topic, "x": "x" * size})))
        bench.send(*events)
        self.marks.append(([outlet.queued for outlet in bench.outlets], len(self.sent)))

    def take(self, bench: Bench, worker: int, limit: int = 1_000_000) -> None:
        for _, _, payload in bench.events(worker, limit):
            self.handled.append(msgspec.json.decode(payload)["n"])

    def check(self, bench: Bench) -> None:
        """Insist on what outlets say of themselves, which cursors count on."""
        for outlet in bench.outlets:
            assert outlet.committed <= outlet.safe <= outlet.queued
            assert len(outlet.held) <= 10_000
        if all(outlet.safe == outlet.queued for outlet in bench.outlets):
            self.sure = len(self.sent)
        handled = set(self.handled)
        for queued, count in self.marks:
            if all(outlet.committed >= mark for outlet, mark in zip(bench.outlets, queued, strict=True)):
                missing = (
                    {number for number in range(self.life, count) if self.sent[number][1] in SAFE} - handled - self.lost_with_memory
                )
                assert not missing, "what counts as committed is handled"

    async def finish(self, bench: Bench) -> None:
        bench.disk.fails = set()
        bench.spiller._store_at = bench.spiller._fetch_at = bench.spiller._remove_at = 0.0
        draining = asyncio.create_task(bench.dispatch.drain())
        async with asyncio.timeout(20):
            while not draining.done():
                for worker in range(len(bench.consumers)):
                    self.take(bench, worker, 3)
                await asyncio.sleep(0.001)
        for worker in range(len(bench.consumers)):
            self.take(bench, worker)
        await bench.end()
        for outlet in bench.outlets:
            assert outlet.committed == outlet.safe == outlet.queued

    def verdict(self) -> None:
        """Insist that all came that must, once, and in order for each key."""
        by_key, seen = defaultdict(list), set()
        for number in self.handled:
            if number in seen and number in self.may_repeat:
                continue
            assert number not in seen, "none twice"
            seen.add(number)
            by_key[self.sent[number][0]].append(number)
        for key, numbers in by_key.items():
            assert numbers == sorted(numbers), key
        missing = {number for number, (_, policy) in enumerate(self.sent) if policy in SAFE} - set(self.handled)
        assert missing <= self.lost_with_memory


def run(main: Any) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main()

    uvloop.run(limited())


@settings(max_examples=30, deadline=None)
@given(
    steps=steps,
    workers=st.integers(1, 3),
    pause_limit=st.sampled_from([0.0, 0.003, 30.0]),
    keys=st.sampled_from(["topic", "payload.k"]),
)
def test_every_policy_keeps_what_it_promises(steps: Any, workers: int, pause_limit: float, keys: str) -> None:
    """Of spill and block nothing is lost; what others drop is counted; the newest of each key comes; keys stay in order."""
    play, page = Play(keys=keys), Page.create(IO_COUNTERS)

    async def main() -> None:
        bench = Bench(page, play.routes, workers, disk=Disk(), pause_limit=pause_limit)
        try:
            await bench.start()
            for what, argument in steps:
                await play.step(bench, what, argument)
            await play.finish(bench)
            assert not bench.disk.rows, "what is handled does not stay on disk"
            assert bench.calls == ["pause", "resume"] * (len(bench.calls) // 2)
        finally:
            bench.close()

    try:
        run(main)
        dropped = {name: page.get(name) for name in DROPPED}
        assert (page.get("spill_backlog"), page.get("routed")) == (0, len(play.sent))
    finally:
        page.close()
    play.verdict()
    if not dropped["dropped_large"]:
        assert len(play.sent) == len(play.handled) + sum(dropped.values())
        newest = {key: number for number, (key, policy) in enumerate(play.sent) if policy == "latest"}
        if not dropped["dropped_latest"]:
            assert set(newest.values()) <= set(play.handled)


@settings(max_examples=30, deadline=None)
@given(steps=steps, workers=st.integers(1, 3))
def test_policies_that_drop_never_pause(steps: Any, workers: int) -> None:
    """However slow the workers are, reading goes on; what is in memory is bounded by the queues."""
    play, page = Play(only=("drop_oldest", "drop_newest", "latest")), Page.create(IO_COUNTERS)

    async def main() -> None:
        bench = Bench(page, play.routes, workers, disk=Disk())
        try:
            await bench.start()
            for what, argument in steps:
                if what != "fail":
                    await play.step(bench, what, argument)
            assert bench.calls == []
            await play.finish(bench)
        finally:
            bench.close()

    try:
        run(main)
        assert len(play.sent) == len(play.handled) + sum(page.get(name) for name in DROPPED)
    finally:
        page.close()
    play.verdict()


kills = st.lists(
    st.one_of(
        st.tuples(st.just("send"), batches),
        st.tuples(st.just("take"), st.tuples(st.integers(0, 2), st.integers(1, 9))),
        st.tuples(st.just("wait"), st.integers(0, 4)),
        st.tuples(st.just("kill"), st.none()),
    ),
    min_size=3,
    max_size=30,
)


@settings(max_examples=30, deadline=None)
@given(steps=kills, workers=st.integers(1, 3))
def test_successor_of_a_killed_io_process_loses_nothing_that_was_safe(steps: Any, workers: int) -> None:
    """What was in a ring or on disk comes once and in order, however often it is killed; only what was in memory may be gone."""
    play, page = Play(only=SAFE), Page.create(IO_COUNTERS)

    async def main() -> None:
        bench = Bench(page, play.routes, workers, disk=Disk(), pause_limit=0.0)
        try:
            await bench.start()
            for what, argument in steps:
                await play.step(bench, what, argument)
            await play.finish(bench)
            assert not bench.disk.rows
        finally:
            bench.close()

    try:
        run(main)
    finally:
        page.close()
    play.verdict()


@settings(max_examples=30, deadline=None)
@given(
    lives=st.lists(st.tuples(kills, st.integers(1, 3)), min_size=2, max_size=3),
    in_peace=st.booleans(),
)
def test_next_run_goes_on_where_the_last_one_ended(lives: Any, in_peace: bool) -> None:
    """What was spilled and not handled comes first and in order, to however many workers there are now."""
    play, disk = Play(only=("spill",)), Disk()

    async def main() -> None:
        for number, (steps, workers) in enumerate(lives, 1):
            page = Page.create(IO_COUNTERS)
            bench = Bench(page, play.routes, workers, disk=disk, pause_limit=0.0, run=number)
            try:
                await bench.start()
                for what, argument in steps:
                    await play.step(bench, what, argument)
                if number == len(lives):
                    await play.finish(bench)
                    assert not disk.rows
                    continue
                if in_peace:
                    await bench.end()
                else:
                    bench.kill()
                    play.lost_with_memory.update(range(play.sure, len(play.sent)))
                if not in_peace or ("kill", None) in steps or number > 1:
                    play.may_repeat.update(play.handled)
                play.lost_with_memory.update(in_ring(bench))
                play.begin_life()
            finally:
                bench.close()
                page.close()

    run(main)
    play.verdict()


def in_ring(bench: Bench) -> list[int]:
    """Return the numbers of the events in the rings, which go with the run."""
    records = [record for consumer in bench.consumers for record in consumer.poll(1_000_000)]
    return [msgspec.json.decode(payload)["n"] for record in records for _, _, payload in bench.read(record)]
