"""One worker's outlet: what it is given leaves in order, whatever it waits in; and what it says of where things are."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from rig.control import RouteSpec
from rig.counters import Page
from rig.io.backlog import WHOLE
from rig.records import Kind, decode_stored
from rig.ring import Producer
from tests.io.outlets import CAPACITY, LARGEST, Bench, Disk, Event, binary

POLICIES = ("spill", "block", "drop_oldest", "drop_newest", "latest")
ROUTES = [RouteSpec("*", policy, "topic", policy) for policy in POLICIES]  # type: ignore[arg-type]


@pytest.fixture
def make(page: Page) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**options: Any) -> Bench:
        benches.append(Bench(page, ROUTES, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def event(policy: str, number: int, size: int = 0, topic: str = "room:1") -> Event:
    return (topic, policy, msgspec.json.encode({"n": number, "x": "x" * size}))


def numbers(events: list[Event]) -> list[int]:
    return [msgspec.json.decode(payload)["n"] for _, _, payload in events]


def fill(bench: Bench) -> int:
    """Fill the ring of the only worker with large records, and return how many those are."""
    number = 0
    while not bench.outlets[0].waits:
        bench.send(event("spill", number, LARGEST - 100))
        number += 1
    return number


def take_all(bench: Bench) -> list[int]:
    """Read and flush in turn, until nothing waits in memory."""
    got: list[int] = []
    while bench.outlets[0].waits or bench.consumers[0].pending:
        got += numbers(bench.events(limit=1))
        bench.outlets[0].flush()
    return got


def test_policies_share_an_outlet_in_order(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """Events of one topic keep their order while some of them are lossless, some held, and some dropped."""

    async def main() -> None:
        bench = make()
        first = fill(bench)
        policies = ["drop_oldest", "spill", "latest", "drop_oldest", "spill", "drop_newest", "latest", "spill"]
        bench.send(*(event(policy, first + index) for index, policy in enumerate(policies)))

        got = take_all(bench)
        assert got[: first + 2] == list(range(first + 2))
        assert [number - first for number in got[first:]] == [0, 1, 3, 4, 6, 7], "2 was replaced by 6, and 5 found no room"

    run(main)


@pytest.mark.parametrize("between", ["spill", "block"])
def test_latest_does_not_overtake_what_must_not_be_lost(make: Callable[..., Bench], run: Callable[..., None], between: str) -> None:
    """Two policies may be of one topic: the newer event comes after what came before it."""

    async def main() -> None:
        bench = make()
        first = fill(bench)
        bench.send(*(event(policy, first + index) for index, policy in enumerate(("latest", between, "latest"))))
        assert take_all(bench)[first:] == [first + 1, first + 2]

    run(main)


def test_events_are_dropped_only_when_the_ring_has_no_room(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """Up to the last record that fits, every policy is the same."""

    async def main() -> None:
        bench = make()
        for number, policy in enumerate(POLICIES):
            bench.send(event(policy, number, LARGEST - 100))
        assert numbers(bench.events()) == [0, 1, 2, 3, 4]
        assert not bench.outlets[0].take_dropped()

    run(main)


def test_dropped_newest_is_counted_where_nothing_waits(make: Callable[..., Bench], page: Page, run: Callable[..., None]) -> None:
    """A full ring alone is enough: the event is gone, said and counted, though no queue has anything."""

    async def main() -> None:
        bench = make()
        for number in range(20):
            bench.send(event("drop_newest", number, LARGEST - 100))
        assert not bench.outlets[0].waits
        got = numbers(bench.events())
        assert got == list(range(len(got)))
        assert page.get("dropped_newest") == 20 - len(got) > 0

    run(main)


def test_large_event_makes_no_other_drop(make: Callable[..., Bench], page: Page, run: Callable[..., None]) -> None:
    """While it waits for the disk and the worker has room, what comes behind it waits with it, whatever its policy."""

    async def main() -> None:
        bench = make(disk=Disk())
        await bench.start()
        bench.send(event("latest", 0, LARGEST))
        for number, policy in enumerate(POLICIES, 1):
            bench.send(event(policy, number))
        await bench.dispatch.drain()
        assert numbers(bench.events()) == [0, 1, 2, 3, 4, 5]
        assert bench.calls == []
        await bench.end()

    run(main)
    assert [page.get(name) for name in ("dropped_newest", "dropped_latest", "dropped_oldest", "dropped_large")] == [0, 0, 0, 0]


def test_what_is_read_from_the_disk_counts_as_room(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """The ring's records of large events are small: still no more of those are open than would fit the ring, but one at least."""

    async def main() -> None:
        disk = Disk()
        bench = make(disk=disk, overflow="spill", pause_limit=0.0)
        await bench.start()
        bench.send(*(event("spill", number, CAPACITY // 3) for number in range(7)), event("spill", 7, 2 * CAPACITY))
        while len(disk.rows) < 8:
            await bench_turn(bench)
        assert bench.memories[0].used_bytes < 200
        rows = []
        for _ in range(8):
            records = bench.consumers[0].poll(9)
            rows.append([decode_stored(record.payload)[0] for record in records])
            assert all(record.kind == Kind.STORED for record in records)
            bench.consumers[0].commit(records[-1])
            await bench_turn(bench)
            if sum(map(len, rows)) == 8:
                break
        assert [len(some) for some in rows] == [2, 2, 2, 1, 1]
        assert [row for some in rows for row in some] == sorted(row for some in rows for row in some)
        await bench.end()

    run(main)


async def bench_turn(bench: Bench) -> None:
    """Let the store remove what is committed, and fetch what has room."""
    for _ in range(5):
        bench.spiller._remove_at = 0.0
        bench.overflow.look()
        await asyncio.sleep(0.002)


def test_positions_say_what_is_safe_and_what_is_committed(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """Three numbers that only grow: given, in the ring or on disk, and done with by the worker."""

    async def main() -> None:
        disk = Disk()
        bench = make(disk=disk, overflow="spill", pause_limit=0.0)
        await bench.start()
        [outlet] = bench.outlets

        def positions() -> tuple[int, int, int]:
            return outlet.queued, outlet.safe, outlet.committed

        assert positions() == (0, 0, 0)
        bench.send(event("spill", 0), event("spill", 1))
        bench.send(event("spill", 2))
        assert positions() == (2, 2, 0)
        bench.events(limit=1)
        assert positions() == (2, 2, 1)
        count = fill(bench)
        assert positions() == (2 + count, 1 + count, 1), "the last is only in memory"
        while disk.appended == 0:
            await bench_turn(bench)
        assert positions() == (2 + count, 2 + count, 1), "now it is on disk"
        await drain(bench)
        assert positions() == (2 + count, 2 + count, 2 + count)

    run(main)


async def drain(bench: Bench) -> None:
    while bench.outlets[0].waits or bench.consumers[0].pending:
        bench.events()
        await bench_turn(bench)
    await bench.end()


def test_dropped_events_hold_up_no_position(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """What was dropped counts as done with, once all before it is."""

    async def main() -> None:
        bench = make()
        [outlet] = bench.outlets
        fill(bench)
        for number in range(300):
            bench.send(event("drop_oldest", number, 4_000), event("latest", number, 9), event("drop_newest", number, 9))
        assert outlet.safe < outlet.queued
        take_all(bench)

        assert outlet.queued == outlet.safe == outlet.committed

    run(main)


def test_record_of_its_own_kind_stands_in_line(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """What is no batch of events goes behind those that were published before, and is never dropped."""

    async def main() -> None:
        bench = make()
        [outlet] = bench.outlets
        assert not outlet.send(b"first", Kind.RESET, time_ns=1)
        fill(bench)
        assert outlet.send(b"last", Kind.RESET, time_ns=1)
        kinds = []
        while outlet.waits or bench.consumers[0].pending:
            kinds += [(record.kind, record.count) for record in bench.records(limit=1)]
            outlet.flush()
        assert [kinds[0], kinds[-1]] == [(Kind.RESET, 0)] * 2
        assert {kind for kind, _ in kinds[1:-1]} == {Kind.EVENTS}
        assert outlet.committed == outlet.queued

    run(main)


def test_held_text_and_bytes_do_not_mix(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """A record is of one kind of frame; the order over both holds."""

    async def main() -> None:
        bench = make()
        first = fill(bench)
        for number in range(6):
            if number % 3:
                bench.send(event("drop_oldest", number))
            else:
                bench.dispatch.dispatch([binary("room:1", "drop_oldest", b"%d" % number)], binary=True)
        kinds = []
        got: list[int] = []
        while bench.outlets[0].waits or bench.consumers[0].pending:
            for record in bench.records(limit=1):
                kinds.append(record.kind)
                for _, _, payload in bench.read(record):
                    value = msgspec.json.decode(payload)
                    got.append(value if isinstance(value, int) else value["n"])
            bench.outlets[0].flush()
        assert got[first:] == [0, 1, 2, 3, 4, 5]
        assert kinds[first:] == [Kind.EVENTS_BINARY, Kind.EVENTS] * 2

    run(main)


def test_committed_ends_are_forgotten(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """Nobody may ever ask what is committed: what is kept for the answer is bounded all the same."""

    async def main() -> None:
        bench = make()
        for number in range(3_000):
            bench.send(event("spill", number))
            bench.events()
        assert len(bench.outlets[0]._ends) < 300
        assert bench.outlets[0].committed == 3_000

    run(main)


def test_successor_knows_the_newest_row_in_the_ring(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """The note is in the ring's memory."""

    async def main() -> None:
        bench = make()
        Producer(bench.memories[0]).put(b"", kind=1, note=41 * (WHOLE + 1) + 3)
        bench.begin()
        assert bench.outlets[0].note == (41, 3)

    run(main)
