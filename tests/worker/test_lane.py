"""A lane: order, retries, dead letters, and that nothing a handler does ends it."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from rig.app import App, Event
from rig.counters import BUCKETS, quantile
from rig.errors import PushRefused
from rig.routing import lane


class Unspeakable(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("not even this")


def test_events_of_a_topic_are_handled_in_order_one_at_a_time(bench: Any, run: Callable[..., None]) -> None:
    """The second event of a topic starts when the first is done, although its handler waits."""
    app, seen = App(), []

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        seen.append(f"start {event.payload}")
        await asyncio.sleep(0)
        seen.append(f"end {event.payload}")

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(*(("room:1", "tick", number) for number in range(3)))
        bench.publish(("room:1", "tick", 3))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [f"{step} {number}" for number in range(4) for step in ("start", "end")]


def test_other_lanes_go_on_while_one_waits(bench: Any, run: Callable[..., None]) -> None:
    """A handler that waits holds up its own key, and no other."""
    app, seen, gate, others = App(), [], asyncio.Event(), asyncio.Event()
    keys = [0, *(key for key in range(1, 30) if lane(b"%d" % key, 4) != lane(b"0", 4))]

    @app.on("room:*", "tick", key="payload.key")
    async def handler(event: Event[dict[str, int]]) -> None:
        if event.payload["key"] == 0:
            await gate.wait()
        seen.append(event.payload["key"])
        if len(seen) == len(keys) - 1:
            others.set()

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(*(("room:1", "tick", {"key": key}) for key in keys))
        await others.wait()
        assert 0 not in seen
        gate.set()
        await worker.idle()
        assert sorted(seen) == keys
        await worker.die()

    run(main)


def test_failed_event_is_tried_again_in_its_lane(bench: Any, run: Callable[..., None]) -> None:
    """What comes after it waits, so order holds; a success ends the matter."""
    app, seen = App(), []

    @app.on("room:*", "tick", retries=3, backoff=0)
    async def handler(event: Event[int]) -> None:
        seen.append(event.payload)
        if event.payload == 1 and seen.count(1) < 3:
            raise ValueError("not yet")

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(*(("room:1", "tick", number) for number in range(3)))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [0, 1, 1, 1, 2]
    assert not bench.dead
    assert (bench.page.get("retried"), bench.page.get("failed"), bench.page.get("handled")) == (2, 0, 3)


@pytest.mark.parametrize(("retries", "attempts"), [(0, "1 attempt"), (2, "3 attempts")])
def test_event_that_always_fails_is_a_dead_letter(bench: Any, run: Callable[..., None], retries: int, attempts: str) -> None:
    """After its retries it is given up, with what its handler last raised."""
    app, seen = App(), []

    @app.on("room:*", "tick", retries=retries, backoff=0)
    async def handler(event: Event[int]) -> None:
        seen.append(event.payload)
        if event.payload == 0:
            raise ValueError(f"attempt {len(seen)}")

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0), ("room:1", "tick", 1))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [0] * (retries + 1) + [1]
    (dead,) = bench.dead
    assert dead.reason.endswith(f"handler failed after {attempts}: ValueError: attempt {retries + 1}")
    assert (bench.page.get("failed"), bench.page.get("retried")) == (1, retries)


def test_retries_of_the_settings_hold_where_a_route_says_nothing(bench: Any, run: Callable[..., None]) -> None:
    """`--retries` and `--retry-backoff` are the defaults."""
    app, seen = App(), []

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        seen.append(event.payload)
        raise ValueError

    async def main() -> None:
        worker = bench.worker(app, retries=2)
        bench.publish(("room:1", "tick", 0))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [0, 0, 0]


def test_waits_between_retries_double(bench: Any, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The ceiling of the wait starts at `backoff` and doubles."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def fake_sleep(delay: float) -> None:
        waits.append(delay)
        await sleep(0)

    monkeypatch.setattr("rig.worker.lane.asyncio.sleep", fake_sleep)
    monkeypatch.setattr("rig.worker.lane.random.random", lambda: 0.5)
    app = App()

    @app.on("room:*", "tick", retries=3, backoff=4)
    async def handler(event: Event[int]) -> None:
        raise ValueError

    async def main() -> None:
        worker = bench.worker(app, backoff=99)
        bench.publish(("room:1", "tick", 0))
        await worker.idle()
        await worker.die()

    run(main)
    assert waits == [2, 4, 8]


def test_handler_that_takes_too_long_is_cancelled(bench: Any, run: Callable[..., None]) -> None:
    """It counts as failed; its `finally` runs, and the lane goes on."""
    app, seen = App(), []

    @app.on("room:*", "tick", timeout=0.01)
    async def handler(event: Event[int]) -> None:
        try:
            if event.payload == 0:
                await asyncio.Event().wait()
        finally:
            seen.append(event.payload)

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0), ("room:1", "tick", 1))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [0, 1]
    assert "TimeoutError" in bench.dead[0].reason


def test_plain_function_runs_in_a_thread(bench: Any, run: Callable[..., None]) -> None:
    """A handler that blocks does not block the loop: another lane's handler lets it go on."""
    app, seen, gate = App(), [], threading.Event()

    @app.on("room:*", "tick")
    def blocking(event: Event[int]) -> None:
        seen.append((threading.current_thread() is threading.main_thread(), gate.wait(5)))

    @app.on("other:*", "tick", key=None)
    async def release(event: Event[int]) -> None:
        gate.set()

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0))
        bench.publish(*(("other:1", "tick", number) for number in range(4)))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [(False, True)]
    assert not bench.dead


