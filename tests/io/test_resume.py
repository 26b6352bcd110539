"""Cursors at work in one io process: what is sent, dropped, marked and saved, and when."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest
import structlog.testing

from rig.backoff import Cause
from rig.control import RouteSpec
from rig.counters import Page
from rig.cursors import Cursor
from rig.errors import StoreFailed
from rig.gap import Gap
from rig.io.outlet import Outlet
from rig.io.resume import CATCH_UP, TICK, Resume
from rig.io.router import Router
from rig.marks import LEAST_TOPICS, Marks
from rig.phoenix import events
from rig.phoenix.message import BinaryMessage, Message
from rig.records import encode_events, encode_names
from rig.ring import Consumer, Doorbell, RingMemory
from tests.io.outlets import dispatch_to

Run = Callable[..., None]
ROUTES = [RouteSpec("a:*", "tick", "topic", cursor="payload.id"), RouteSpec("*", "*", "topic")]
LOST = events.SocketClosed(Cause.LINK_LOST, 1006, "", 0.0)


class Store:
    """Cursors of an earlier run, and what is saved by this one."""

    def __init__(self, **kept: Cursor) -> None:
        self.kept: dict[str, Cursor] = {topic.replace("_", ":"): cursor for topic, cursor in kept.items()}
        self.fails = False
        self.saves = 0

    async def load(self) -> dict[str, Cursor]:
        if self.fails:
            raise StoreFailed("rig.db", "damaged", "move it away")
        return dict(self.kept)

    async def save(self, cursors: Mapping[str, Cursor]) -> None:
        self.saves += 1
        self.kept |= cursors


class Life:
    """An io process's cursors over memory that outlives it, with a ring to one worker."""

    def __init__(self, bench: "Bench") -> None:
        self.bench = bench
        self.told: list[Gap] = []
        marks = Marks.attach(os.dup(bench.marks.fd))
        bench.resources.append(marks)
        self.resume = Resume(
            marks,
            [bench.memory],
            page=bench.page,
            tell=self.told.append,
            cursor_field="last_seen_id",
            resumed_field="resumed",
            store=bench.store,
            clock=lambda: bench.now,
        )
        self.router = Router(ROUTES, 1, tracks=self.resume.track)
        self.outlet = Outlet(bench.memory, bench.bell)
        self.dispatch = dispatch_to([self.outlet], self.router, bench.page)

    async def begin(self) -> None:
        await self.resume.load()
        self.resume.take_over(self.router, [self.outlet])

    def end(self) -> None:
        """Die: the timers are gone with the process."""
        if self.resume._timer is not None:
            self.resume._timer.cancel()

    def payload(self, topic: str, payload: Any = None) -> Any:
        """Return the payload of a topic's joins."""
        return self.resume.join_payload(topic, {} if payload is None else payload, has_cursor=self.router.has_cursor(topic))

    def join(self, topic: str, response: Any = None, *, mine: Any = None) -> Any:
        """Join a topic, and return what the join was sent with."""
        payload = mine or self.payload(topic)
        sent = payload() if callable(payload) else payload
        self.resume.note(events.Joined(topic, response, False))
        return sent

    def receive(self, topic: str, *numbers: Any, pushed: bool = False) -> None:
        self.dispatch.dispatch([message(topic, number, pushed=pushed) for number in numbers], binary=False)
        self.resume.dispatched()

    def marked(self, topic: str) -> Cursor | None:
        place = self.resume._marks.place(topic)
        return None if place is None else self.resume._marks.get(place)

    async def tick(self, seconds: float = TICK) -> None:
        """Let time pass, and what is due happen, if anything is."""
        self.bench.now += seconds
        timer = self.resume._timer
        if timer is not None:
            timer.cancel()
            self.resume._tick()
        for _ in range(3):
            await asyncio.sleep(0)


def message(topic: str, number: Any, *, pushed: bool = False) -> Message:
    return Message("1" if pushed else None, None, topic, "tick", msgspec.Raw(msgspec.json.encode({"id": number})))


class Bench:
    """What outlives an io process, and the worker's end of the ring."""

    def __init__(self, page: Page) -> None:
        self.page, self.now, self.store = page, 1000.0, Store()
        self.marks, self.memory, self.bell = Marks.create(4, 1), RingMemory.create(64 * 1024), Doorbell.create()
        self.resources: list[Any] = [self.marks, self.memory, self.bell]
        self.consumer = Consumer(self.memory)

    async def life(self) -> Life:
        life = Life(self)
        await life.begin()
        return life

    def commit(self) -> None:
        """Let the worker be done with all that is in the ring."""
        if records := self.consumer.poll(1000):
            self.consumer.commit(records[-1])


