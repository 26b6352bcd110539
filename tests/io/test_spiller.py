"""Between outlets and spill.db: what is stored, read back and removed, and what if the store fails or the process dies."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rig.counters import Page
from rig.errors import StoreFailed
from rig.io import spiller
from rig.io.owner import Owner
from rig.io.spiller import open_spill
from rig.store import Extent, SpillRow
from tests.io.outlets import LARGEST, RUN, Bench, Disk, Event


@pytest.fixture
def make(page: Page) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**options: Any) -> Bench:
        benches.append(Bench(page, **{"disk": Disk(), "overflow": "spill", "pause_limit": 0.0, **options}))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def event(number: int, size: int = LARGEST - 100) -> Event:
    return ("room:1", "tick", b'"%05d%b"' % (number, b"x" * size))


def send(bench: Bench, count: int, first: int = 0) -> list[Event]:
    """Send large events one by one, and return them."""
    sent = [event(number) for number in range(first, first + count)]
    for one in sent:
        bench.send(one)
    return sent


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


async def settled(bench: Bench) -> None:
    """Return when nothing is only in memory."""
    await until(lambda: all(outlet.safe == outlet.queued for outlet in bench.outlets))


async def rest(bench: Bench) -> list[Event]:
    """Drain, and return all that comes."""
    got: list[Event] = []
    draining = asyncio.create_task(bench.dispatch.drain())
    async with asyncio.timeout(5):
        while not draining.done():
            got += bench.events()
            await asyncio.sleep(0.001)
    return got + bench.events()


def test_row_stays_until_its_record_is_committed(make: Callable[..., Bench], page: Page, run: Callable[..., None]) -> None:
    """In the ring is not handled: a row goes when the worker is done with it, and the gauge with it."""

    async def main() -> None:
        bench = make()
        await bench.start()
        sent = send(bench, 20)
        await settled(bench)
        stored = len(bench.disk.rows)
        assert page.get("spill_backlog") == page.get("spilled") == stored > 0
        got = bench.events()
        await until(lambda: bench.consumers[0].pending)
        assert len(bench.disk.rows) == stored, "nothing of what is on disk is committed yet"
        got += await rest(bench)
        await until(lambda: not bench.disk.rows)
        assert got == sent
        assert page.get("spill_backlog") == 0
        await bench.end()
        assert bench.disk.closed == 1

    run(main)


def test_nothing_is_opened_where_nothing_is_spilled(make: Callable[..., Bench], run: Callable[..., None], tmp_path: Path) -> None:
    """A run whose workers keep up has no spill.db."""

    async def main() -> None:
        bench = make()
        bench.spiller._path = tmp_path / "spill.db"
        await bench.start()
        bench.send(event(0))
        await bench.end()
        assert (bench.spiller._store, bench.disk.closed) == (None, 0)

    run(main)


def test_spill_survives_the_process_not_the_machine(run: Callable[..., None], tmp_path: Path) -> None:
    """No record waits for the disk to turn: what is spilled is as safe as the machine."""

    async def main() -> None:
        store, _ = await open_spill(tmp_path / "spill.db")
        (synchronous,) = await store.read(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
        assert synchronous == 0
        await store.close()

    run(main)


def test_store_says_what_a_worker_has_left(run: Callable[..., None], tmp_path: Path) -> None:
    """How many events, up to which id: of one worker, and as far as one asks."""

    async def main() -> None:
        store, spill = await open_spill(tmp_path / "spill.db")
        assert await spill.extent(7) == Extent(0, 0)
        ids = await spill.append([SpillRow(worker, 1, count, 0, b"x") for worker, count in ((7, 3), (8, 100), (7, 4))])
        assert await spill.extent(7) == Extent(7, ids[2])
        assert await spill.extent(7, ids[1]) == Extent(3, ids[0])
        await store.close()

    run(main)


def test_rows_that_cannot_be_read_wait(make: Callable[..., Bench], said: list[Any], run: Callable[..., None]) -> None:
    """What is behind them is stored meanwhile; once they can be read, all comes in order."""

    async def main() -> None:
        bench = make()
        await bench.start()
        sent = send(bench, 60)
        await settled(bench)
        bench.disk.fails = {"next"}
        sent += send(bench, 10, 60)
        got: list[Event] = []
        while not bench.disk.failures:
            got += bench.events()
            await asyncio.sleep(0.001)
        sent += send(bench, 10, 70)
        await settled(bench)
        assert bench.calls == []
        assert [line["event"] for line in said if line["log_level"] == "error"] == ["spilled events cannot be read back: they wait"]
        bench.disk.fails = set()
        bench.spiller._fetch_at = 0.0
        assert got + await rest(bench) == sent
        await bench.end()

    run(main)


def test_rows_that_cannot_be_removed_are_removed_later(
    make: Callable[..., Bench], page: Page, said: list[Any], run: Callable[..., None]
) -> None:
    """They do no harm before the next run, the log says what harm they would do then, and they count until they are gone."""

    async def main() -> None:
        bench = make()
        await bench.start()
        bench.disk.fails = {"remove"}
        sent = send(bench, 40)
        await settled(bench)
        got: list[Event] = []
        while not bench.disk.failures:
            bench.spiller._remove_at = 0.0
            got += bench.events(limit=1)
            await asyncio.sleep(0.001)
        assert len(got) < len(sent)
        assert got + await rest(bench) == sent
        assert page.get("spill_backlog") == bench.disk.appended
        assert any(line["event"].startswith("spilled events that are handled cannot be removed") for line in said)
        assert bench.disk.rows
        bench.disk.fails = set()
        await bench.end()
        assert not bench.disk.rows
        assert page.get("spill_backlog") == 0

    run(main)


@pytest.mark.parametrize("lives", [1, 3])
def test_successor_goes_on_after_the_newest_row_in_the_ring(
    make: Callable[..., Bench], page: Page, run: Callable[..., None], lives: int
) -> None:
    """Killed with rows in the ring and rows on disk: each event comes once, in order, and before what comes after."""

    async def main() -> None:
        bench = make()
        await bench.start()
        sent = send(bench, 60)
        await settled(bench)
        got: list[Event] = []
        for life in range(lives):
            while not bench.outlets[0].delivered:
                got += bench.events(limit=2)
                await asyncio.sleep(0.002)
            bench.kill()
            bench.begin()
            await bench.start()
            assert page.get("spill_backlog") == len(bench.disk.rows)
            sent += send(bench, 5, 60 + 5 * life)
            await settled(bench)
        assert got + await rest(bench) == sent
        await bench.end()
        assert not bench.disk.rows

    run(main)


def test_rows_of_a_predecessor_count_as_given_and_not_committed(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """A cursor that the predecessor had marked is not saved for the next run before their events are handled."""

    async def main() -> None:
        bench = make()
        await bench.start()
        sent = send(bench, 60)
        await settled(bench)
        bench.kill()
        bench.begin()
        await bench.start()
        [outlet] = bench.outlets
        assert outlet.committed < outlet.queued == outlet.safe
        got = bench.events()
        await asyncio.sleep(0.01)
        assert outlet.committed < outlet.queued
        assert got + await rest(bench) == sent
        assert outlet.committed == outlet.queued
        await bench.end()

    run(main)


def test_rows_of_others_are_left_alone(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """The other io processes of this run have theirs in the same file."""

    async def main() -> None:
        bench = make()
        await bench.start()
        send(bench, 20)
        await settled(bench)
        bench.kill()
        other = Owner(RUN, 1, 2)
        bench.disk.rows = {id: msgspec.structs.replace(row, worker=other.address(0)) for id, row in bench.disk.rows.items()}
        bench.events()
        bench.begin()
        bench.spiller._owner = Owner(RUN, 0, 2)
        before = dict(bench.disk.rows)
        await bench.start()
        assert not bench.outlets[0].waits
        assert await rest(bench) == []
        await bench.end()
        assert bench.disk.rows == before

    run(main)


def test_store_that_cannot_be_opened_at_first(
    make: Callable[..., Bench], said: list[Any], run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left there waits until it can, and is handed on then, by itself; live events go on meanwhile."""
    monkeypatch.setattr(spiller, "_OPEN_AGAIN", 0.01)

    async def main() -> None:
        bench = make()
        await bench.start()
        sent = send(bench, 20)
        await settled(bench)
        bench.kill()
        got = bench.events()
        bench.disk.fails = {"open"}
        bench.begin()
        await bench.start()
        bench.send(("room:1", "tick", b'"live"'))
        assert bench.events() == [("room:1", "tick", b'"live"')]
        assert [line["event"] for line in said if line["log_level"] == "error"] == [
            "the store of spilled events cannot be opened: what is left there waits"
        ]
        bench.disk.fails = set()
        await until(lambda: bench.outlets[0].waits or bench.consumers[0].pending)
        got += await rest(bench)
        assert [payload for _, _, payload in got] == [payload for _, _, payload in sent]
        await bench.end()

    run(main)


