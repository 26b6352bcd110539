"""From the ring to the lanes and back to the commit: what is bounded, what a death repeats, and that nothing is lost."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import structlog

from rig.app import App, Event
from rig.ring import READ_AHEAD
from rig.worker.binding import Binding, Bindings
from tests.worker.handlers import BY_LANE, LANES, Handlers, turns

TOPICS = [f"room:{number}" for number in range(12)]


def test_records_are_committed_in_order(bench: Any, run: Callable[..., None]) -> None:
    """A record that is finished before the one in front of it is committed only after that."""
    handlers = Handlers()
    slow, quick = BY_LANE[0], BY_LANE[1]

    async def main() -> None:
        gate = handlers.hold(slow, 0)
        worker = bench.worker(handlers.app)
        bench.publish((slow, "tick", 0))
        bench.publish((quick, "tick", 1))
        used = bench.producer.used_bytes
        await turns()
        assert handlers.finished == [(quick, 1)]
        assert bench.producer.used_bytes == used
        gate.set()
        await worker.idle()
        await worker.die()

    run(main)


def test_read_ahead_is_bounded_by_records(bench: Any, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """While the oldest record is unfinished, no more than READ_AHEAD records are worked on."""
    monkeypatch.setattr("rig.worker.loop.READ_AHEAD", 4)
    assert _read_ahead(bench, run, [1] * 10) == 4


def test_read_ahead_is_bounded_by_events(bench: Any, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """No further record is read while as many events are open as keep every lane busy."""
    monkeypatch.setattr("rig.worker.loop.EVENTS_AHEAD", 12)
    assert _read_ahead(bench, run, [1, 5, 5, 5, 5, 5]) == 1 + 5 + 5 + 5


def test_every_lane_works_where_each_event_is_a_record_of_its_own(bench: Any, run: Callable[..., None]) -> None:
    """Slow handlers of different keys run at the same time however slowly the events come."""
    app, in_hand, gate = App(), [0, 0], asyncio.Event()

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        in_hand[0] += 1
        in_hand[1] = max(in_hand)
        await gate.wait()
        in_hand[0] -= 1

    async def main() -> None:
        worker = bench.worker(app)
        for topic in BY_LANE.values():
            bench.publish((topic, "tick", 0))
            await turns(3)
        assert in_hand[0] == len(BY_LANE)
        gate.set()
        await worker.idle()
        await worker.die()

    run(main)


def _read_ahead(bench: Any, run: Callable[..., None], sizes: list[int]) -> int:
    """Return how many events are begun or done while the first is held, out of records of these sizes."""
    handlers = Handlers()
    slow, quick = BY_LANE[0], BY_LANE[1]
    begun = []

    async def main() -> None:
        gate = handlers.hold(slow, 0)
        worker = bench.worker(handlers.app)
        number = 0
        for size in sizes:
            bench.publish(*[(quick if number + i else slow, "tick", number + i) for i in range(size)])
            number += size
            await turns(5)
        begun.append(len(handlers.started))
        gate.set()
        await worker.idle()
        assert len(handlers.finished) == number
        await worker.die()

    run(main)
    return begun[0]


def test_death_repeats_only_what_was_in_hand(bench: Any, run: Callable[..., None]) -> None:
    """The successor handles again what a handler was in the midst of, then what nobody has begun, and nothing else."""
    handlers = Handlers()
    events = [(topic, number) for number in range(50) for topic in BY_LANE.values()]

    async def main() -> None:
        for index, topic in BY_LANE.items():
            handlers.hold(topic, 7 * index)
        first = bench.worker(handlers.app)
        for start in range(0, len(events), 40):
            bench.publish(*((topic, "tick", number) for topic, number in events[start : start + 40]))
        await turns()
        in_hand = sorted((topic, 7 * index) for index, topic in BY_LANE.items())
        await first.die()
        assert sorted(set(handlers.started) - set(handlers.finished)) == in_hand

        handlers.gates.clear()
        second = bench.worker(handlers.app)
        await second.idle()
        await second.die()
        repeated = sorted(item for item, count in Counter(handlers.started).items() if count > 1)
        assert repeated == in_hand

    run(main)
    assert sorted(handlers.finished) == sorted(events)
    assert bench.page.get("redelivered") == len(BY_LANE)
    assert bench.page.get("handled") == len(events)
    for topic in BY_LANE.values():
        numbers = [number for name, number in handlers.finished if name == topic]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("seed", range(6))
def test_many_deaths_lose_nothing(bench: Any, run: Callable[..., None], seed: int) -> None:
    """However often workers die, every event is finished or a dead letter, and the order per key holds."""
    chance = random.Random(seed)
    app, finished = App(), []

    @app.on("room:*", "tick", key="payload.key")
    async def handler(event: Event[dict[str, int]]) -> None:
        for _ in range(chance.choice((0, 0, 1, 3))):
            await asyncio.sleep(0)
        finished.append((event.payload["key"], event.payload["number"]))

    async def main() -> None:
        published, worker = 0, bench.worker(app)
        for _ in range(60):
            for _ in range(chance.randint(0, 3)):
                size = chance.randint(1, 30)
                bench.publish(
                    *((chance.choice(TOPICS), "tick", {"key": chance.randint(0, 9), "number": published + i}) for i in range(size))
                )
                published += size
            await turns(chance.randint(0, 12))
            if chance.random() < 0.4:
                await worker.die()
                worker = bench.worker(app)
        await worker.idle()
        await worker.die()

        given_up = [msgspec.json.decode(dead.payload)["number"] for dead in bench.dead]
        assert {number for _, number in finished} | set(given_up) == set(range(published))
        assert len(set(given_up)) == len(given_up)

    run(main)
    by_key: dict[int, list[int]] = defaultdict(list)
    for key, number in finished:
        if number not in by_key[key]:
            by_key[key].append(number)
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert all("two deaths" in dead.reason for dead in bench.dead)


def test_event_in_hand_at_two_deaths_is_quarantined(bench: Any, run: Callable[..., None]) -> None:
    """It becomes a dead letter, once, and what comes after it is handled."""
    handlers = Handlers()
    topic = BY_LANE[0]

    async def main() -> None:
        handlers.hold(topic, 1)
        for number in range(3):
            bench.publish((topic, "tick", number))
        for _ in range(2):
            worker = bench.worker(handlers.app)
            await turns()
            assert not bench.dead
            await worker.die()
        worker = bench.worker(handlers.app)
        await worker.idle()
        await worker.die()

    run(main)
    (dead,) = bench.dead
    assert (dead.topic, dead.payload, bench.page.get("quarantined")) == (topic, b"1", 1)
    assert "two deaths" in dead.reason
    assert handlers.started == [(topic, 0), (topic, 1), (topic, 1), (topic, 2)]
    assert handlers.finished == [(topic, 0), (topic, 2)]


def test_quarantine_spares_the_rest_of_the_record(bench: Any, run: Callable[..., None]) -> None:
    """Within one record, what is before and behind a quarantined event is handled exactly once."""
    handlers = Handlers()
    topic = BY_LANE[2]

    async def main() -> None:
        handlers.hold(topic, 40)
        bench.publish(*((topic, "tick", number) for number in range(80)))
        for _ in range(2):
            worker = bench.worker(handlers.app)
            await turns()
            await worker.die()
        worker = bench.worker(handlers.app)
        await worker.idle()
        await worker.die()

    run(main)
    assert handlers.finished == [(topic, number) for number in range(80) if number != 40]
    assert [dead.payload for dead in bench.dead] == [b"40"]
    assert bench.page.get("handled") == 80


def test_quarantine_counts_each_handler_of_an_event(bench: Any, run: Callable[..., None]) -> None:
    """Of two handlers for one event only the one that was in hand is given up."""
    app, seen, deadly = App(), [], asyncio.Event()

    @app.on("room:*", "tick")
    async def first(event: Event[int]) -> None:
        seen.append("first")

    @app.on("room:1", "tick")
    async def second(event: Event[int]) -> None:
        seen.append("second")
        await deadly.wait()

    @app.on("room:*", "*")
    async def third(event: Event[int]) -> None:
        seen.append("third")

    async def main() -> None:
        bench.publish(("room:1", "tick", 0))
        for _ in range(2):
            worker = bench.worker(app)
            await turns()
            await worker.die()
        worker = bench.worker(app)
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == ["first", "second", "second", "third"]
    assert [dead.handler.rpartition(".")[2] for dead in bench.dead] == ["second"]


def test_handlers_of_one_event_run_in_the_order_of_declaration(bench: Any, run: Callable[..., None]) -> None:
    """Every pattern that matches applies; globs and captures too."""
    app, seen = App(), []
    for topic, event in (("room:{id}", "t*k"), ("*", "tick"), ("room:1", "t?ck"), ("room:{name}", "[st]ick"), ("room:2", "tick")):

        @app.on(topic, event)
        async def handler(event: Event[int], pattern: tuple[str, str] = (topic, event)) -> None:
            seen.append((*pattern, event.payload, dict(event.captures)))

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 5))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [
        ("room:{id}", "t*k", 5, {"id": "1"}),
        ("*", "tick", 5, {}),
        ("room:1", "t?ck", 5, {}),
        ("room:{name}", "[st]ick", 5, {"name": "1"}),
    ]
    assert bench.page.get("handled") == 1


def test_events_without_order_are_spread_over_the_lanes(bench: Any, run: Callable[..., None]) -> None:
    """With `key=None` events of one topic are handled at the same time, as many as there are lanes."""
    handlers = Handlers(key=None)

    async def main() -> None:
        gates = [handlers.hold("room:1", number) for number in range(8)]
        worker = bench.worker(handlers.app)
        bench.publish(*(("room:1", "tick", number) for number in range(8)))
        await turns()
        assert sorted(handlers.started) == [("room:1", number) for number in range(LANES)]
        for gate in gates:
            gate.set()
        await worker.idle()
        await worker.die()

    run(main)
    assert len(handlers.finished) == 8


def test_field_of_the_payload_orders_across_topics(bench: Any, run: Callable[..., None]) -> None:
    """`key="payload.x.y"` puts events of different topics into one order, and those without the field into their topic's."""
    app, running, seen = App(), set(), []

    @app.on("room:*", "tick", key="payload.user.id")
    async def handler(event: Event[dict[str, Any]]) -> None:
        key = event.payload.get("user", {}).get("id", event.topic)
        assert key not in running
        running.add(key)
        await turns(2)
        running.discard(key)
        seen.append((key, event.payload["n"]))

    async def main() -> None:
        worker = bench.worker(app)
        keys = (1, 2, 1, None, 2, None, 1)
        for n, key in enumerate(keys):
            payload = {"n": n} if key is None else {"n": n, "user": {"id": key}}
            bench.publish(("room:7" if key is None else f"room:{n}", "tick", payload))
        await worker.idle()
        await worker.die()

    run(main)
    assert not bench.dead
    for key in (1, 2, "room:7"):
        numbers = [n for found, n in seen if found == key]
        assert len(numbers) >= 2
        assert numbers == sorted(numbers)


