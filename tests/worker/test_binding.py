"""From the name of an event to its handlers, with a memory that stays bounded."""

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rig.app import App, Event
from rig.records import encode_names
from rig.routing import lane
from rig.worker import binding
from rig.worker.binding import Bindings

LANES = 4


def nothing(event: Event[Any]) -> None: ...


@pytest.fixture
def app() -> App:
    app = App()
    app.on("room:{id}", "tick")(nothing)
    app.on("*", "t?ck")(nothing)
    app.on("users:*", "seen", key="payload.user.id")(nothing)
    app.on("any:*", "event", key=None)(nothing)
    return app


@pytest.fixture
def bindings(app: App, bench: Any) -> Bindings:
    return Bindings(app.routes, LANES, bench.executor)


def names(*texts: str) -> msgspec.Raw:
    return msgspec.Raw(encode_names(texts))


def test_every_pattern_that_matches_applies(app: App, bindings: Bindings) -> None:
    """The handlers of an event are those of all its patterns, in the order of declaration."""
    found = bindings.get("room:7", "tick")

    assert found is not None
    assert [(call.route, dict(call.captures)) for call in found.calls] == [(app.routes[0], {"id": "7"}), (app.routes[1], {})]
    assert {(call.topic, call.event) for call in found.calls} == {("room:7", "tick")}


def test_event_without_a_handler_has_no_binding(bindings: Bindings) -> None:
    """None says that nobody wants it, the first time and every time after it."""
    assert [bindings.get("room:7", "other") for _ in range(2)] == [None, None]


def test_binding_is_remembered(bindings: Bindings) -> None:
    """The patterns are matched once for each (topic, event)."""
    assert bindings.get("room:7", "tick") is bindings.get("room:7", "tick")
    assert bindings.get("room:7", "tick") is not bindings.get("room:8", "tick")


