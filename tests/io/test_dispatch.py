"""From the core's messages to the workers' rings: one record a worker and batch, and nothing lost when a ring is full."""

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.control import RouteSpec
from rig.counters import IO_COUNTERS, Page
from rig.io.names import NAMES_KEPT
from rig.io.outlet import Outlet
from rig.records import Kind
from rig.routing import shard
from tests.io.outlets import ALL, CAPACITY, LARGEST, Bench, Event, binary, counts

Make = Callable[..., Bench]


@pytest.fixture
def make(page: Page) -> Iterator[Make]:
    benches: list[Bench] = []

    def make(routes: list[RouteSpec] = ALL, workers: int = 1) -> Bench:
        benches.append(Bench(page, routes, workers))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def test_batch_is_one_record_per_worker(make: Make, page: Page, run: Callable[..., None]) -> None:
    """Each worker gets its events of a batch as one record, in order, and one ring of its doorbell."""

    async def main() -> None:
        bench = make(workers=3)
        events = [(f"room:{n % 9}", "tick" if n % 2 else "tock", b"%d" % n) for n in range(50)]
        bench.send(*events)
        for worker in range(3):
            (record,) = bench.records(worker)
            assert (record.kind, bench.bells[worker].clear()) == (Kind.EVENTS, 1)
            assert bench.read(record) == [event for event in events if shard(event[0].encode(), 3) == worker]
            assert record.time_ns > 0

    run(main)
    assert counts(page, "received", "routed", "unrouted", "pauses", "batches") == [50, 50, 0, 0, 1]


def test_worker_without_an_event_is_left_alone(make: Make, run: Callable[..., None]) -> None:
    """A batch that has nothing for a worker neither writes to its ring nor wakes it."""

    async def main() -> None:
        bench = make(workers=2)
        bench.send(("room:1", "tick", b"1"))
        other = 1 - shard(b"room:1", 2)
        assert (bench.records(other), bench.bells[other].clear()) == ([], 0)

    run(main)


def test_binary_batch_travels_as_bytes(make: Make, run: Callable[..., None]) -> None:
    """A batch of binary frames is a record of its own kind."""

    async def main() -> None:
        bench = make()
        bench.dispatch.dispatch([binary("a", "b", b"\x00\xff"), binary("a", "c", b"")], binary=True)
        (record,) = bench.records()
        assert record.kind == Kind.EVENTS_BINARY
        assert bench.read(record) == [("a", "b", b"\x00\xff"), ("a", "c", b"")]

    run(main)


def test_events_that_nobody_wants_are_counted(make: Make, page: Page, run: Callable[..., None]) -> None:
    """They are not written to any ring, and the sum of the counters holds."""

    async def main() -> None:
        bench = make([RouteSpec("room:*", "tick", "topic")])
        bench.send(("room:1", "tick", b"1"), ("room:1", "tock", b"2"), ("lobby", "tick", b"3"))
        assert bench.events() == [("room:1", "tick", b"1")]

    run(main)
    assert counts(page, "received", "routed", "unrouted") == [3, 1, 2]


def test_events_go_by_a_field_or_in_turn(make: Make, run: Callable[..., None]) -> None:
    """With a payload key an event goes to the worker of its field; without order the workers take turns."""

    async def main() -> None:
        bench = make([RouteSpec("room:*", "tick", "payload.id"), RouteSpec("any", "*", None)], 2)
        keyed = [("room:1", "tick", b'{"id":%d}' % (n % 5)) for n in range(40)]
        bench.send(*keyed)
        for worker in range(2):
            assert bench.events(worker) == [e for e in keyed if shard(e[2][6:-1], 2) == worker]
        bench.send(*(("any", "x", b"%d" % n) for n in range(10)))
        assert [len(bench.events(worker)) for worker in range(2)] == [5, 5]

    run(main)


def test_names_are_numbered_over_many_batches(make: Make, run: Callable[..., None]) -> None:
    """However the names of earlier batches are kept, each record can be read by itself."""

    async def main() -> None:
        bench = make()
        chance = random.Random(1)
        for size in (1, 40, 3, 200, 1, 600, 2, 40, 700, 5):
            events = [(f"room:{chance.randint(0, 900)}", chance.choice("abc"), b"%d" % n) for n in range(size)]
            bench.send(*events)
            assert bench.events() == events

    run(main)


def test_names_are_not_kept_without_end(make: Make, run: Callable[..., None]) -> None:
    """A server that makes up names makes neither records nor the io process grow."""

    async def main() -> None:
        bench = make()
        for number in range(3_000):
            bench.send((f"room:{number}", "tick", b"1"))
            (record,) = bench.records()
            assert len(record.payload) < 100
            assert len(bench.outlets[0].names) <= NAMES_KEPT + 1

    run(main)