def test_plain_function_that_fails_is_tried_again(bench: Any, run: Callable[..., None]) -> None:
    """What a thread raises reaches the lane."""
    app, seen = App(), []

    @app.on("room:*", "tick", retries=1, backoff=0)
    def handler(event: Event[int]) -> None:
        seen.append(event.payload)
        raise ValueError("in a thread")

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [0, 0]
    assert bench.dead[0].reason.endswith("ValueError: in a thread")


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (ValueError("no"), "ValueError: no"),
        (asyncio.CancelledError("own"), "CancelledError: own"),
        (StopIteration(3), "RuntimeError: "),
        (Unspeakable(), "Unspeakable"),
        (ValueError("\udcff"), "ValueError: ?"),
        (ValueError("x" * 10_000), "ValueError: xxx"),
        (RecursionError("deep"), "RecursionError: deep"),
        (MemoryError(), "MemoryError"),
        (TimeoutError(), "TimeoutError"),
        (PushRefused("room:1", "ack", "error", {"reason": "full"}), "PushRefused: the server answered 'ack'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_nothing_that_a_handler_raises_ends_its_lane(
    bench: Any, run: Callable[..., None], fault: BaseException, reason: str, is_async: bool
) -> None:
    """A failure is a dead letter with a reason that can be sent and printed; the next event is handled."""
    app, seen = App(), []

    if is_async:

        @app.on("room:*", "tick")
        async def handler(event: Event[int]) -> None:
            seen.append(event.payload)
            if event.payload == 0:
                raise fault

    else:

        @app.on("room:*", "tick")
        def handler(event: Event[int]) -> None:
            seen.append(event.payload)
            if event.payload == 0:
                raise fault

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0), ("room:1", "tick", 1))
        await worker.idle()
        assert not any(task.done() for task in worker.tasks)
        await worker.die()

    run(main)
    (dead,) = bench.dead
    assert seen == [0, 1]
    assert f"after 1 attempt: {reason}" in dead.reason
    assert len(dead.reason.encode()) < 2000


