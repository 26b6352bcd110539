"""What an earlier run left in spill.db, and how this run hands it on."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from rig.control import RouteSpec
from rig.counters import Page
from rig.gap import Gap
from rig.io.owner import Owner
from rig.io.remains import events_of
from rig.records import Kind, encode_events, encode_gap, encode_names, encode_spilled
from rig.store import SpillRow
from tests.io.outlets import ALL, LARGEST, RUN, Bench, Disk, Event
from tests.running import until

EARLIER = Owner(RUN + 1, 0, 1)


@pytest.fixture
def make(page: Page) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(disk: Disk, routes: list[RouteSpec] = ALL, **options: Any) -> Bench:
        benches.append(Bench(page, routes, disk=disk, overflow="spill", **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def leave(disk: Disk, worker: int, *events: Event, binary: bool = False, owner: Owner = EARLIER) -> None:
    """Leave a row, as a worker of an earlier run would have got it."""
    pairs = list(dict.fromkeys((topic, event) for topic, event, _ in events))
    names = encode_names([name for pair in pairs for name in pair])
    numbers = [pairs.index((topic, event)) for topic, event, _ in events]
    record = encode_events(names, numbers, [payload for _, _, payload in events], binary=binary)
    kind = Kind.EVENTS_BINARY if binary else Kind.EVENTS
    put(disk, SpillRow(owner.address(worker), kind, len(events), 10**18, encode_spilled(7, record)))


def put(disk: Disk, row: SpillRow) -> None:
    disk.last += 1
    disk.rows[disk.last] = msgspec.structs.replace(row, id=disk.last)


def events(topic: str, *numbers: int) -> list[Event]:
    return [(topic, "tick", b"%d" % number) for number in numbers]


async def rest(bench: Bench) -> list[list[Event]]:
    """Drain, and return what each worker gets."""
    got: list[list[Event]] = [[] for _ in bench.consumers]
    draining = asyncio.create_task(bench.dispatch.drain())
    async with asyncio.timeout(5):
        while not draining.done():
            for worker in range(len(got)):
                got[worker] += bench.events(worker, 2)
            await asyncio.sleep(0.001)
    for worker in range(len(got)):
        got[worker] += bench.events(worker)
    return got


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_are_dispatched_anew(make: Callable[..., Bench], page: Page, run: Callable[..., None], workers: int) -> None:
    """Whichever worker they were for, their events go where their keys belong now, before what has come since."""

    async def main() -> None:
        disk = Disk()
        leave(disk, 0, *events("a", 1, 2), *events("b", 3))
        leave(disk, 5, *events("c", 4))
        leave(disk, 0, ("a", "tick", b"\x00"), binary=True)
        leave(disk, 5, *events("c", 5), *events("d", 6))
        bench = make(disk, workers=workers)
        await bench.start()
        bench.send(*events("a", 7), *events("c", 8), *events("d", 9))
        got = await rest(bench)
        for topic, payloads in {"a": [b"1", b"2", b"\x00", b"7"], "b": [b"3"], "c": [b"4", b"5", b"8"], "d": [b"6", b"9"]}.items():
            [home] = [worker for worker in got if any(one[0] == topic for one in worker)]
            assert [payload for name, _, payload in home if name == topic] == payloads
        await bench.end()
        assert not disk.rows

    run(main)
    assert [page.get(name) for name in ("recovered", "routed", "received", "spill_backlog")] == [7, 10, 3, 0]


def test_event_that_nobody_wants_any_more_is_counted(make: Callable[..., Bench], page: Page, run: Callable[..., None]) -> None:
    """A handler may be gone since; its events are unrouted, as live ones would be, and their row goes with the others."""

    async def main() -> None:
        disk = Disk()
        leave(disk, 0, ("a", "gone", b"1"), ("a", "tick", b"2"))
        leave(disk, 0, ("a", "gone", b"3"))
        bench = make(disk, [RouteSpec("*", "tick", "topic")])
        await bench.start()
        assert await rest(bench) == [[("a", "tick", b"2")]]
        await bench.end()
        assert not disk.rows

    run(main)
    assert [page.get(name) for name in ("recovered", "routed", "unrouted")] == [3, 1, 2]


def test_it_can_be_told_before_it_is_handed_on(make: Callable[..., Bench], said: list[Any], run: Callable[..., None]) -> None:
    """Every record of events that can have cursors, until nobody wants to know more; what cannot be read keeps back no other."""

    async def main() -> None:
        disk = Disk()
        leave(disk, 0, *events("a", 1, 2))
        put(disk, SpillRow(EARLIER.address(0), Kind.EVENTS, 5, 0, b"1234567"))
        put(disk, SpillRow(EARLIER.address(0), Kind.EVENTS, 5, 0, encode_spilled(1, b'[["a"],[0],[1]]')))
        leave(disk, 0, ("a", "tick", b"\x00"), binary=True)
        leave(disk, 5, *events("a", 3))
        leave(disk, 5, *events("a", 4))
        bench = make(disk)
        told: list[bytes] = []

        def note(record: bytes) -> bool:
            told.extend(bytes(payload) for _, _, payload in events_of(record))
            return b"3" not in told

        await bench.spiller.start(bench.overflow.look, note)
        assert told == [b"1", b"2", b"3"]
        got = await rest(bench)
        assert [payload for _, _, payload in got[0]] == [b"1", b"2", b"\x00", b"3", b"4"]
        await bench.end()

    run(main)


def test_nothing_counts_as_committed_while_something_is_left(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """A cursor that a replay has brought beyond it is not saved before it is handled."""

    async def main() -> None:
        disk = Disk()
        leave(disk, 0, *events("a", 1))
        bench = make(disk)
        await bench.start()
        outlet = bench.outlets[0]
        assert (outlet.queued, outlet.safe, outlet.committed) == (1, 1, 0)
        assert await rest(bench) == [events("a", 1)]
        assert outlet.committed == 1
        await bench.end()

    run(main)


def test_row_waits_for_the_worker_that_is_not_done_with_it(
    make: Callable[..., Bench], said: list[Any], run: Callable[..., None]
) -> None:
    """It stays on disk when the last of all is handed on, and goes when that worker has committed it."""

    async def main() -> None:
        disk = Disk()
        leave(disk, 0, *events("a", 1))
        bench = make(disk)
        await bench.start()
        await until(lambda: "what an earlier run had left is handed on" in [line["event"] for line in said])
        bench.spiller._remove_at = 0.0
        bench.spiller.wake()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(disk.rows) == 1
        assert await rest(bench) == [events("a", 1)]
        await bench.end()
        assert not disk.rows

    run(main)


def test_row_that_cannot_be_read_is_given_up(
    make: Callable[..., Bench], page: Page, said: list[Any], run: Callable[..., None]
) -> None:
    """It is said with the number of events, and holds up nothing."""

    async def main() -> None:
        disk = Disk()
        for kind, record in (
            (Kind.EVENTS, b"1234567"),
            (Kind.EVENTS, encode_spilled(1, b"[[")),
            (99, encode_spilled(1, b"{}")),
            (Kind.EVENTS, encode_spilled(1, b'[["a"],[0],[1]]')),
            (Kind.EVENTS, encode_spilled(1, b"[[1],[0],[1]]")),
        ):
            put(disk, SpillRow(EARLIER.address(0), kind, 5, 0, record))
        leave(disk, 0, *events("a", 1))
        bench = make(disk)
        await bench.start()
        assert await rest(bench) == [events("a", 1)]
        await bench.end()
        assert not disk.rows

    run(main)
    errors = [line for line in said if line["log_level"] == "error"]
    assert [line["events"] for line in errors] == [5, 5, 5, 5, 5]
    assert page.get("spill_backlog") == 0


def test_rows_that_no_ring_takes_as_they_are(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """The rings of this run may be smaller: a row is cut, and an event that is too large alone is read from its row."""

    async def main() -> None:
        disk = Disk()
        sent = [("a", "tick", b'"%d%b"' % (n, b"x" * size)) for n, size in enumerate((6_000, 6_000, 20_000, 10, 9_000, 10))]
        leave(disk, 0, *sent)
        leave(disk, 0, *events("a", 7))
        bench = make(disk)
        await bench.start()
        assert await rest(bench) == [[*sent, *events("a", 7)]]
        await bench.end()
        assert not disk.rows

    run(main)


def test_only_a_page_is_in_memory(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """However much was left: the next page comes when the one before is in the rings."""

    async def main() -> None:
        disk = Disk()
        for number in range(700):
            leave(disk, number % 3, ("a", "tick", b'"%d%b"' % (number, b"x" * (LARGEST - 100))))
        bench = make(disk)
        await bench.start()
        got: list[Event] = []
        while len(got) < 700:
            bench.overflow.look()
            assert bench.outlets[0].backlog.loaded_bytes < 2 * 1024 * 1024
            got += bench.events(limit=3)
            await asyncio.sleep(0)
        assert [int(payload[1:].partition(b"x")[0]) for _, _, payload in got] == list(range(700))
        await rest(bench)
        await bench.end()

    run(main)


def test_what_this_run_puts_aside_waits_for_all_that_was_left(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """It was received later, though it is in the same file."""

    async def main() -> None:
        disk = Disk()
        sent = [("a", "tick", b'"%d%b"' % (number, b"x" * (LARGEST - 100))) for number in range(250)]
        for one in sent[:200]:
            leave(disk, 0, one)
        bench = make(disk, pause_limit=0.0)
        await bench.start()
        bench.send(*sent[200:])
        await until(lambda: disk.appended)
        assert await rest(bench) == [sent]
        await bench.end()
        assert not disk.rows

    run(main)


def test_killed_on_the_way_it_repeats_none(make: Callable[..., Bench], page: Page, run: Callable[..., None]) -> None:
    """A successor hands on what its predecessor had not put into the rings, of each row for each worker."""

    async def main() -> None:
        disk = Disk()
        for number in range(0, 60, 3):
            leave(disk, 0, *(("abc"[n % 3] + str(n % 7), "tick", b'"%d%b"' % (n, b"x" * 7_000)) for n in range(number, number + 3)))
        bench = make(disk, workers=2)
        got: list[Event] = []
        await bench.start()
        for _ in range(8):
            bench.overflow.look()
            got += [*bench.events(0, 1), *bench.events(1, 2)]
            await asyncio.sleep(0.003)
            bench.kill()
            bench.begin()
            await bench.start()
        got += [one for worker in await rest(bench) for one in worker]
        assert sorted(int(payload[1:].partition(b"x")[0]) for _, _, payload in got) == list(range(60))
        await bench.end()
        assert not disk.rows

    run(main)
    assert [page.get(name) for name in ("recovered", "spill_backlog")] == [60, 0]


def test_failing_disk_skips_no_row(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """Where reading fails in the middle of a page, it goes on with the same row."""

    async def main() -> None:
        disk = Disk()
        for number in range(200):
            leave(disk, number % 4, ("a", "tick", b'"%d%b"' % (number, b"x" * (LARGEST - 100))))
        bench = make(disk)
        await bench.start()
        got: list[Event] = []
        turn = 0
        async with asyncio.timeout(8):
            while len(got) < 200:
                turn += 1
                disk.fails = {"next"} if turn % 3 else set()
                bench.spiller._fetch_at = 0.0
                bench.overflow.look()
                got += bench.events()
                await asyncio.sleep(0)
        assert disk.failures > 0
        assert [int(payload[1:].partition(b"x")[0]) for _, _, payload in got] == list(range(200))
        disk.fails = set()
        await rest(bench)
        await bench.end()

    run(main)


def test_gap_of_an_earlier_run_is_passed_over_in_silence(
    make: Callable[..., Bench], page: Page, said: list[Any], run: Callable[..., None]
) -> None:
    """Each run tells of its own gaps; that one is no record that cannot be read, and its row goes."""

    async def main() -> None:
        disk = Disk()
        gap = encode_gap(Gap(topic="a", outcome="replayed", since=1, confirmed=True, missed=None, reason="lost"))
        put(disk, SpillRow(EARLIER.address(0), Kind.GAP, 0, 0, encode_spilled(7, gap)))
        leave(disk, 0, *events("a", 1))
        bench = make(disk)
        await bench.start()
        assert await rest(bench) == [events("a", 1)]
        await bench.end()
        assert not disk.rows

    run(main)
    assert [line for line in said if line["log_level"] == "error"] == []