async def interrupted(bench: Bench, newest: int) -> tuple[Life, Any]:
    """Return a life that has lost its connection, with events up to this one received, and the payload of the topic's joins."""
    life = await bench.life()
    payload = life.payload("a:1")
    life.join("a:1", mine=payload)
    life.receive("a:1", newest)
    life.resume.note(LOST)
    return life, payload


@pytest.fixture
def bench(page: Page) -> Iterator[Bench]:
    bench = Bench(page)
    yield bench
    for resource in bench.resources:
        resource.close()


def test_join_is_sent_with_the_newest_cursor(bench: Bench, run: Run) -> None:
    """The application's own fields stay; without a cursor there is no field, and a topic without one is left as it is."""

    async def main() -> None:
        life = await bench.life()
        mine = life.payload("a:1", {"since": 5})
        plain = {"since": 6}
        assert mine() == {"since": 5}
        assert life.payload("b:1", plain) is plain
        life.receive("a:1", 7, 9)
        assert mine() == {"since": 5, "last_seen_id": 9}
        life.end()

    run(main)


def test_callable_payload_is_asked_at_each_join(bench: Bench, run: Run) -> None:
    """So a payload that is made anew for each join goes together with a cursor."""

    async def main() -> None:
        life, numbers = await bench.life(), iter(range(9))
        payload = life.payload("a:1", lambda: {"n": next(numbers)})
        life.receive("a:1", 7)
        assert [payload(), payload()] == [{"n": 0, "last_seen_id": 7}, {"n": 1, "last_seen_id": 7}]
        life.end()

    run(main)


def test_first_value_may_come_from_the_application(bench: Bench, run: Run) -> None:
    """Where nothing was received yet, the application's own `last_seen_id` is sent; afterwards ours is."""

    async def main() -> None:
        life = await bench.life()
        payload = life.payload("a:1", {"last_seen_id": 41})
        assert payload() == {"last_seen_id": 41}
        life.receive("a:1", 42)
        assert payload() == {"last_seen_id": 42}
        life.end()

    run(main)


def test_repeats_are_dropped_and_counted(bench: Bench, page: Page, run: Run) -> None:
    """As when two connections bring the same during a hand-over; what has no cursor passes."""

    async def main() -> None:
        life = await bench.life()
        life.receive("a:1", 1, 2, 2, 1, 3, None, "x" * 500, 3.5)
        life.receive("b:1", 1, 1)
        life.dispatch.dispatch([BinaryMessage(None, None, "a:1", "tick", b'{"id":1}')] * 2, binary=True)
        life.end()

    with structlog.testing.capture_logs() as logs:
        run(main)
    assert [page.get(name) for name in ("received", "routed", "duplicates")] == [12, 10, 2]
    assert [(entry["topic"], entry["cursor"], entry["newest"]) for entry in logs] == [("a:1", 2, 2)], "said once in a while"


def test_cursor_is_marked_when_it_is_in_the_ring(bench: Bench, run: Run) -> None:
    """Not before: what waits for room dies with the process."""

    async def main() -> None:
        life = await bench.life()
        life.receive("a:1", 1)
        assert life.marked("a:1") == 1
        for number in range(2, 200):
            life.receive("a:1", number)
            life.outlet.send(bytes(2000), kind=2, time_ns=0)  # type: ignore[arg-type]
        assert life.outlet.full
        marked = life.marked("a:1")
        assert isinstance(marked, int)
        assert 1 < marked < 60
        bench.commit()
        life.outlet.flush()
        await life.tick()
        assert life.marked("a:1") > marked
        life.end()

    run(main)


def test_successor_goes_on_where_its_predecessor_was_killed(bench: Bench, run: Run) -> None:
    """With its mark, and with what it had published and not marked."""

    async def main() -> None:
        life = await bench.life()
        life.join("a:1")
        life.receive("a:1", 1, 2)
        life.dispatch.dispatch([message("a:1", 3)], binary=False)  # and it dies before it marks
        life.end()
        bench.commit()

        successor = await bench.life()
        assert successor.join("a:1", {"resumed": True, "missed": 2}) == {"last_seen_id": 2}
        before = bench.page.get("routed")
        successor.receive("a:1", 3, 4, pushed=True)
        assert bench.page.get("routed") == before + 1
        assert successor.told == [
            Gap(topic="a:1", outcome="replayed", since=2, confirmed=True, missed=2, reason="the io process was restarted")
        ]
        assert successor.marked("a:1") == 4
        successor.end()

    run(main)


