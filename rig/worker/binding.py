"""
From the name of an event to the handlers that take it: found once for each (topic, event), then looked up.
"""

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, TypeAlias

import msgspec

from rig.app import Event, Route
from rig.gap import GAP_EVENT
from rig.keys import KeyOf, payload_key
from rig.records import decode_gap, decode_names
from rig.routing import lane

MEMO_LIMIT = 100_000
"""Names of events that are remembered; a server that makes up more starts the memory over."""
TABLES_KEPT = 1_000
"""Different names of records that are remembered."""

Run: TypeAlias = Callable[[Event[Any]], Awaitable[Any]]


class Call:
    """
    One handler for one (topic, event), ready to be called.

    Attributes:
        topic: For the event.
        event: Its name.
        captures: What the topic pattern captured.
        decode: Payload → what the handler's annotation names; raises `msgspec.DecodeError`.
        run: Event → awaitable; time limit and thread are inside.
        route: Where it was declared.
    """

    __slots__ = ("captures", "decode", "event", "route", "run", "topic")

    def __init__(
        self, topic: str, event: str, captures: Mapping[str, str], route: Route, decode: Callable[[Any], Any], run: Run
    ) -> None:
        self.topic, self.event, self.captures = topic, event, captures
        self.route, self.decode, self.run = route, decode, run


class Binding:
    """
    What (topic, event) means to this worker.

    Attributes:
        calls: The handlers, in the order of declaration; never empty.
        lane: Which lane takes it; -1 if that depends on the event.
    """

    __slots__ = ("_key", "_lanes", "_topic", "calls", "lane")

    def __init__(self, topic: str, calls: Sequence[Call], lanes: int, key: KeyOf | None) -> None:
        self.calls = tuple(calls)
        self._topic, self._lanes, self._key = topic.encode(), lanes, key
        self.lane = lane(self._topic, lanes) if calls[0].route.key == "topic" else -1

    def lane_for(self, payload: Any, index: int) -> int:
        """Return the lane of one event; `index` is its place in the record, for those that need no order."""
        if self.lane >= 0:
            return self.lane
        if self._key is None:
            return index % self._lanes
        found = self._key(payload)
        return lane(self._topic if found is None else found, self._lanes)


class Table:
    """
    What the names of a record mean, by their number.

    Attributes:
        bindings: None where no handler wants the event.
        simple: True if all events have one handler and one lane, as mostly.
        calls: Then, that handler.
        lanes: Then, that lane.
    """

    __slots__ = ("bindings", "calls", "lanes", "simple")

    def __init__(self, bindings: Sequence[Binding | None]) -> None:
        self.bindings = bindings
        found = [binding for binding in bindings if binding is not None and binding.lane >= 0 and len(binding.calls) == 1]
        self.simple = len(found) == len(bindings)
        self.calls = [binding.calls[0] for binding in found]
        self.lanes = [binding.lane for binding in found]


class Bindings:
    """All routes of an app, with a memory of what was asked."""

    def __init__(self, routes: Sequence[Route], lanes: int, executor: Executor, *, gap_routes: Sequence[Route] = ()) -> None:
        self._gaps = [(route, _decoder(route.payload_type), _gap_runner(_runner(route, executor))) for route in gap_routes]
        self._routes, self._lanes = routes, lanes
        self._parts = {id(route): (_decoder(route.payload_type), _runner(route, executor)) for route in routes}
        self._keys = {key: payload_key(key) for route in routes if (key := route.key) is not None and key != "topic"}
        self._remembered = 0
        self._memo: dict[str, dict[str, Binding | None]] = {}
        self._tables: dict[bytes, Table] = {}

    def of_names(self, names: msgspec.Raw) -> Table:
        """Return what the names of a record mean; mostly they are the same bytes as before."""
        known = bytes(names)
        table = self._tables.get(known)
        if table is None:
            if len(self._tables) >= TABLES_KEPT:
                self._tables.clear()
            pairs = decode_names(names)
            bindings = [self.get(topic, event) for topic, event in zip(pairs[::2], pairs[1::2], strict=True)]
            table = self._tables[known] = Table(bindings)
        return table

    def get(self, topic: str, event: str) -> Binding | None:
        """Return the binding of (topic, event), None if no handler wants it."""
        try:
            return self._memo[topic][event]
        except KeyError:
            return self._find(topic, event)

    def of_gap(self, payload: bytes) -> tuple[int, list[Call]]:
        """
        Return the lane of a gap, which is that of its topic, and the callbacks.

        Raises:
            RemoteProtocolError: If the payload is not that of a GAP record.
        """
        topic = decode_gap(payload).topic
        calls = [Call(topic, GAP_EVENT, {}, route, decode, run) for route, decode, run in self._gaps]
        return lane(topic.encode(), self._lanes), calls

    def _find(self, topic: str, event: str) -> Binding | None:
        self._remembered += 1
        if self._remembered > MEMO_LIMIT:
            self._memo.clear()
            self._remembered = 1
        calls = []
        for route in self._routes:
            captures = route.pattern.match(topic, event)
            if captures is not None:
                calls.append(Call(topic, event, captures, route, *self._parts[id(route)]))
        binding = Binding(topic, calls, self._lanes, self._keys.get(calls[0].route.key or "")) if calls else None
        self._memo.setdefault(topic, {})[event] = binding
        return binding


def _decoder(payload_type: Any) -> Callable[[Any], Any]:
    if payload_type is bytes:
        return _expect_bytes
    typed = msgspec.json.Decoder(payload_type).decode
    if payload_type is Any:
        return lambda payload: payload if isinstance(payload, bytes) else typed(payload)
    return typed


def _expect_bytes(payload: Any) -> bytes:
    if isinstance(payload, bytes):
        return payload
    raise msgspec.ValidationError("Expected a binary frame, got JSON")


def _runner(route: Route, executor: Executor) -> Run:
    run: Run = route.handler if route.is_async else functools.partial(_in_thread, executor, route.handler)  # type: ignore[assignment]
    return run if route.timeout is None else functools.partial(_limited, run, route.timeout)


def _gap_runner(run: Run) -> Run:
    """Let a callback have its gap, where a lane has the event that it travels as."""

    async def run_with_gap(event: Event[Any]) -> None:
        await run(event.payload.heard_by(event))

    return run_with_gap


async def _in_thread(executor: Executor, handler: Callable[[Event[Any]], Any], event: Event[Any]) -> None:
    context = contextvars.copy_context()
    result = await asyncio.get_running_loop().run_in_executor(executor, context.run, _call, handler, event)
    if inspect.isawaitable(result):  # an async function behind a decorator that does not look like one
        await result


def _call(handler: Callable[[Event[Any]], Any], event: Event[Any]) -> Any:
    """Call a handler; a `StopIteration` cannot travel through a future, which would never be done."""
    try:
        return handler(event)
    except StopIteration as exc:
        raise RuntimeError("the handler raised StopIteration") from exc


async def _limited(run: Run, seconds: float, event: Event[Any]) -> None:
    async with asyncio.timeout(seconds):
        await run(event)
