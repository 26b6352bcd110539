"""What a user writes: declarations that are wrong fail at once, with a sentence; those that are right stay plain functions."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

import msgspec
import pytest

import rig
from rig.app import App, Event, Route, State
from rig.errors import AppError, HandlerSignatureError, LocalProtocolError

attrs = pytest.importorskip("attrs")


class Deployed(msgspec.Struct):
    id: int


@dataclass
class Scaled:
    id: int


class Typed(TypedDict):
    id: int


@attrs.define
class Defined:
    id: int


class Broken(msgspec.Struct):
    id: "NotImported"  # type: ignore[name-defined]  # noqa: F821


class Foreign:
    """No type that msgspec knows."""


class FakeContext:
    """Remembers what was pushed."""

    def __init__(self) -> None:
        self.pushed: list[tuple[Any, ...]] = []
        self.stored: list[tuple[Any, ...]] = []

    async def push(self, topic: str, event: str, payload: Any, *, timeout: float | None, reply: bool) -> Any:
        self.pushed.append((topic, event, payload, timeout, reply))
        return {"done": True}

    async def enqueue(self, topic: str, event: str, payload: Any, *, key: str | None, ttl: float | None) -> str:
        self.stored.append((topic, event, payload, key, ttl))
        return key or "made"


def declare(handler: Callable[..., Any], **options: Any) -> Route:
    """Register one handler and return its route."""
    app = App()
    app.on("room:*", "tick", **options)(handler)
    return app.routes[0]


def test_decorated_function_stays_callable() -> None:
    """A test may call a handler as the plain function that it is."""
    app = App("max")

    @app.on("room:*", "tick")
    def handler(event: Event[Deployed]) -> int:
        return event.payload.id

    assert handler(Event("room:1", "tick", Deployed(7), {}, 0, FakeContext())) == 7
    assert app.routes[0].handler is handler


def test_routes_keep_the_order_of_declaration() -> None:
    """Handlers are listed as they were written, also several for one event."""
    app = App()
    for topic in ("b:*", "a:{id}", "b:*"):
        app.on(topic, "tick")(lambda event: None)

    assert [pattern.topic for pattern in app.patterns] == ["b:*", "a:{id}", "b:*"]


def test_one_function_takes_several_events() -> None:
    """`@app.on` can be stacked."""
    app = App()

    @app.on("a:*", "tick")
    @app.on("b:*", "tock")
    async def handler(event: Event[Any]) -> None: ...

    assert [(route.pattern.topic, route.handler) for route in app.routes] == [("b:*", handler), ("a:*", handler)]


def bare(event: Event) -> None: ...  # type: ignore[type-arg]
def unannotated(event): ...  # type: ignore[no-untyped-def]
def anything(event: Event[Any]) -> None: ...
def any_annotation(event: Any) -> None: ...
def of_variable(event: Event[TypeVar("T")]) -> None: ...  # type: ignore[valid-type,misc]
def struct(event: Event[Deployed]) -> None: ...
def a_dataclass(event: Event[Scaled]) -> None: ...
def typed_dict(event: Event[Typed]) -> None: ...
def of_attrs(event: Event[Defined]) -> None: ...
def binary(event: Event[bytes]) -> None: ...
def plain(event: Event[dict[str, int]]) -> None: ...
def union(event: Event[Deployed | None]) -> None: ...
def raw(event: Event[msgspec.Raw]) -> None: ...
def quoted(event: "rig.Event[Deployed]") -> None: ...
def with_default(event: Event[Deployed], log: Any = None, *more: Any, **options: Any) -> None: ...
def bound(extra: int, event: Event[Deployed]) -> None: ...


@functools.wraps(struct)
def decorated(*args: Any, **kwargs: Any) -> None: ...


class Callable_:  # noqa: N801
    async def __call__(self, event: Event[Deployed]) -> None: ...

    def method(self, event: Event[Scaled]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "payload_type"),
    [
        (bare, Any),
        (unannotated, Any),
        (anything, Any),
        (any_annotation, Any),
        (of_variable, Any),
        (struct, Deployed),
        (a_dataclass, Scaled),
        (typed_dict, Typed),
        (of_attrs, Defined),
        (binary, bytes),
        (plain, dict[str, int]),
        (union, Deployed | None),
        (raw, msgspec.Raw),
        (quoted, Deployed),
        (with_default, Deployed),
        (decorated, Deployed),
        (functools.partial(bound, 1), Deployed),
        (Callable_(), Deployed),
        (Callable_().method, Scaled),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_payload_type_comes_from_the_annotation(handler: Callable[..., Any], payload_type: Any) -> None:
    """`Event[T]` decodes into T; without a T payloads are plain objects."""
    assert declare(handler).payload_type == payload_type


def test_async_functions_and_callables_run_on_the_loop() -> None:
    """A handler is async if calling it gives something to await, whatever kind of callable it is."""

    async def handler(event: Event[Any]) -> None: ...

    found = [declare(one).is_async for one in (handler, Callable_(), functools.partial(handler), struct, Callable_().method)]

    assert found == [True, True, True, False, False]


def no_parameter() -> None: ...
def two(event: Event[Any], more: int) -> None: ...
def keyword_only(*, event: Event[Any]) -> None: ...
def event_and_keyword(event: Event[Any], *, more: int) -> None: ...
def star(*events: Event[Any]) -> None: ...
def double_star(**events: Event[Any]) -> None: ...
def generator(event: Event[Any]) -> Iterator[int]:
    yield 1


async def async_generator(event: Event[Any]) -> AsyncIterator[int]:
    yield 1


def wrong_annotation(event: Deployed) -> None: ...
def list_of_events(event: list[Event[Any]]) -> None: ...
def unknown_name(event: "Event[Missing]") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def unknown_attribute(event: "rig.Evnt[Deployed]") -> None: ...  # type: ignore[name-defined]
def bad_syntax(event: "Event[") -> None: ...  # type: ignore[syntax]  # noqa: F722
def foreign(event: Event[Foreign]) -> None: ...
def complex_numbers(event: Event[dict[complex, int] | dict[int, int]]) -> None: ...
def broken_struct(event: Event[Broken]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (no_parameter, r"handler no_parameter \(.*test_app.py:\d+\) takes \(\) -> None: a handler takes one event, as in"),
        (two, r"takes \(event: .*, more: int\) -> None: a handler takes one event"),
        (keyword_only, "a handler takes one event"),
        (event_and_keyword, "a handler takes one event"),
        (star, "a handler takes one event"),
        (double_star, "a handler takes one event"),
        (Callable_.method, "a handler takes one event"),
        (generator, r"generator \(.*\) yields: a handler is a plain or an async function"),
        (async_generator, r"async_generator \(.*\) yields"),
        (wrong_annotation, r"'event' is annotated <class '.*Deployed'>; write rig.Event, or rig.Event\[YourPayload\]"),
        (list_of_events, "'event' is annotated list"),
        (unknown_name, r"the annotation of .event. cannot be resolved \(name 'Missing' is not defined\)"),
        (unknown_attribute, r"the annotation of .event. cannot be resolved \(module 'rig' has no attribute 'Evnt'\)"),
        (bad_syntax, "the annotation of .event. cannot be resolved"),
        (foreign, r"payloads cannot be decoded into <class '.*Foreign'>; use a msgspec.Struct, a dataclass"),
        (complex_numbers, r"payloads cannot be decoded into dict.* \("),
        (broken_struct, r"payloads cannot be decoded into <class '.*Broken'> \(name 'NotImported' is not defined\)"),
        ("handler", r"'handler' is not a function: put @app.on\(…\) above a def"),
        (dict, "does not say what it takes"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_wrong_signature_is_refused_with_a_sentence(handler: Any, sentence: str) -> None:
    """A handler that could not work fails at start-up, and the message says where it is and what to write."""
    with pytest.raises(HandlerSignatureError, match=sentence):
        declare(handler)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"key": "payload"}, "key='payload': write 'topic', a field such as 'payload.user_id', or None"),
        ({"key": "payload."}, "key="),
        ({"key": "user_id"}, "key="),
        ({"key": "payload.a..b"}, "key="),
        ({"retries": -1}, "retries=-1: write a whole number, 0 or more"),
        ({"retries": 1.5}, "retries=1.5: write a whole number"),
        ({"retries": "3"}, "retries='3'"),
        ({"backoff": -0.1}, "backoff=-0.1: write seconds, 0 or more"),
        ({"timeout": -1}, "timeout=-1: write seconds, 0 or more"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"timeout": "5"}, "timeout='5': write seconds"),
        ({"overflow": "drop"}, "overflow='drop': write one of spill, block, drop_oldest, drop_newest, latest"),
        ({"cursor": "id"}, "cursor='id': write a field such as 'payload.id', or None"),
        ({"cursor": "topic"}, "cursor='topic'"),
        ({"cursor": "payload."}, "cursor="),
    ],
)
def test_option_that_cannot_be_used_is_refused(options: dict[str, Any], sentence: str) -> None:
    """An option is checked where it is written, not when the first event fails."""
    with pytest.raises(AppError, match=sentence):
        App().on("room:*", "tick", **options)


@pytest.mark.parametrize("topic", ["room:*:x", "room:{", "room:{a b}", "{a}:{a}"])
def test_pattern_that_cannot_be_used_is_refused(topic: str) -> None:
    """A topic pattern is checked where it is written."""
    with pytest.raises(AppError, match="topic pattern"):
        App().on(topic, "tick")


@pytest.mark.parametrize("key", ["topic", "payload.user_id", "payload.user.id", None])
def test_options_reach_the_route(key: str | None) -> None:
    """What is declared is what the worker finds."""
    route = declare(struct, key=key, retries=0, backoff=0.5, timeout=2, overflow="latest")

    assert (route.key, route.retries, route.backoff, route.timeout, route.overflow) == (key, 0, 0.5, 2, "latest")


def test_options_that_are_left_out_are_taken_from_the_settings() -> None:
    """None stands for what the command line says; order is by topic unless said otherwise."""
    route = declare(struct)

    assert (route.key, route.retries, route.backoff, route.timeout, route.overflow) == ("topic", None, None, None, None)


def test_route_has_a_name_for_the_reader() -> None:
    """Dead letters and logs name the handler by module and function."""
    assert declare(struct).name == f"{__name__}.struct"
    assert "Callable_" in declare(Callable_()).name


def test_joined_topics_keep_their_payload() -> None:
    """`app.join` names topics, each with what it is joined with; the last word counts."""
    app = App()
    app.join("a:1", "a:2", payload={"since": 1})
    app.join("b")
    app.join("a:2", payload={"since": 2})

    assert app.topics == {"a:1": {"since": 1}, "a:2": {"since": 2}, "b": {}}


def test_lifespan_gets_the_app() -> None:
    """The worker enters what `lifespan` returns, with the app as its argument."""
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        seen.append(f"enter {app.name}")
        yield
        seen.append("leave")

    async def main(app: App) -> None:
        async with app.lifespan(app):
            seen.append("work")

    asyncio.run(main(App("max", lifespan=lifespan)))
    asyncio.run(main(App("without")))

    assert seen == ["enter max", "work", "leave", "work"]


def test_push_goes_to_the_topic_of_the_event() -> None:
    """An event pushes back on its own channel; no payload is an empty object."""
    context = FakeContext()
    event: Event[Any] = Event("room:1", "tick", None, {}, 0, context)

    async def main() -> list[Any]:
        waiting: list[Awaitable[Any]] = [event.push("ack"), event.push("note", [1], timeout=2, reply=False), event.push("zero", 0)]
        return [await one for one in waiting]

    assert asyncio.run(main()) == [{"done": True}] * 3
    assert context.pushed == [
        ("room:1", "ack", {}, None, True),
        ("room:1", "note", [1], 2, False),
        ("room:1", "zero", 0, None, True),
    ]


def _yields(state: State) -> Iterator[None]:
    yield


def _takes_an_event(state: Event) -> None:
    """Take what a handler takes."""


def _takes_nonsense(state: "Nonsense") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Take what nobody knows."""


