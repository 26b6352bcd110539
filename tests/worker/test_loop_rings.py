"""A worker with several io processes, each with an events ring: the same lanes, and otherwise nothing in common."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from rig.app import App, Event
from rig.ring import POLL_LIMIT, READ_AHEAD
from rig.routing import lane
from rig.worker.loop import EVENTS_AHEAD
from tests.worker.handlers import BY_LANE, LANES, Handlers, turns

OTHER_BY_LANE = {lane(topic.encode(), LANES): topic for topic in map("room:{}".format, range(100, 150))}
"""One topic for each lane, of the second io process; those in `BY_LANE` are of the first."""


def test_each_ring_is_committed_by_itself(two_rings: Any, run: Callable[..., None]) -> None:
    """A record that is stuck in one ring keeps no record of the other from being done with."""
    handlers = Handlers()

    async def main() -> None:
        gate = handlers.hold(BY_LANE[0], 0)
        worker = two_rings.worker(handlers.app)
        two_rings.publish((BY_LANE[0], "tick", 0))
        for number in range(3 * READ_AHEAD):
            two_rings.publish((OTHER_BY_LANE[1], "tick", number), to=1)
            await turns(2)
        await turns()
        assert [ring.producer.used_bytes > 0 for ring in two_rings.rings] == [True, False]
        assert handlers.finished == [(OTHER_BY_LANE[1], number) for number in range(3 * READ_AHEAD)]
        gate.set()
        await worker.idle()
        await worker.die()

    run(main)
    assert two_rings.page.get("handled") == 3 * READ_AHEAD + 1


def test_events_of_one_key_never_run_at_the_same_time(two_rings: Any, run: Callable[..., None]) -> None:
    """Whichever rings they come from, they share a lane; within a ring they keep their order."""
    app, running, seen = App(), set(), defaultdict(list)

    @app.on("room:*", "tick", key="payload.key")
    async def handler(event: Event[dict[str, int]]) -> None:
        key = event.payload["key"]
        assert key not in running
        running.add(key)
        await turns(2)
        running.discard(key)
        seen[event.topic, key].append(event.payload["number"])

    async def main() -> None:
        worker = two_rings.worker(app)
        for number in range(60):
            two_rings.publish((f"room:{number % 2}", "tick", {"key": number // 2 % 3, "number": number}), to=number % 2)
        await worker.idle()
        await worker.die()

    run(main)
    assert not two_rings.dead
    assert sum(map(len, seen.values())) == 60
    assert all(numbers == sorted(numbers) for numbers in seen.values())


@pytest.mark.parametrize("quiet", list(OTHER_BY_LANE.values()))
@pytest.mark.parametrize("flooding", [[BY_LANE[0]], list(BY_LANE.values())])
@pytest.mark.parametrize("busy", [0, 1])
def test_a_flood_in_one_ring_does_not_starve_the_other(
    two_rings: Any, run: Callable[..., None], busy: int, flooding: list[str], quiet: str
) -> None:
    """While one ring never empties, an event of the other is handled within a few turns of the loop, in any lane."""
    app, flooded, before = App(), [0], []
    flood = [(topic, "tick", 0) for topic in flooding] * (100 // len(flooding))

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        if event.topic == quiet:
            before.append(flooded[0])
            return
        flooded[0] += 1
        if flooded[0] % len(flood) == 0 and flooded[0] < 50_000 and not before:
            two_rings.publish(*flood, to=busy)

    async def main() -> None:
        for _ in range(100):
            two_rings.publish(*flood, to=busy)
        worker = two_rings.worker(app)
        await turns(3)
        two_rings.publish((quiet, "tick", 0), to=1 - busy)
        await worker.idle()
        await worker.die()

    run(main)
    assert len(before) == 1
    assert before[0] <= 6 * (EVENTS_AHEAD + POLL_LIMIT * len(flood))


def test_what_is_read_ahead_is_shared(two_rings: Any, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two rings reads half as far ahead as one alone would, also while nothing comes by the other."""
    monkeypatch.setattr("rig.worker.loop.EVENTS_AHEAD", 40)
    handlers = Handlers()
    slow, quick = BY_LANE[0], BY_LANE[1]

    async def main() -> None:
        gate = handlers.hold(slow, 0)
        worker = two_rings.worker(handlers.app)
        for number in range(30):
            two_rings.publish((quick if number else slow, "tick", number), to=1)
        await turns()
        assert len(handlers.started) == 20
        gate.set()
        await worker.idle()
        assert len(handlers.finished) == 30
        await worker.die()

    run(main)