def test_two_deaths_in_a_row_repeat_nothing(bench: Bench, run: Run) -> None:
    """What nobody had marked stays known to the second successor, though the first handed on other topics' events meanwhile."""

    async def main() -> None:
        life = await bench.life()
        life.join("a:1")
        life.receive("a:1", 1)
        life.dispatch.dispatch([message("a:1", 2)], binary=False)
        life.end()
        first = await bench.life()
        first.join("a:2")
        first.receive("a:2", 1)
        first.end()
        second = await bench.life()
        second.join("a:1", {"resumed": True, "missed": 2})
        before = bench.page.get("routed")
        second.receive("a:1", 2, 3, pushed=True)
        assert bench.page.get("routed") == before + 1
        second.end()

    run(main)


def test_successor_knows_the_topics_without_a_cursor(bench: Bench, run: Run) -> None:
    """They have a gap too, which nobody fills; one that was never joined has none."""

    async def main() -> None:
        life = await bench.life()
        life.join("b:1")
        life.end()
        successor = await bench.life()
        for topic in ("b:1", "b:2"):
            successor.join(topic)
        assert [(gap.topic, gap.outcome, gap.confirmed) for gap in successor.told] == [("b:1", "not_replayed", False)]

    run(main)


def record(*numbers: int) -> bytes:
    """Return the payload of a record of events."""
    payloads = [msgspec.Raw(b'{"id":%d}' % number) for number in numbers]
    return encode_events(encode_names(["a:1", "tick"]), [0] * len(numbers), payloads, binary=False)


def test_what_the_run_before_has_left_on_disk_is_a_repeat(bench: Bench, run: Run) -> None:
    """It is not received: what was in the rings is asked for, and only what is on disk is passed over."""

    async def main() -> None:
        bench.store = Store(a_1=1)
        life = Life(bench)
        await life.resume.load()
        assert life.resume.note_left(life.router, record(3, 4))
        life.resume.take_over(life.router, [life.outlet])
        assert life.join("a:1", {"resumed": True, "missed": 3}) == {"last_seen_id": 1}
        life.receive("a:1", 2, 3, 4, pushed=True)
        life.receive("a:1", 5)
        assert [bench.page.get(name) for name in ("routed", "duplicates")] == [2, 2]
        assert life.join("a:1") == {"last_seen_id": 5}
        life.end()

    run(main)