def test_state_callbacks_keep_their_order_and_stay_callable() -> None:
    """Plain and async functions, with the annotation or without."""
    app = App()

    @app.on_state
    async def first(state: State) -> None: ...

    @app.on_state
    def second(state: "State") -> str:
        return state.state

    app.on_state(third := lambda state: None)

    assert app.state_callbacks == [first, second, third]
    assert second(State("offline", "refused", 1.0)) == "offline"


@pytest.mark.parametrize(
    ("callback", "sentence"),
    [
        (lambda: None, "takes one state, as in"),
        (lambda state, more: None, "takes one state, as in"),
        (lambda *, state: None, "takes one state, as in"),
        ("not a function", "put @app.on_state above a def"),
        (_yields, "yields"),
        (_takes_an_event, "write rig.State"),
        (_takes_nonsense, "cannot be resolved"),
    ],
)
def test_callback_that_does_not_take_a_state_is_refused_with_a_sentence(callback: Any, sentence: str) -> None:
    """When the application is imported, and not when the network is down."""
    app = App()
    with pytest.raises(HandlerSignatureError, match=sentence):
        app.on_state(callback)
    assert app.state_callbacks == []


def test_durable_push_is_stored_for_the_topic_of_the_event() -> None:
    """It returns the key; key and time to live go with it."""
    context = FakeContext()
    event: Event[Any] = Event("room:1", "tick", None, {}, 0, context)

    async def main() -> list[Any]:
        return [await event.push("ack", durable=True), await event.push("ack", {"a": 1}, durable=True, key="k", ttl=5)]

    assert asyncio.run(main()) == ["made", "k"]
    assert context.stored == [("room:1", "ack", {}, None, None), ("room:1", "ack", {"a": 1}, "k", 5)]
    assert context.pushed == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"key": "k"}, "durable=True"),
        ({"ttl": 5}, "durable=True"),
        ({"durable": True, "timeout": 1}, "leave out timeout and reply"),
        ({"durable": True, "reply": False}, "leave out timeout and reply"),
    ],
)
def test_arguments_of_a_push_go_together(arguments: dict[str, Any], says: str) -> None:
    """What would have no effect is refused, not passed over."""
    event: Event[Any] = Event("room:1", "tick", None, {}, 0, FakeContext())

    with pytest.raises(LocalProtocolError, match=says):
        asyncio.run(event.push("ack", **arguments))


