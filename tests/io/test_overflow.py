"""When reading pauses, for how long, and what is said of it."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from rig.control import RouteSpec
from rig.counters import Page
from rig.io import overflow as overflow_module
from rig.routing import shard
from tests.io.outlets import LARGEST, Bench, Disk, Event, text

POLICIES = ("spill", "block", "drop_oldest", "drop_newest", "latest")
ROUTES = [RouteSpec("*", policy, "topic", policy) for policy in POLICIES]  # type: ignore[arg-type]
HOMES = {shard(f"room:{n}".encode(), 2): f"room:{n}" for n in range(99)}
"""For each of two workers, a topic."""


@pytest.fixture
def make(page: Page) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(**options: Any) -> Bench:
        benches.append(Bench(page, ROUTES, **{"disk": Disk(), **options}))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def event(policy: str, topic: str = "room:1", size: int = LARGEST - 100) -> Event:
    return (topic, policy, b'"%b"' % (b"x" * size))


def fill(bench: Bench, policy: str = "spill", topic: str = "room:1") -> None:
    """Send large events until one waits."""
    while not any(outlet.waits for outlet in bench.outlets):
        bench.send(event(policy, topic))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def test_spill_pauses_for_the_limit_and_no_longer(make: Callable[..., Bench], said: list[Any], run: Callable[..., None]) -> None:
    """Until then nothing is stored; then reading goes on, what waits goes to disk, and the log says so once."""

    async def main() -> None:
        bench = make(pause_limit=0.1)
        await bench.start()
        loop = asyncio.get_running_loop()
        started = loop.time()
        fill(bench)
        assert bench.calls == ["pause"]
        await bench.resumed.wait()
        assert loop.time() - started >= 0.1
        for _ in range(50):
            bench.send(event("spill"))
        await until(lambda: bench.outlets[0].safe == bench.outlets[0].queued)
        assert bench.calls == ["pause", "resume"]
        assert bench.disk.appended == 51
        assert [line["workers"] for line in said if line["event"].startswith("workers cannot keep up")] == [[0]]
        await bench.end()

    run(main)


def test_ring_that_has_room_in_time_needs_no_disk(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """A short stall is what the pause is for."""

    async def main() -> None:
        bench = make(pause_limit=5.0)
        await bench.start()
        for _ in range(3):
            bench.resumed.clear()
            fill(bench)
            await asyncio.sleep(0.01)
            bench.events()
            await bench.resumed.wait()
            bench.events()
        assert bench.calls == ["pause", "resume"] * 3
        assert bench.disk.appended == 0
        await bench.end()

    run(main)


def test_limit_counts_for_all_rings_together(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """While one worker's events are spilled, another whose ring fills up does not pause reading anew."""

    async def main() -> None:
        bench = make(pause_limit=0.05, workers=2)
        await bench.start()
        fill(bench, topic=HOMES[0])
        await bench.resumed.wait()
        for _ in range(30):
            bench.send(event("spill", HOMES[1]))
        await until(lambda: all(outlet.safe == outlet.queued for outlet in bench.outlets))
        assert all(outlet.waits for outlet in bench.outlets)
        assert bench.calls == ["pause", "resume"]
        await bench.end()

    run(main)