def test_payloads_are_not_kept(make: Make, run: Callable[..., None]) -> None:
    """Once it is published, a batch is held by nobody."""

    async def main() -> None:
        bench = make()
        bench.send(*((f"room:{n}", "tick", b"1") for n in range(9)))
        outlet = bench.outlets[0]
        assert (outlet.numbers, outlet.payloads) == ([], [])

    run(main)


def test_batch_is_cut_to_fit_the_ring(make: Make, page: Page, run: Callable[..., None]) -> None:
    """A batch that is larger than a record may be goes as several, in order."""

    async def main() -> None:
        bench = make()
        events = [(f"room:{n}", "tick", b'"%b"' % (b"x" * 900)) for n in range(40)]
        bench.send(*events)
        records = bench.records()
        assert len(records) > 1
        assert all(len(record.payload) <= LARGEST for record in records)
        assert [event for record in records for event in bench.read(record)] == events

    run(main)
    assert counts(page, "routed", "dropped_large") == [40, 0]


def test_event_too_large_for_the_ring_is_counted_where_nothing_can_store_it(
    make: Make, page: Page, run: Callable[..., None]
) -> None:
    """It is dropped and counted, and the events beside it arrive in order."""

    async def main() -> None:
        bench = make()
        await bench.start()
        small = [("room:1", "tick", b"%d" % n) for n in range(4)]
        bench.send(small[0], small[1], ("room:1", "tick", b'"%b"' % (b"x" * LARGEST)), small[2], small[3])
        bench.dispatch.dispatch([binary("room:1", "tick", b"x" * LARGEST)], binary=True)
        await bench.dispatch.drain()
        assert bench.events() == small
        await bench.end()

    run(main)
    assert counts(page, "received", "routed", "dropped_large") == [6, 6, 2]


def test_event_that_just_fits_is_not_too_large(make: Make, page: Page, run: Callable[..., None]) -> None:
    """The names that other events have used do not count against an event."""

    async def main() -> None:
        bench = make()
        bench.send(*((f"room:{n}", "a long name of an event" * 4, b"1") for n in range(60)))
        bench.records()
        overhead = len(b'[["t","e"],[0],[""]]')
        event = ("t", "e", b'"%b"' % (b"x" * (LARGEST - overhead)))
        bench.send(event)
        assert bench.events() == [event]
        bench.send(("t", "e", event[2][:-1] + b'x"'))
        assert bench.events() == []
        assert bench.outlets[0].backlog.for_the_store

    run(main)


def fill(bench: Bench, size: int = 4_000) -> list[Event]:
    """Send events until reading is paused, then some more that were read already; return all of them."""
    sent: list[Event] = []
    while not bench.calls:
        sent.append(("room:1", "tick", b'"%05d%b"' % (len(sent), b"x" * size)))
        bench.send(sent[-1])
    for _ in range(5):
        sent.append(("room:1", "tick", b'"%05d"' % len(sent)))
        bench.send(sent[-1])
    return sent


def test_full_ring_pauses_reading_once(make: Make, page: Page, run: Callable[..., None]) -> None:
    """What comes after it waits in order; reading goes on when the ring is at most half full, and nothing is lost."""

    async def main() -> None:
        bench = make()
        sent = fill(bench)
        await asyncio.sleep(0.01)
        assert bench.calls == ["pause"]
        assert bench.outlets[0].full

        got: list[Event] = []
        while bench.calls == ["pause"]:
            for record in bench.records(limit=1):
                got += bench.read(record)
            await asyncio.sleep(0.003)
        assert bench.memories[0].used_bytes <= CAPACITY // 2
        assert bench.calls == ["pause", "resume"]
        assert not bench.outlets[0].full
        assert got + bench.events() == sent

    run(main)
    assert page.get("pauses") == 1


def test_reading_stays_paused_while_the_ring_is_more_than_half_full(make: Make, run: Callable[..., None]) -> None:
    """Room for what waits is not enough: else reading would stop and go at every record."""

    async def main() -> None:
        bench = make()
        fill(bench, size=1_000)
        while bench.outlets[0].full:
            bench.records(limit=1)
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.01)
        assert bench.memories[0].used_bytes > CAPACITY // 2
        assert bench.calls == ["pause"]
        bench.records()
        await bench.resumed.wait()

    run(main)