def test_cursor_is_kept_with_the_route() -> None:
    """The field that numbers a topic's events, None without one."""
    app = App()
    app.on("room:*", "tick", cursor="payload.meta.id")(async_handler)
    app.on("room:*", "tock")(async_handler)

    assert [route.cursor for route in app.routes] == ["payload.meta.id", None]


async def async_handler(event: Event[Any]) -> None: ...


def test_callbacks_of_gaps_stay_what_they_were() -> None:
    """They are routes of their own, none of which handles an event, and the function can still be called."""
    app = App()

    @app.on_gap
    async def first(gap: rig.Gap) -> None: ...

    @app.on_gap
    def second(gap) -> None:  # type: ignore[no-untyped-def]
        ...

    assert [(route.handler, route.is_async) for route in app.gap_routes] == [(first, True), (second, False)]
    assert app.routes == []
    assert second(None) is None


def takes_nothing() -> None: ...
def takes_two(gap: rig.Gap, more: int) -> None: ...
def takes_an_event(gap: Event[Any]) -> None: ...


@pytest.mark.parametrize(
    ("callback", "sentence"),
    [
        (
            takes_nothing,
            r"handler takes_nothing \(.*\) takes \(\) -> None: a callback of on_gap takes one gap, as in \(gap: rig.Gap\)",
        ),
        (takes_two, "a callback of on_gap takes one gap"),
        (takes_an_event, "'gap' is annotated .*Event.*; write rig.Gap"),
        (generator, "yields"),
        ("callback", "'callback' is not a function"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_wrong_callback_of_gaps_is_refused_with_a_sentence(callback: Any, sentence: str) -> None:
    """It fails at start-up, as a handler does."""
    with pytest.raises(HandlerSignatureError, match=sentence):
        App().on_gap(callback)


def test_an_event_is_shown_without_the_worker_behind_it() -> None:
    """Who prints one sees what its documentation lists."""
    event: Event[Any] = Event("room:1", "tick", {"n": 1}, {"id": "1"}, 5, FakeContext())

    assert repr(event) == "Event(topic='room:1', event='tick', payload={'n': 1}, captures={'id': '1'}, received_ns=5)"