def test_so_much_is_remembered_of_what_was_left(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says that the rest may be handled twice."""
    monkeypatch.setattr("rig.io.resume._MOST_LEFT", 3)

    async def main() -> None:
        life = Life(bench)
        await life.resume.load()
        assert life.resume.note_left(life.router, record(1, 2))
        with structlog.testing.capture_logs() as logs:
            assert not life.resume.note_left(life.router, record(3, 4))
        assert [(entry["log_level"], entry["remembered"]) for entry in logs] == [("warning", 4)]

    run(main)


def test_what_was_overwritten_since_the_last_mark_may_repeat(bench: Bench, run: Run) -> None:
    """The log says so, and nothing is lost."""

    async def main() -> None:
        life = await bench.life()
        life.receive("a:1", 1)
        for number in range(2, 100):
            life.dispatch.dispatch([message("a:1", number)], binary=False)
            life.outlet.send(bytes(2000), kind=2, time_ns=0)  # type: ignore[arg-type]
            bench.commit()
        life.end()
        with structlog.testing.capture_logs() as logs:
            successor = await bench.life()
        assert [entry["log_level"] for entry in logs] == ["warning"]
        assert successor.join("a:1") == {"last_seen_id": 1}
        successor.end()

    run(main)


def test_next_run_asks_for_what_came_since_the_last_commit(bench: Bench, run: Run) -> None:
    """The stored cursor is sent, and the first join of the run ends a gap; a topic that has none stored starts without both."""

    async def main() -> None:
        bench.store = Store(a_1=41, a_3="x")
        life = await bench.life()
        assert life.join("a:1", {"resumed": False}) == {"last_seen_id": 41}
        assert life.join("a:2") == {}
        assert life.join("a:3") == {"last_seen_id": "x"}
        assert [(gap.topic, gap.outcome, gap.confirmed, gap.reason) for gap in life.told] == [
            ("a:1", "not_replayed", True, "the run was restarted"),
            ("a:3", "replayed", False, "the run was restarted"),
        ]
        life.end()

    run(main)


def test_mark_is_newer_than_what_is_stored(bench: Bench, run: Run) -> None:
    """After the death of an io process the mark counts, for topics that have one."""

    async def main() -> None:
        bench.store = Store(a_1=1, a_2=5)
        life = await bench.life()
        life.receive("a:1", 9)
        life.end()
        successor = await bench.life()
        assert [successor.join(topic) for topic in ("a:1", "a:2")] == [{"last_seen_id": 9}, {"last_seen_id": 5}]
        successor.end()

    run(main)


def test_store_that_cannot_be_read_keeps_nobody(bench: Bench, run: Run) -> None:
    """Topics start without a cursor, the log says so, and what is committed is saved later."""

    async def main() -> None:
        bench.store = Store(a_1=41)
        bench.store.fails = True
        with structlog.testing.capture_logs() as logs:
            life = await bench.life()
        assert [entry["log_level"] for entry in logs] == ["error"]
        assert life.join("a:1") == {}
        life.receive("a:1", 50)
        bench.commit()
        await life.tick()
        assert bench.store.kept == {"a:1": 50}
        life.end()

    run(main)


def test_cursor_is_saved_when_its_event_is_committed(bench: Bench, run: Run) -> None:
    """Not when it is in the ring; once for many events; and then nothing is left to do."""

    async def main() -> None:
        life = await bench.life()
        for number in range(1, 40):
            life.receive("a:1", number)
        await life.tick()
        assert bench.store.kept == {}
        bench.commit()
        await life.tick()
        await life.tick()
        assert (bench.store.kept, bench.store.saves) == ({"a:1": 39}, 1)
        await life.tick()
        assert life.resume._timer is None

    run(main)


def test_what_a_predecessor_left_in_the_ring_is_saved_after_its_commit(bench: Bench, run: Run) -> None:
    """The successor has the mark, but no event of it was handled yet."""

    async def main() -> None:
        life = await bench.life()
        life.receive("a:1", 7)
        life.end()
        successor = await bench.life()
        successor.join("a:1")
        for _ in range(3):
            await successor.tick()
        assert bench.store.kept == {}
        bench.commit()
        await successor.tick()
        assert bench.store.kept == {"a:1": 7}
        successor.end()

    run(main)


def test_end_of_the_process_saves_what_is_committed(bench: Bench, run: Run) -> None:
    """A run that was drained starts again where it ended."""

    async def main() -> None:
        life = await bench.life()
        life.receive("a:1", 7)
        bench.commit()
        await life.resume.close()
        assert bench.store.kept == {"a:1": 7}
        assert life.resume._timer is None or life.resume._timer.cancelled()

    run(main)


@pytest.mark.parametrize(
    ("response", "floor"),
    [
        ({"resumed": True, "missed": 0}, 15),
        ({"missed": 0}, 15),
        ({"resumed": True, "missed": 5}, 10),
        (None, 10),
        ({"resumed": True}, 10),
    ],
)
def test_live_events_may_overtake_the_replay_unless_there_is_none(bench: Bench, run: Run, response: Any, floor: int) -> None:
    """Until the replay is over, the next join asks for what it asked for before."""

    async def main() -> None:
        life, payload = await interrupted(bench, 10)
        life.join("a:1", response, mine=payload)
        life.receive("a:1", 15)
        assert payload() == {"last_seen_id": floor}
        life.end()

    run(main)


def test_replay_of_which_nobody_says_how_long_it_is_ends_with_time(bench: Bench, run: Run) -> None:
    """After some seconds without a part of it, all that was received counts, is marked and saved."""

    async def main() -> None:
        life, payload = await interrupted(bench, 10)
        life.join("a:1", mine=payload)
        life.receive("a:1", 15)
        await life.tick(CATCH_UP - 1)
        life.receive("a:1", 11)
        await life.tick(1.1)
        life.receive("a:1", 12)
        bench.commit()
        await life.tick(CATCH_UP + 0.1)
        assert (life.marked("a:1"), bench.store.kept) == (12, {"a:1": 12})
        await life.tick(CATCH_UP + 0.1)
        await life.tick()
        assert (life.marked("a:1"), bench.store.kept) == (15, {"a:1": 15})
        life.receive("a:1", 13)
        assert bench.page.get("duplicates") == 1
        life.end()

    run(main)


def test_successor_does_not_take_a_replay_for_complete_before_it_has_asked_for_it(bench: Bench, run: Run) -> None:
    """However long the server cannot be reached, what a live event had overtaken is asked for."""

    async def main() -> None:
        life, payload = await interrupted(bench, 10)
        life.join("a:1", mine=payload)
        life.receive("a:1", 15)
        life.end()
        successor = await bench.life()
        for _ in range(2):
            await successor.tick(CATCH_UP + 0.1)
        assert successor.join("a:1") == {"last_seen_id": 10}
        successor.receive("a:1", 11, 15)
        assert bench.page.get("duplicates") == 1
        successor.end()

    run(main)


def test_server_that_has_forgotten_us_may_say_that_nothing_was_missed(bench: Bench, run: Run) -> None:
    """What it numbers anew is not measured by what had come before the replay that it now knows nothing of."""

    async def main() -> None:
        life, payload = await interrupted(bench, 10)
        life.join("a:1", mine=payload)
        life.receive("a:1", 15)
        life.resume.note(LOST)
        life.join("a:1", {"resumed": False, "missed": 0}, mine=payload)
        before = bench.page.get("routed")
        life.receive("a:1", 1, 2)
        assert bench.page.get("routed") == before + 2
        life.end()

    run(main)


def test_server_that_has_forgotten_us_may_number_anew(bench: Bench, run: Run) -> None:
    """After `resumed: false` its numbers are taken as they come, also where they are lower; a hand-over forgets nothing."""

    async def main() -> None:
        life = await bench.life()
        payload = life.payload("a:1")
        life.join("a:1", mine=payload)
        life.receive("a:1", 1000)
        life.join("a:1", {"resumed": False}, mine=payload)
        life.receive("a:1", 1, 1000)
        assert (bench.page.get("routed"), life.told) == (1, [])
        life.resume.note(LOST)
        life.join("a:1", {"resumed": False}, mine=payload)
        life.receive("a:1", 1, 2, 1)
        assert bench.page.get("routed") == 3
        assert [gap.outcome for gap in life.told] == ["not_replayed"]
        for _ in range(2):
            await life.tick(CATCH_UP + 0.1)
        assert life.marked("a:1") == 2
        life.end()

    run(main)


def test_topic_without_room_for_a_mark_is_said(bench: Bench, run: Run) -> None:
    """Its events are handled and saved all the same."""

    async def main() -> None:
        life = await bench.life()
        for number in range(LEAST_TOPICS):
            bench.marks.take_place(f"other:{number}")
        life.end()
        later = await bench.life()
        with structlog.testing.capture_logs() as logs:
            later.join("a:1")
        assert [(entry["log_level"], entry["topic"]) for entry in logs] == [("warning", "a:1")]
        later.receive("a:1", 5)
        bench.commit()
        await later.tick()
        assert (later.marked("a:1"), bench.store.kept) == (None, {"a:1": 5})
        later.end()

    run(main)


def test_topic_that_only_the_outbox_joins_has_no_gaps_and_no_mark(bench: Bench, run: Run) -> None:
    """The application never asked for its events, so it is told of none that were missed, and marks have room for others."""

    async def main() -> None:
        life = await bench.life()
        life.join("a:1")
        for _ in range(2):
            life.resume.note(events.Joined("outbox:1", None, False))
            life.resume.note(LOST)
        assert life.told == []
        assert life.resume._marks.place("outbox:1") is None
        life.end()

    run(main)


def test_what_comes_after_the_end_is_not_saved(bench: Bench, run: Run) -> None:
    """The connection is closed last, and the store is closed by then: the next run asks for it again."""

    async def main() -> None:
        life = await bench.life()
        life.join("a:1")
        life.receive("a:1", 1)
        bench.commit()
        await life.resume.close()
        saves = bench.store.saves
        life.receive("a:1", 2)
        bench.commit()
        await life.tick()
        assert (bench.store.kept, bench.store.saves) == ({"a:1": 1}, saves)

    run(main)