def test_one_full_ring_holds_up_all(make: Make, run: Callable[..., None]) -> None:
    """There is one socket: reading goes on only when every ring has room, and no worker misses an event meanwhile."""

    async def main() -> None:
        bench = make(workers=2)
        full, other = shard(b"room:1", 2), 1 - shard(b"room:1", 2)
        topic = next(f"room:{n}" for n in range(99) if shard(f"room:{n}".encode(), 2) == other)
        sent = fill(bench)
        bench.send((topic, "tick", b"1"))
        assert bench.events(other) == [(topic, "tick", b"1")]
        await asyncio.sleep(0.005)
        assert bench.calls == ["pause"]
        got: list[Event] = []
        while bench.calls == ["pause"]:
            got += bench.events(full)
            await asyncio.sleep(0.001)
        assert got + bench.events(full) == sent

    run(main)


@pytest.mark.parametrize("full", [0, 1])
def test_any_full_ring_pauses(make: Make, run: Callable[..., None], full: int) -> None:
    """One batch for two workers pauses reading, whichever of their rings it fills."""

    async def main() -> None:
        bench = make(workers=2)
        homes = {shard(f"room:{n}".encode(), 2): f"room:{n}" for n in range(99)}
        bench.send((homes[1 - full], "tick", b"1"), *((homes[full], "tick", b'"%b"' % (b"x" * 5_000)) for _ in range(20)))
        assert bench.calls == ["pause"]
        while not bench.resumed.is_set():
            bench.records(full)
            await asyncio.sleep(0.001)

    run(main)


def test_worker_is_woken_for_what_fits(make: Make, run: Callable[..., None]) -> None:
    """When only the beginning of a batch has room, the doorbell rings all the same: else nobody would make room."""

    async def main() -> None:
        bench = make()
        bench.send(*(("room:1", "tick", b'"%b"' % (b"x" * 5_000)) for _ in range(20)))
        assert bench.outlets[0].full
        assert bench.bells[0].clear() == 1
        while not bench.resumed.is_set():
            bench.records()
            await asyncio.sleep(0.001)

    run(main)


def test_reading_can_be_paused_again(make: Make, page: Page, run: Callable[..., None]) -> None:
    """Each time that a ring fills up, reading pauses once and resumes once."""

    async def main() -> None:
        bench = make()
        for _ in range(3):
            bench.calls.clear()
            sent = fill(bench)
            got: list[Event] = []
            while bench.calls != ["pause", "resume"]:
                got += bench.events()
                await asyncio.sleep(0.001)
            assert got + bench.events() == sent

    run(main)
    assert page.get("pauses") == 3


def test_drain_of_nothing_is_done_at_once(make: Make, page: Page, run: Callable[..., None]) -> None:
    """Where no event waits, the rings have all; what comes later is counted as late."""

    async def main() -> None:
        bench = make()
        bench.send(("room:1", "tick", b"1"))
        async with asyncio.timeout(0.5):
            await bench.dispatch.drain()
        bench.send(("room:1", "tick", b"2"), ("room:1", "tick", b"3"))
        assert bench.events() == [("room:1", "tick", b"1")]

    run(main)
    assert counts(page, "received", "routed", "late") == [3, 1, 2]


@pytest.mark.parametrize("pauses_before", [0, 1])
def test_drain_waits_for_what_waits_for_room(make: Make, run: Callable[..., None], pauses_before: int) -> None:
    """A drain is done when everything taken is in the rings, also if reading was paused before: else it would be lost."""

    async def main() -> None:
        bench = make()
        for _ in range(pauses_before):
            fill(bench)
            while bench.calls != ["pause", "resume"]:
                bench.records()
                await asyncio.sleep(0.001)
            bench.records()
            bench.calls.clear()
        sent = fill(bench)
        draining = asyncio.create_task(bench.dispatch.drain())
        await asyncio.sleep(0.01)
        assert not draining.done()
        got: list[Event] = []
        while not draining.done():
            for record in bench.records(limit=1):
                got += bench.read(record)
            await asyncio.sleep(0.001)
        assert not bench.outlets[0].full
        assert got + bench.events() == sent

    run(main)


def test_drain_does_not_wait_for_the_ring_to_empty(make: Make, run: Callable[..., None]) -> None:
    """What is in the ring is in the hands of the worker: a drain needs no half empty ring."""

    async def main() -> None:
        bench = make()
        fill(bench, size=1_000)
        draining = asyncio.create_task(bench.dispatch.drain())
        while bench.outlets[0].full:
            bench.records(limit=1)
            await asyncio.sleep(0.002)
        async with asyncio.timeout(0.5):
            await draining
        assert bench.memories[0].used_bytes > CAPACITY // 2

    run(main)


def test_successor_wakes_the_workers(make: Make, run: Callable[..., None]) -> None:
    """An io process that dies between the record and the doorbell leaves the ringing to its successor."""

    async def main() -> None:
        bench = make()
        Outlet(bench.memories[0], bench.bells[0])
        assert bench.bells[0].clear() == 1

    run(main)