def test_handler_that_cancels_its_own_task_has_failed(bench: Any, run: Callable[..., None]) -> None:
    """A lane outlives a handler that cancels the current task, and goes on with the next event."""
    app, handled = App(), []

    @app.on("room:*", "tick", retries=0)
    async def handler(event: Event[int]) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling(), "what one handler did is nothing to the next"
        if event.payload in (1, 2):
            task.cancel()
        if event.payload != 2:
            await asyncio.sleep(0)
        handled.append(event.payload)

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(*[("room:1", "tick", number) for number in (0, 1, 3)])
        await worker.idle()
        bench.publish(("room:1", "tick", 2))
        await worker.idle()
        await asyncio.sleep(0)
        bench.publish(("room:1", "tick", 4))
        await worker.idle()
        assert not any(task.done() for task in worker.tasks)
        await worker.die()

    run(main)
    assert handled == [0, 3, 2, 4]
    assert len(bench.dead) == 1


def test_end_of_the_process_is_not_a_failure(bench: Any, run: Callable[..., None]) -> None:
    """A handler that the end of the worker cancels leaves its event in hand, for the successor."""
    app, started = App(), asyncio.Event()

    @app.on("room:*", "tick", retries=3, backoff=0)
    async def handler(event: Event[int]) -> None:
        started.set()
        await asyncio.Event().wait()

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0))
        await started.wait()
        await worker.die()
        assert all(task.cancelled() for task in worker.tasks)

    run(main)
    assert not bench.dead
    assert bench.producer.used_bytes > 0


def test_base_exception_ends_the_lane(bench: Any, run: Callable[..., None]) -> None:
    """What is no `Exception` is for the process: it ends, and a successor takes over."""

    class Fatal(BaseException):
        pass

    app = App()

    @app.on("room:*", "tick", retries=3)
    async def handler(event: Event[int]) -> None:
        raise Fatal

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0))
        done, _ = await asyncio.wait(worker.tasks, return_when=asyncio.FIRST_COMPLETED)
        assert [type(task.exception()) for task in done] == [Fatal]
        await worker.die()

    run(main)
    assert not bench.dead
    assert bench.producer.used_bytes > 0


def test_task_of_a_lane_is_a_real_task(bench: Any, run: Callable[..., None]) -> None:
    """Libraries that ask for the current task, or set time-outs on it, work in a handler."""
    app, seen = App(), []

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append(asyncio.current_task())
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0), ("room:1", "tick", 1))
        await worker.idle()
        assert seen[0] is seen[1]
        assert seen[0] in worker.tasks
        await worker.die()

    run(main)
    assert not bench.dead


def test_event_reaches_the_context(bench: Any, run: Callable[..., None]) -> None:
    """`event.push` goes to the worker's context, with the topic of the event."""
    app, replies = App(), []

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        replies.append(await event.push("ack", {"id": event.payload}))

    async def main() -> None:
        bench.context.answer = "thanks"
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 5))
        await worker.idle()
        await worker.die()

    run(main)
    assert bench.context.pushed == [("room:1", "ack", {"id": 5})]
    assert replies == ["thanks"]


def test_every_call_is_timed(bench: Any, run: Callable[..., None]) -> None:
    """Each handled event counts once in both histograms, however few are timed."""
    app = App()

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        assert 0 < time.monotonic_ns() - event.received_ns < 10**10

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(*(("room:1", "tick", number) for number in range(100)))
        await worker.idle()
        await worker.die()

    run(main)
    for name in ("latency", "duration"):
        buckets = bench.page.buckets(name)
        assert (sum(buckets), len(buckets)) == (100, BUCKETS)
    assert not bench.dead


def test_slow_handler_shows_in_the_duration(bench: Any, run: Callable[..., None]) -> None:
    """A handler of 20 ms is counted with 20 ms."""
    app = App()

    @app.on("room:*", "tick")
    async def handler(event: Event[int]) -> None:
        await asyncio.sleep(0.02)

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:1", "tick", 0))
        await worker.idle()
        await worker.die()

    run(main)
    duration = quantile(bench.page.buckets("duration"), 0.5)
    assert duration is not None
    assert 0.017 < duration < 5