def test_end_stores_what_is_only_in_memory(make: Callable[..., Bench], said: list[Any], run: Callable[..., None]) -> None:
    """A run that is cut short leaves everything to the next, and says how much that is."""

    async def main() -> None:
        bench = make(pause_limit=60.0)
        await bench.start()
        sent = send(bench, 12)
        assert bench.disk.appended == 0
        await bench.end()
        left = [line["events"] for line in said if line["event"].startswith("spilled events are left")]
        assert left == [bench.disk.appended]
        assert len(bench.events()) + bench.disk.appended == len(sent)
        assert not any("lost" in line["event"] for line in said)

    run(main)


def test_end_says_what_is_lost(make: Callable[..., Bench], said: list[Any], run: Callable[..., None]) -> None:
    """Where the store fails to the last, nobody has what was in memory, and that is not passed over."""

    async def main() -> None:
        bench = make(pause_limit=60.0)
        bench.disk.fails = {"append"}
        await bench.start()
        sent = send(bench, 12)
        await bench.end()
        lost = [line["events"] for line in said if line["event"].startswith("events that were received are lost")]
        assert lost == [len(sent) - len(bench.events())]

    run(main)


def test_large_event_is_given_up_after_a_while(
    make: Callable[..., Bench], page: Page, said: list[Any], run: Callable[..., None]
) -> None:
    """A failing store must not hold up everything for one event that only it could take: it is dropped, counted and said."""

    async def main() -> None:
        bench = make(patience=0.05)
        bench.disk.fails = {"append"}
        await bench.start()
        bench.send(event(0, 10), event(1, LARGEST), event(2, 10))
        await until(lambda: bench.disk.failures)
        assert numbers(bench.events()) == [0]
        await asyncio.sleep(0.06)
        bench.spiller._store_at = 0.0
        bench.overflow.look()
        await until(lambda: not bench.outlets[0].waits)
        assert numbers(bench.events()) == [2]
        await bench.end()

    run(main)
    assert page.get("dropped_large") == 1
    assert [line["reason"] for line in said if line["event"] == "events dropped"] == ["too large for the ring, and not stored"]