def test_other_workers_are_not_held_up(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """An outlet that has room hands on at once, whatever is spilled beside it."""

    async def main() -> None:
        bench = make(pause_limit=0.0, workers=2)
        await bench.start()
        fill(bench, topic=HOMES[0])
        for _ in range(100):
            bench.send(event("spill", HOMES[0]), event("spill", HOMES[1]))
            assert len(bench.events(1)) == 1
        assert bench.calls == []
        await bench.end()

    run(main)


def test_spilling_ends_when_every_ring_is_half_empty(
    make: Callable[..., Bench], said: list[Any], run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the next full ring has its pause again."""

    async def main() -> None:
        monkeypatch.setattr(overflow_module, "_REPORT_INTERVAL", 0.0)
        bench = make(pause_limit=0.02)
        await bench.start()
        for round in (1, 2):
            bench.resumed.clear()
            fill(bench)
            await bench.resumed.wait()
            while bench.spiller.everything:
                bench.events()
                await asyncio.sleep(0.001)
            assert bench.calls == ["pause", "resume"] * round
            ended = [line for line in said if line["event"].startswith("the workers have caught up")]
            assert len(ended) == round
        await bench.end()

    run(main)


def test_spilling_that_comes_and_goes_does_not_flood_the_log(
    make: Callable[..., Bench], said: list[Any], run: Callable[..., None]
) -> None:
    """It is said when it begins and when it ends, and then not again for a while."""

    async def main() -> None:
        bench = make(pause_limit=0.0)
        await bench.start()
        for _ in range(5):
            fill(bench)
            await until(lambda: bench.spiller.everything)
            while bench.spiller.everything:
                bench.events()
                await asyncio.sleep(0.001)
        await bench.end()

    run(main)
    told = [line["event"].partition(":")[0] for line in said]
    assert [one for one in told if one.startswith(("workers", "the workers"))] == [
        "workers cannot keep up",
        "the workers have caught up",
    ]


def test_store_that_is_too_slow_pauses_reading(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """What waits for the disk is bounded: at a few MiB reading pauses, and goes on when half of it is stored."""

    async def main() -> None:
        disk = Disk()
        disk.gate = asyncio.Event()
        bench = make(pause_limit=0.0, disk=disk)
        await bench.start()
        fill(bench)
        while bench.calls == []:
            bench.send(event("spill"))
        unstored = bench.outlets[0].backlog.unstored_bytes
        assert 0 < unstored - overflow_module._MOST_UNSTORED_BYTES < 2 * LARGEST
        await asyncio.sleep(0.02)
        assert bench.calls == ["pause"]
        disk.gate.set()
        await bench.resumed.wait()
        await until(lambda: bench.outlets[0].safe == bench.outlets[0].queued)
        await bench.end()

    run(main)


def test_store_that_fails_makes_spill_like_block(make: Callable[..., Bench], said: list[Any], run: Callable[..., None]) -> None:
    """Reading stays paused beyond the limit, loudly; once the store works again, it goes on."""

    async def main() -> None:
        disk = Disk()
        disk.fails = {"append"}
        bench = make(pause_limit=0.02, disk=disk)
        await bench.start()
        fill(bench)
        await until(lambda: disk.failures)
        await asyncio.sleep(0.05)
        assert bench.calls[-1] == "pause"
        errors = [line for line in said if line["log_level"] == "error"]
        assert [line["event"] for line in errors] == ["events cannot be spilled to disk: reading waits for the workers instead"]
        assert "it does not append" in errors[0]["reason"]
        disk.fails = set()
        bench.spiller._store_at = 0.0
        await until(lambda: bench.calls[-1] == "resume")
        assert disk.appended > 0
        assert any(line["event"] == "events can be spilled to disk again" for line in said)
        await bench.end()

    run(main)


def test_store_that_fails_loses_nothing(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """The ring is what is left, and in order."""

    async def main() -> None:
        disk = Disk()
        disk.fails = {"append"}
        bench = make(pause_limit=0.0, disk=disk)
        await bench.start()
        sent = [("room:1", "spill", b'"%05d%b"' % (number, b"x" * 3_000)) for number in range(100)]
        got: list[Event] = []
        for one in sent:
            bench.send(one)
            if bench.calls[-1:] == ["pause"]:
                got += bench.events(limit=1)
                await asyncio.sleep(0.002)
        draining = asyncio.create_task(bench.dispatch.drain())
        while not draining.done():
            got += bench.events(limit=1)
            await asyncio.sleep(0.001)
        assert got + bench.events() == sent
        await bench.end()

    run(main)


def test_block_pauses_for_as_long_as_it_takes(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """Neither the limit nor the disk is for its events; reading goes on when the ring is at most half full."""

    async def main() -> None:
        bench = make(pause_limit=0.02)
        await bench.start()
        fill(bench, "block")
        await asyncio.sleep(0.1)
        assert bench.calls == ["pause"]
        while bench.calls == ["pause"]:
            bench.events(limit=1)
            await asyncio.sleep(0.003)
        assert bench.memories[0].used_bytes <= bench.memories[0].capacity // 2
        assert bench.disk.appended == 0
        await bench.end()

    run(main)


def test_block_waits_for_its_own_ring_only(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """Once its events have room, a worker whose events are spilled does not keep reading paused."""

    async def main() -> None:
        bench = make(pause_limit=0.02, workers=2)
        await bench.start()
        fill(bench, "spill", HOMES[0])
        await bench.resumed.wait()
        while bench.calls[-1] != "pause":
            bench.send(event("block", HOMES[1]))
        await asyncio.sleep(0.05)
        assert bench.calls[-1] == "pause"
        bench.events(1)
        await until(lambda: bench.calls[-1] == "resume")
        assert bench.outlets[0].waits
        await bench.end()

    run(main)


def test_drain_stores_what_waits(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """At the end a record is better on disk than in memory, whatever its policy: it may be killed before there is room."""

    async def main() -> None:
        bench = make(pause_limit=60.0)
        await bench.start()
        fill(bench, "block")
        draining = asyncio.create_task(bench.dispatch.drain())
        await until(lambda: bench.disk.appended == 1)
        assert bench.outlets[0].safe == bench.outlets[0].queued
        bench.events()
        await draining
        assert len(bench.events()) == 1
        await bench.end()
        assert not bench.disk.rows

    run(main)


def test_what_is_dropped_is_said_now_and_then(
    make: Callable[..., Bench], page: Page, said: list[Any], run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first at once, then the sum of an interval, and the rest at the end: the lines add up to the counters."""

    async def main() -> None:
        monkeypatch.setattr(overflow_module, "_REPORT_INTERVAL", 0.05)
        bench = make()
        for _ in range(20):
            bench.send(event("drop_newest"))
        lines = [line for line in said if line["event"] == "events dropped"]
        assert [(line["policy"], line["events"]) for line in lines] == [("drop_newest", 1)]
        await asyncio.sleep(0.1)
        bench.send(*(event("latest") for _ in range(5)), event("drop_newest"))
        await asyncio.sleep(0.01)
        bench.send(*(event("latest") for _ in range(5)))
        await bench.end()

    run(main)
    told: dict[str, int] = {}
    for line in said:
        if line["event"] == "events dropped":
            assert line["log_level"] == "warning"
            told[line["policy"]] = told.get(line["policy"], 0) + line["events"]
    assert told == {"drop_newest": page.get("dropped_newest"), "latest": page.get("dropped_latest")}
    assert told["latest"] == 10, "the last of them found no worker before the end"


def test_nothing_looks_when_there_is_nothing_to_see(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """As long as no ring is full there is no timer; after it was, there is none again."""

    async def main() -> None:
        bench = make(pause_limit=0.0)
        await bench.start()
        bench.send(event("spill", size=10))
        assert bench.overflow._timer is None
        fill(bench)
        assert bench.overflow._timer is not None
        while bench.overflow._timer is not None:
            bench.events()
            await asyncio.sleep(0.001)
        assert not bench.disk.rows
        await bench.end()

    run(main)


def test_payload_of_a_held_event_is_msgspec_raw_or_bytes(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """What was held comes as it was sent."""

    async def main() -> None:
        bench = make()
        fill(bench, "drop_oldest")
        bench.send(("room:1", "latest", b'{"a":[1,2,{"b":null}]}'))
        got: list[Event] = []
        while bench.outlets[0].waits or bench.consumers[0].pending:
            got += bench.events(limit=1)
            bench.overflow.look()
        assert msgspec.json.decode(got[-1][2]) == {"a": [1, 2, {"b": None}]}

    run(main)


@pytest.mark.parametrize("policy", POLICIES)
def test_event_that_is_tried_again_is_not_dropped(make: Callable[..., Bench], run: Callable[..., None], policy: str) -> None:
    """It was a dead letter: that may be forgotten only when the event is in the ring, or stored, whatever its policy."""

    async def main() -> None:
        bench = make(disk=None)
        [outlet] = bench.outlets
        await bench.start()
        while outlet._producer.fits(LARGEST):
            bench.send(event("block"))
        again = ("room:1", policy, b'"again"')
        large = event(policy)
        bench.dispatch.redeliver([text(*large), text(*again)], binary=False)
        assert not bench.dispatch.settled
        for _ in range(100):
            bench.send(large)
        assert not bench.dispatch.settled
        got = bench.events()
        async with asyncio.timeout(5):
            while not bench.dispatch.settled:
                await asyncio.sleep(0.001)
                got += bench.events()
        assert again in got + bench.events()
        await rest(bench)
        await bench.end()

    run(main)


def test_event_tried_again_behind_one_for_the_disk_is_not_safe(make: Callable[..., Bench], run: Callable[..., None]) -> None:
    """It is only in memory while a large one before it is not stored."""

    async def main() -> None:
        disk = Disk()
        disk.gate = asyncio.Event()
        bench = make(disk=disk)
        await bench.start()
        bench.send(event("spill", size=2 * LARGEST))
        bench.dispatch.redeliver([text("room:1", "spill", b"7")], binary=False)
        await asyncio.sleep(0.01)
        assert not bench.dispatch.settled
        disk.gate.set()
        await until(lambda: bench.dispatch.settled)
        await rest(bench)
        await bench.end()

    run(main)


async def rest(bench: Bench) -> None:
    """Drain, and pass over all that comes."""
    draining = asyncio.create_task(bench.dispatch.drain())
    async with asyncio.timeout(5):
        while not draining.done():
            bench.records()
            await asyncio.sleep(0.001)