def test_death_repeats_what_was_in_hand_from_each_ring(two_rings: Any, run: Callable[..., None]) -> None:
    """One event in each lane, whichever ring it came from; all else is handled once, in the order of its topic."""
    handlers = Handlers()
    topics = [list(BY_LANE.values()), list(OTHER_BY_LANE.values())]
    held = [(BY_LANE[0], 7), (OTHER_BY_LANE[1], 7), (BY_LANE[2], 30), (OTHER_BY_LANE[3], 0)]

    async def main() -> None:
        for item in held:
            handlers.hold(*item)
        first = two_rings.worker(handlers.app)
        for start in range(0, 50, 10):
            for to in (0, 1):
                two_rings.publish(*((topic, "tick", start + i) for i in range(10) for topic in topics[to]), to=to)
        await turns()
        assert sorted(set(handlers.started) - set(handlers.finished)) == sorted(held)
        await first.die()

        handlers.gates.clear()
        second = two_rings.worker(handlers.app)
        await second.idle()
        await second.die()

    run(main)
    assert sorted(item for item, count in Counter(handlers.started).items() if count > 1) == sorted(held)
    assert two_rings.page.get("redelivered") == len(held)
    assert two_rings.page.get("handled") == 50 * 2 * LANES
    for topic in (*topics[0], *topics[1]):
        assert [number for name, number in handlers.finished if name == topic] == list(range(50))


@pytest.mark.parametrize("to", [0, 1])
def test_quarantine_is_for_the_event_of_one_ring(two_rings: Any, run: Callable[..., None], to: int) -> None:
    """The event at the same place of the other ring, in the same lane, has done nothing."""
    handlers = Handlers()
    topics = [BY_LANE[2], OTHER_BY_LANE[2]]

    async def main() -> None:
        handlers.hold(topics[to], 1)
        for ring in (1 - to, to):
            two_rings.publish(*((topics[ring], "tick", number) for number in range(3)), to=ring)
        for _ in range(2):
            worker = two_rings.worker(handlers.app)
            await turns()
            assert not two_rings.dead
            await worker.die()
        worker = two_rings.worker(handlers.app)
        await worker.idle()
        await worker.die()

    run(main)
    (dead,) = two_rings.dead
    assert (dead.topic, dead.payload) == (topics[to], b"1")
    assert [number for topic, number in handlers.finished if topic == topics[to]] == [0, 2]
    assert [number for topic, number in handlers.finished if topic != topics[to]] == [0, 1, 2]


@pytest.mark.parametrize("seed", range(4))
def test_many_deaths_lose_nothing_of_either_ring(two_rings: Any, run: Callable[..., None], seed: int) -> None:
    """However often workers die, every event is finished or a dead letter, and the order per topic holds."""
    chance = random.Random(seed)
    app, finished = App(), []

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        for _ in range(chance.choice((0, 0, 1, 3))):
            await asyncio.sleep(0)
        finished.append((event.topic, event.payload))

    async def main() -> None:
        published, worker = 0, two_rings.worker(app)
        for _ in range(60):
            for _ in range(chance.randint(0, 3)):
                size, to = chance.randint(1, 30), chance.randrange(2)
                two_rings.publish(*((f"room:{to}-{chance.randrange(6)}", "tick", published + i) for i in range(size)), to=to)
                published += size
            await turns(chance.randint(0, 12))
            if chance.random() < 0.4:
                await worker.die()
                worker = two_rings.worker(app)
        await worker.idle()
        await worker.die()

        given_up = [int(dead.payload) for dead in two_rings.dead]
        assert {number for _, number in finished} | set(given_up) == set(range(published))
        assert len(set(given_up)) == len(given_up)

    run(main)
    by_topic: dict[str, list[int]] = defaultdict(list)
    for topic, number in finished:
        if number not in by_topic[topic]:
            by_topic[topic].append(number)
    assert all(numbers == sorted(numbers) for numbers in by_topic.values())


@pytest.mark.parametrize("to", [0, 1])
def test_the_drain_finds_what_no_doorbell_announced(two_rings: Any, run: Callable[..., None], to: int) -> None:
    """In whichever ring it lies."""
    handlers = Handlers()

    async def main() -> None:
        worker = two_rings.worker(handlers.app)
        two_rings.publish(("room:1", "tick", 0), ring=False, to=to)
        await worker.idle()
        await worker.die()

    run(main)
    assert handlers.finished == [("room:1", 0)]