def test_event_that_no_handler_wants_is_passed_over(bench: Any, run: Callable[..., None]) -> None:
    """A record without a handler's event, or with some, is committed all the same."""
    handlers = Handlers()

    async def main() -> None:
        worker = bench.worker(handlers.app)
        bench.publish(("elsewhere", "tick", 0), ("room:1", "tock", 1))
        await worker.idle()
        bench.publish(("elsewhere", "tick", 2), ("room:1", "tick", 3), ("room:1", "tock", 4))
        bench.publish()
        await worker.idle()
        await worker.die()

    run(main)
    assert handlers.finished == [("room:1", 3)]


def test_more_records_without_work_than_can_be_open(bench: Any, run: Callable[..., None]) -> None:
    """Any number of records with nothing for a handler is read and committed."""
    handlers = Handlers()

    async def main() -> None:
        for _ in range(5 * READ_AHEAD):
            bench.publish(("elsewhere", "tick", 0))
        bench.publish(("room:1", "tick", 1))
        worker = bench.worker(handlers.app)
        await worker.idle()
        await worker.die()

    run(main)
    assert handlers.finished == [("room:1", 1)]


def test_record_that_cannot_be_read_is_given_up(bench: Any, run: Callable[..., None]) -> None:
    """It is counted and logged, and what follows is handled."""
    handlers = Handlers()

    async def main() -> None:
        bench.producer.put(b"junk", kind=1, count=7)
        bench.producer.put(b"junk", kind=9, count=2)
        bench.publish(("room:1", "tick", 1))
        with structlog.testing.capture_logs() as logs:
            worker = bench.worker(handlers.app)
            await worker.idle()
        await worker.die()
        assert [(entry["log_level"], entry["events"]) for entry in logs] == [("error", 7), ("error", 2)]

    run(main)
    assert handlers.finished == [("room:1", 1)]
    assert bench.page.get("invalid") == 9