def test_memory_of_names_is_bounded(bindings: Bindings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that makes up names costs no more memory than the limit, and what is found stays right."""
    monkeypatch.setattr(binding, "MEMO_LIMIT", 100)
    for number in range(1_000):
        for event in ("tick", f"made up {number}"):
            found = bindings.get(f"room:{number}", event)
            assert (found is not None) == (event == "tick")

    assert sum(map(len, bindings._memo.values())) <= 100


def test_memory_of_tables_is_bounded(bindings: Bindings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records with ever different names cost no more memory than the limit."""
    monkeypatch.setattr(binding, "TABLES_KEPT", 10)
    for number in range(100):
        table = bindings.of_names(names(f"room:{number}", "tick"))
        assert table.bindings[0] is bindings.get(f"room:{number}", "tick")

    assert len(bindings._tables) <= 10


def test_same_names_give_the_same_table(bindings: Bindings) -> None:
    """The names of a record are mostly those of the one before it, and looked up at once."""
    assert bindings.of_names(names("room:1", "tick")) is bindings.of_names(names("room:1", "tick"))


def test_table_is_simple_where_each_event_has_one_handler_and_one_lane(bindings: Bindings) -> None:
    """Only then the quick way through a record is right."""
    simple = bindings.of_names(names("room:1", "tack", "lobby", "tock"))

    assert (simple.simple, simple.lanes) == (True, [lane(b"room:1", LANES), lane(b"lobby", LANES)])
    for others in (("room:1", "tick"), ("users:1", "seen"), ("any:1", "event"), ("room:1", "unknown")):
        assert not bindings.of_names(names("room:1", "tack", *others)).simple


def test_lane_comes_from_the_ordering_key(bindings: Bindings) -> None:
    """By topic, by a field, by the topic where the field is missing, or by the place in the record where order does not matter."""
    by_topic, by_field, unordered = bindings.get("lobby", "tick"), bindings.get("users:1", "seen"), bindings.get("any:1", "event")
    assert by_topic is not None
    assert by_field is not None
    assert unordered is not None

    assert by_topic.lane_for(msgspec.Raw(b"{}"), 3) == lane(b"lobby", LANES)
    assert by_field.lane_for(msgspec.Raw(b'{"user":{"id":"ann"}}'), 3) == lane(b'"ann"', LANES)
    assert by_field.lane_for(msgspec.Raw(b"{}"), 3) == lane(b"users:1", LANES)
    assert by_field.lane_for(b"\x00", 3) == lane(b"users:1", LANES)
    assert [unordered.lane_for(msgspec.Raw(b"{}"), index) for index in range(5)] == [0, 1, 2, 3, 0]


def test_first_route_gives_the_key(bench: Any) -> None:
    """Where several patterns match, the first that was declared says how events are ordered."""
    app = App()
    app.on("room:*", "tick", key="payload.id")(nothing)
    app.on("room:*", "*", key=None)(nothing)
    found = Bindings(app.routes, LANES, bench.executor).get("room:1", "tick")

    assert found is not None
    assert {found.lane_for(msgspec.Raw(b'{"id":5}'), index) for index in range(9)} == {lane(b"5", LANES)}


def call(bench: Any, handler: Callable[..., Any], **options: Any) -> Any:
    """Bind one handler and return what the lane awaits, for one event."""
    app = App()
    app.on("room:*", "tick", **options)(handler)
    found = Bindings(app.routes, LANES, bench.executor).get("room:1", "tick")
    assert found is not None
    return found.calls[0].run(Event("room:1", "tick", 5, {}, 0, bench.context))


def test_context_variables_reach_the_thread(bench: Any, run: Callable[..., None]) -> None:
    """A plain function sees the context variables of its lane."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[tuple[str, bool]] = []

    def handler(event: Event[Any]) -> None:
        seen.append((variable.get(), threading.current_thread() is threading.main_thread()))

    async def main() -> None:
        variable.set("lane")
        await call(bench, handler)

    run(main)
    assert seen == [("lane", False)]


def test_async_handler_behind_a_plain_decorator_is_awaited(bench: Any, run: Callable[..., None]) -> None:
    """A decorator that hides that a function is async must not lose its event: what it returns is awaited, on the loop."""
    seen: list[bool] = []

    async def handler(event: Event[Any]) -> None:
        await asyncio.sleep(0)
        seen.append(threading.current_thread() is threading.main_thread())

    @functools.wraps(handler)
    def decorated(event: Event[Any]) -> Any:
        return handler(event)

    run(lambda: call(bench, decorated))
    assert seen == [True]


def test_stop_iteration_in_a_thread_is_a_failure(bench: Any, run: Callable[..., None]) -> None:
    """`next()` on an empty iterator in a plain function fails the event; it must not leave the lane waiting for ever."""

    def handler(event: Event[Any]) -> None:
        next(iter([]))

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(call(bench, handler), 2)

    run(main)


@pytest.mark.parametrize("is_async", [True, False])
def test_time_limit_holds_for_both_kinds(bench: Any, run: Callable[..., None], is_async: bool) -> None:
    """A handler that takes longer than its `timeout` has failed, in a thread too, where it cannot be stopped."""
    gate = threading.Event()

    async def on_loop(event: Event[Any]) -> None:
        await asyncio.Event().wait()

    def in_thread(event: Event[Any]) -> None:
        gate.wait(5)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await call(bench, on_loop if is_async else in_thread, timeout=0.01)
        gate.set()

    run(main)


def test_threads_do_not_hold_each_other_up(bench: Any, run: Callable[..., None]) -> None:
    """As many plain functions run at a time as there are lanes."""
    barrier = threading.Barrier(LANES)

    def handler(event: Event[Any]) -> None:
        barrier.wait(5)

    async def main() -> None:
        await asyncio.gather(*(call(bench, handler) for _ in range(LANES)))

    run(main)
    assert not barrier.broken