batches = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["a", "b"]), st.integers(0, 5_000)), min_size=1, max_size=25),
    min_size=1,
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(batches=batches, workers=st.integers(1, 3), patience=st.integers(0, 4), key=st.sampled_from(["topic", "payload.k", None]))
def test_slow_consumers_lose_nothing(batches: Any, workers: int, patience: int, key: str | None) -> None:
    """Whatever the sizes, and however slowly workers read, every event arrives once, and in order for its key."""
    page = Page.create(IO_COUNTERS)
    keys = [topic for batch in batches for topic, _, _ in batch]

    async def main() -> tuple[Bench, list[list[int]]]:
        bench = Bench(page, [RouteSpec("*", "*", key)], workers)
        try:
            return bench, await play(bench, batches, patience)
        finally:
            bench.close()

    try:
        bench, got = uvloop.run(main())
        assert page.get("routed") == len(keys)
    finally:
        page.close()
    assert sorted(number for numbers in got for number in numbers) == list(range(len(keys)))
    homes = defaultdict(set)
    for worker, numbers in enumerate(got):
        for topic in set(keys):
            own = [number for number in numbers if keys[number] == topic]
            assert own == sorted(own)
            homes[topic].update([worker] if own else [])
    assert key is None or all(len(home) == 1 for home in homes.values())
    assert bench.calls == ["pause", "resume"] * (len(bench.calls) // 2)


async def play(bench: Bench, batches: Any, patience: int) -> list[list[int]]:
    """Send batches to workers that read one record now and then, drain, and return the numbers that each worker got."""
    got: list[list[int]] = [[] for _ in bench.consumers]
    numbers = itertools.count()

    def take(limit: int) -> None:
        for worker, numbers in enumerate(got):
            for record in bench.records(worker, limit):
                numbers += [msgspec.json.decode(payload)["n"] for _, _, payload in bench.read(record)]

    for index, batch in enumerate(batches, 1):
        values = [(topic, event, {"n": next(numbers), "k": topic, "x": "x" * size}) for topic, event, size in batch]
        bench.send(*((f"room:{topic}", event, msgspec.json.encode(value)) for topic, event, value in values))
        if patience and index % patience == 0:
            take(1)
        await asyncio.sleep(0)
    draining = asyncio.create_task(bench.dispatch.drain())
    while not draining.done():
        take(2)
        await asyncio.sleep(0.001)
    take(1_000_000)
    return got


@pytest.mark.parametrize("topic", ["room:0", "room:4"])  # one for each worker
def test_record_without_events_goes_behind_what_was_received(make: Make, page: Page, topic: str, run: Callable[..., None]) -> None:
    """In the ring of the topic's worker, even where earlier events still wait for room; after a drain it is not wanted."""

    async def main() -> None:
        bench = make(workers=2)
        worker = shard(topic.encode(), 2)
        for number in range(20):
            bench.send(*[(topic, "tick", b'"%b"' % (b"x" * 4000))])
            bench.dispatch.announce(topic, b"%d" % number, Kind.GAP)
        assert bench.calls == ["pause"]
        seen = bench.records(worker)
        while len(seen) < 40:
            seen += bench.records(worker)
            await asyncio.sleep(0.002)
        assert [record.kind for record in seen] == [Kind.EVENTS, Kind.GAP] * 20
        assert [record.payload for record in seen[1::2]] == [b"%d" % number for number in range(20)]
        assert {record.count for record in seen[1::2]} == {0}
        assert bench.records(1 - worker) == []
        await bench.dispatch.drain()
        bench.dispatch.announce(topic, b"late", Kind.GAP)
        assert bench.records(worker) == []

    run(main)
    assert counts(page, "received", "routed", "unrouted") == [20, 20, 0]


def test_outlet_counts_records_on_their_way(make: Make, run: Callable[..., None]) -> None:
    """Given, in the ring, committed: in this order, and each in the end as many as the others."""

    async def main() -> None:
        bench = make()
        (outlet,) = bench.outlets
        for number in range(30):
            bench.send(("room:1", "tick", b'"%b"' % (b"x" * 4000)))
            assert outlet.queued == number + 1
        assert 0 < outlet.safe < 30
        assert outlet.committed == 0
        in_ring = outlet.safe
        assert len(bench.records()) == in_ring == outlet.committed
        while outlet.committed < 30:
            outlet.flush()
            bench.records()
            assert outlet.committed <= outlet.safe <= outlet.queued == 30
        await bench.resumed.wait()

    run(main)