def test_what_lies_in_the_ring_at_the_start_is_handled(bench: Any, run: Callable[..., None]) -> None:
    """A worker needs no doorbell for what was published before it came."""
    handlers = Handlers()

    async def main() -> None:
        bench.publish(("room:1", "tick", 0), ring=False)
        worker = bench.worker(handlers.app)
        await worker.idle()
        await worker.die()

    run(main)
    assert handlers.finished == [("room:1", 0)]


def test_drain_finds_what_no_doorbell_announced(bench: Any, run: Callable[..., None]) -> None:
    """An io process that dies between publishing and ringing does not keep a worker from draining."""
    handlers = Handlers()

    async def main() -> None:
        worker = bench.worker(handlers.app)
        bench.publish(("room:1", "tick", 0), ring=False)
        await worker.idle()
        await worker.die()

    run(main)
    assert handlers.finished == [("room:1", 0)]


def test_idle_ring_is_idle_at_once(bench: Any, run: Callable[..., None]) -> None:
    """A worker without work drains without waiting, as often as it is asked."""

    async def main() -> None:
        worker = bench.worker(Handlers().app)
        for _ in range(3):
            async with asyncio.timeout(0.5):
                await worker.idle()
        await worker.die()

    run(main)


def test_who_hands_over_finishes_what_was_read_and_leaves_the_rest(
    bench: Any, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor goes on with the next record: nothing is left in hand, nothing is handled twice, order holds."""
    monkeypatch.setattr("rig.worker.loop.READ_AHEAD", 3)
    first, second = Handlers(), Handlers()

    async def main() -> None:
        gate = first.hold(BY_LANE[0], 0)
        worker = bench.worker(first.app)
        for number in range(8):
            bench.publish((BY_LANE[0], "tick", number))
        await turns()
        [loop] = worker.loops
        loop.read_no_more()
        finished = asyncio.create_task(loop.wait_finished())
        await turns()
        assert not finished.done()
        bench.publish((BY_LANE[0], "tick", 8))
        gate.set()
        await finished
        await worker.die()
        successor = bench.worker(second.app)
        await successor.idle()
        await successor.die()

        assert first.finished == [(BY_LANE[0], number) for number in range(3)]
        assert second.finished == [(BY_LANE[0], number) for number in range(3, 9)]
        assert bench.page.get("redelivered") == 0

    run(main)


def test_drain_waits_for_retries(bench: Any, run: Callable[..., None]) -> None:
    """An event that is to be tried again is not finished."""
    app, seen = App(), []

    @app.on("room:*", "tick", retries=1, backoff=0.01)
    async def handler(event: Event[int]) -> None:
        seen.append(event.payload)
        if len(seen) == 1:
            raise ValueError

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [0, 0]


def test_one_busy_lane_leaves_the_loop_its_turns(bench: Any, run: Callable[..., None]) -> None:
    """Handlers that never wait, on a ring that never empties, do not keep timers, replies and other tasks from running."""
    app, handled, ticked = App(), [0], asyncio.Event()

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        handled[0] += 1
        if not ticked.is_set() and handled[0] < 2_000:
            bench.publish(("room:1", "tick", 0))

    async def main() -> None:
        worker = bench.worker(app)
        for _ in range(READ_AHEAD):
            bench.publish(("room:1", "tick", 0))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(ticked.set)
        await worker.idle()
        await worker.die()

    run(main)
    assert handled[0] < 4 * READ_AHEAD


def test_successor_may_find_the_last_event_finished(bench: Any, run: Callable[..., None]) -> None:
    """A death between the last event of a record and its commit repeats nothing."""
    handlers = Handlers()

    async def main() -> None:
        first = bench.worker(handlers.app)
        first.loops[0].record_finished = lambda: None  # dies just before the commit
        bench.publish(("room:1", "tick", 0), ("room:1", "tick", 1))
        await turns()
        assert bench.producer.used_bytes > 0
        await first.die()
        second = bench.worker(handlers.app)
        await second.idle()
        await second.die()

    run(main)
    assert handlers.started == [("room:1", 0), ("room:1", 1)]
    assert bench.memory.used_bytes == 0


def test_same_record_gives_the_same_lists_to_every_worker(bench: Any, run: Callable[..., None]) -> None:
    """The words of progress count on it: lanes come from the record and the routes alone, for any kind of key."""
    app = App()
    app.on("room:*", "tick", key=None)(lambda event: None)
    app.on("room:*", "tock", key="payload.id")(lambda event: None)
    found: list[list[int]] = []

    async def main() -> None:
        for _ in range(2):
            bindings = Bindings(app.routes, LANES, bench.executor)
            tick, tock = bindings.get("room:1", "tick"), bindings.get("room:1", "tock")
            assert isinstance(tick, Binding)
            assert isinstance(tock, Binding)
            payload = msgspec.Raw(b'{"id":7}')
            found.append(
                [tick.lane_for(payload, index) for index in range(9)] + [tock.lane_for(payload, index) for index in range(9)]
            )

    run(main)
    assert found[0] == found[1]
    assert found[0][:9] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert len(set(found[0][9:])) == 1
