"""A gap in the events ring: every callback gets it, in order with the events of its topic."""

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from rig.app import App, Event
from rig.gap import Gap
from rig.records import Kind
from tests.worker.handlers import BY_LANE, Handlers, turns

Run = Callable[..., None]


def gap(topic: str, **fields: Any) -> Gap:
    known = {"outcome": "replayed", "since": 7, "confirmed": True, "missed": 2, "reason": "the connection was lost"}
    return Gap(topic=topic, **(known | fields))  # type: ignore[arg-type]


def test_gap_comes_in_order_with_the_events_of_its_topic(bench: Any, run: Run) -> None:
    """It waits behind the events received before and runs before those received after; other topics go on."""
    handlers = Handlers()

    @handlers.app.on_gap
    async def note(found: Gap) -> None:
        handlers.finished.append((found.topic, -1))

    topic, other = BY_LANE[3], BY_LANE[1]

    async def main() -> None:
        gate = handlers.hold(topic, 1)
        worker = bench.worker(handlers.app)
        bench.publish((topic, "tick", 1))
        bench.publish_gap(gap(topic))
        bench.publish((topic, "tick", 2), (other, "tick", 3))
        await turns()
        assert handlers.finished == [(other, 3)]
        gate.set()
        await worker.idle()
        await worker.die()

    run(main)
    assert handlers.finished == [(other, 3), (topic, 1), (topic, -1), (topic, 2)]
    assert bench.page.get("handled") == 3, "a gap is no event"


def test_every_callback_gets_what_the_io_process_found(bench: Any, run: Run) -> None:
    """In the order of declaration; a plain function in a thread."""
    app, told = App(), []

    @app.on_gap
    async def first(found: Gap) -> None:
        told.append((found.heard_by(None), threading.current_thread() is threading.main_thread()))

    @app.on_gap
    def second(found: Gap) -> None:
        told.append((found.heard_by(None), threading.current_thread() is threading.main_thread()))

    sent = [gap("a", since="x", missed=None, confirmed=False), gap("a", outcome="not_replayed", since=None)]

    async def main() -> None:
        worker = bench.worker(app)
        for one in sent:
            bench.publish_gap(one)
        await worker.idle()
        await worker.die()

    run(main)
    assert told == [(sent[0], True), (sent[0], False), (sent[1], True), (sent[1], False)]


def test_callback_can_push_on_the_topic(bench: Any, run: Run) -> None:
    """For instance to ask for the state that it has missed."""
    app, answers = App(), []
    bench.context.answer = {"state": 5}

    @app.on_gap
    async def ask(found: Gap) -> None:
        answers.append(await found.push("state", {"since": found.since}))

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish_gap(gap("a"))
        await worker.idle()
        await worker.die()

    run(main)
    assert (answers, bench.context.pushed) == ([{"state": 5}], [("a", "state", {"since": 7})])


def test_callback_that_raises_is_tried_again_and_then_given_up(bench: Any, run: Run) -> None:
    """As a handler is; the others are called all the same."""
    app, told = App(), []

    @app.on_gap
    async def broken(found: Gap) -> None:
        told.append("broken")
        raise ValueError("no")

    @app.on_gap
    async def whole(found: Gap) -> None:
        told.append("whole")

    async def main() -> None:
        worker = bench.worker(app, retries=2)
        bench.publish_gap(gap("a"))
        await worker.idle()
        await worker.die()

    run(main)
    assert told == ["broken", "broken", "broken", "whole"]
    (letter,) = bench.dead
    assert (letter.topic, letter.event, letter.handler) == ("a", "on_gap", f"{__name__}.{broken.__qualname__}")
    assert letter.reason.endswith("broken failed after 3 attempts: ValueError: no")
    assert msgspec.json.decode(letter.payload)["outcome"] == "replayed"


def test_gap_in_hand_at_a_death_comes_again(bench: Any, run: Run) -> None:
    """And the callbacks that had finished are not called twice."""
    handlers, told = Handlers(), []

    @handlers.app.on_gap
    async def first(found: Gap) -> None:
        told.append("first")

    @handlers.app.on_gap
    async def second(found: Gap) -> None:
        told.append("second")
        await handlers.handle(Event(found.topic, "", 1, {}, 0, None))  # type: ignore[arg-type]

    topic = BY_LANE[2]

    async def main() -> None:
        gate = handlers.hold(topic, 1)
        worker = bench.worker(handlers.app)
        bench.publish_gap(gap(topic))
        await turns()
        await worker.die()
        gate.set()
        successor = bench.worker(handlers.app)
        await successor.idle()
        await successor.die()

    run(main)
    assert told == ["first", "second", "second"]


def test_nobody_needs_to_want_gaps(bench: Any, run: Run) -> None:
    """Without a callback the record is done with, and so is one that cannot be read."""
    handlers = Handlers()

    async def main() -> None:
        worker = bench.worker(handlers.app)
        bench.publish_gap(gap(BY_LANE[0]))
        bench.producer.put(b"{}", kind=Kind.GAP, count=0)
        bench.publish((BY_LANE[0], "tick", 1))
        await worker.idle()
        await worker.die()

    run(main)
    assert handlers.finished == [(BY_LANE[0], 1)]
