"""A lane and its dead letters: an event is finished only when its letter is safe."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rig.app import App, Event
from tests.worker.handlers import BY_LANE, Handlers, turns


@pytest.fixture
def failing() -> tuple[App, list[int]]:
    """Give an app whose handler fails at odd numbers, and what it has seen."""
    app, seen = App(), []

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        seen.append(event.payload)
        if event.payload % 2:
            raise ValueError("odd")

    return app, seen


def test_what_comes_after_waits_until_the_letter_is_safe(bench: Any, run: Callable[..., None], failing: Any) -> None:
    """And the record is not committed before."""
    app, seen = failing

    async def main() -> None:
        bench.room.clear()
        worker = bench.worker(app)
        bench.publish(*(("room:1", "tick", number) for number in range(3)))
        await turns()
        assert seen == [0, 1]
        assert bench.dead == []
        assert bench.producer.used_bytes > 0
        bench.room.set()
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [0, 1, 2]
    assert [dead.payload for dead in bench.dead] == [b"1"]


def test_a_death_before_the_letter_is_safe_repeats_the_event(bench: Any, run: Callable[..., None], failing: Any) -> None:
    """It is in hand until then, so that a kill loses neither the event nor the letter."""
    app, seen = failing

    async def main() -> None:
        bench.room.clear()
        worker = bench.worker(app)
        bench.publish(*(("room:1", "tick", number) for number in range(3)))
        await turns()
        await worker.die()
        bench.room.set()
        successor = bench.worker(app)
        await successor.idle()
        await successor.die()

    run(main)
    assert seen == [0, 1, 1, 2]
    assert [dead.payload for dead in bench.dead] == [b"1"]


def test_a_payload_that_does_not_fit_waits_likewise(bench: Any, run: Callable[..., None], failing: Any) -> None:
    """It never reaches its handler, and is a letter all the same."""
    app, seen = failing

    async def main() -> None:
        bench.room.clear()
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", "no number"), ("room:1", "tick", 2))
        await turns()
        assert seen == []
        bench.room.set()
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [2]
    assert "does not fit" in bench.dead[0].reason


@pytest.mark.parametrize("times", [1, 3])
def test_who_cancels_the_task_meanwhile_loses_no_letter(bench: Any, run: Callable[..., None], times: int) -> None:
    """Code of the user's may hold the lane's task, and cancel it when it likes."""
    app, tasks, seen = App(), [], []

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        tasks.append(asyncio.current_task())
        seen.append(event.payload)
        if event.payload == 0:
            raise ValueError("no")

    async def main() -> None:
        bench.room.clear()
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0), ("room:1", "tick", 1))
        await turns()
        for _ in range(times):
            tasks[0].cancel()
            await turns()
        bench.room.set()
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [0, 1]
    assert [dead.payload for dead in bench.dead] == [b"0"]


def test_a_quarantined_event_keeps_its_place(bench: Any, run: Callable[..., None]) -> None:
    """Its letter waits for room, and everything behind it in its lane waits for the letter; other lanes go on."""
    handlers = Handlers()
    topic, other = BY_LANE[0], BY_LANE[1]

    async def main() -> None:
        handlers.hold(topic, 1)
        for number in range(3):
            bench.publish((topic, "tick", number))
        for _ in range(2):
            worker = bench.worker(handlers.app)
            await turns()
            await worker.die()
        bench.room.clear()
        worker = bench.worker(handlers.app)
        bench.publish((topic, "tick", 3), (other, "tick", 0))
        await turns()
        assert (topic, 2) not in handlers.started
        assert (other, 0) in handlers.finished
        assert (bench.dead, bench.page.get("quarantined")) == ([], 0)
        await worker.die()
        last = bench.worker(handlers.app)
        bench.room.set()
        await last.idle()
        await last.die()

    run(main)
    assert [dead.payload for dead in bench.dead] == [b"1"]
    assert "two deaths" in bench.dead[0].reason
    assert [item for item in handlers.finished if item[0] == topic] == [(topic, 0), (topic, 2), (topic, 3)]
    assert bench.page.get("quarantined") == 1