def numbers(events: list[Event]) -> list[int]:
    return [int(payload[1:6]) for _, _, payload in events]


def test_idle_spiller_sleeps(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """While a worker is stalled and all is stored, the store is left alone."""

    async def main() -> None:
        bench = make()
        await bench.start()
        send(bench, 200)
        await settled(bench)
        await asyncio.sleep(0.02)
        asked: list[str] = []
        bench.disk.check = asked.append  # type: ignore[method-assign]
        await asyncio.sleep(0.05)
        assert asked == []
        bench.disk.check = lambda what: None  # type: ignore[method-assign]
        await bench.end()

    run(main)


def test_without_a_place_to_store_the_error_says_what_to_do(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """There is always a state directory under `rig run`; elsewhere the sentence names the option."""

    async def main() -> None:
        bench = make(disk=None)
        await bench.start()
        with pytest.raises(StoreFailed, match="--state-dir"):
            await bench.spiller._opened()
        await bench.end()

    run(main)


def test_failure_that_nobody_expects_ends_the_process(make: Callable[..., Bench], said: list[Any]) -> None:
    """A spiller that is gone would hold everything back for ever, in silence: a successor is better."""

    async def main() -> None:
        bench = make()
        await bench.start()
        bench.disk.check = lambda what: 1 / 0  # type: ignore[method-assign]
        send(bench, 20)
        await asyncio.sleep(1)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert [line["part"] for line in said if line["log_level"] == "critical"] == ["spilling"]
