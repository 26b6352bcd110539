"""
What a user writes: an `App` with handlers, the `Event` that they get, and the `State` that callbacks are told.

    app = rig.App("max")

    @app.on("applications:*", "deployed", key="payload.app")
    async def deployed(event: rig.Event[AppDeployed]) -> None: ...

Nothing here runs a handler: the worker does. A decorated function stays what it was, so that a test can call it.
"""

import functools
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect

from rig.errors import AppError, HandlerSignatureError, LocalProtocolError
from rig.gap import GAP_EVENT, Gap
from rig.routing import Overflow, Pattern

T = TypeVar("T")
Handler: TypeAlias = Callable[..., Awaitable[None] | None]
HandlerType = TypeVar("HandlerType", bound=Handler)
Lifespan: TypeAlias = Callable[["App"], AbstractAsyncContextManager[Any]]

_KEY = re.compile(r"topic|payload(\.[^.]+)+")
_CURSOR = re.compile(r"payload(\.[^.]+)+")


class Context(Protocol):
    """What an event can ask of the worker that handles it."""

    async def push(self, topic: str, event: str, payload: Any, *, timeout: float | None, reply: bool) -> Any:
        """Push to a topic, and return the response if a reply is wanted."""

    async def enqueue(self, topic: str, event: str, payload: Any, *, key: str | None, ttl: float | None) -> str:
        """Store a push, and return its idempotency key once it is stored."""


class Event(msgspec.Struct, Generic[T], gc=False):
    """
    One event, as its handler gets it.

    Attributes:
        topic: The topic it came on.
        event: Its name.
        payload: Decoded into the type that the handler's annotation names; plain objects without one; bytes if binary.
        captures: What `{name}` in the topic pattern stands for.
        received_ns: When the io process had it: nanoseconds of the monotonic clock.
    """

    topic: str
    event: str
    payload: T
    captures: Mapping[str, str]
    received_ns: int
    _context: Context

    def __repr__(self) -> str:
        """Show what is told, and not the worker behind it."""
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "_context")
        return f"Event({told})"

    async def push(
        self,
        event: str,
        payload: Any = None,
        *,
        timeout: float | None = None,
        reply: bool = True,
        durable: bool = False,
        key: str | None = None,
        ttl: float | None = None,
    ) -> Any:
        """
        Push an event back on the same channel and return the response of its reply.

        Args:
            event: The name of the event to push.
            payload: Plain objects, structs or dataclasses (JSON), or bytes (a binary frame). None pushes `{}`.
            timeout: Seconds to wait for the reply; None takes `--push-timeout`.
            reply: False returns None as soon as the push is on its way.
            durable: True stores the push instead, and returns its idempotency key once it cannot be lost; see `rig.enqueue`.
            key: Of a durable push, its idempotency key; None makes one.
            ttl: Of a durable push, the seconds after which it is not sent any more; None takes `--outbox-ttl`.

        Raises:
            LocalProtocolError: If an argument cannot be sent, or does not go with the others.
            PushRefused: If the reply's status is not ok.
            PushTimeout: If no reply came in time.
            ConnectionLost: If the connection or the channel ended before the reply came.
            OutboxFull: If the push is durable, and the outbox full.
            StoreFailed: If the push is durable, and could not be stored.
        """
        content = {} if payload is None else payload
        if durable:
            if timeout is not None or not reply:
                raise LocalProtocolError("a durable push is answered long after it is stored: leave out timeout and reply")
            return await self._context.enqueue(self.topic, event, content, key=key, ttl=ttl)
        if key is not None or ttl is not None:
            raise LocalProtocolError("key and ttl are for pushes that are stored: add durable=True")
        return await self._context.push(self.topic, event, content, timeout=timeout, reply=reply)


STATES = ("connecting", "connected", "degraded", "offline", "draining")
"""Every value of `State.state`."""


class State(msgspec.Struct, frozen=True):
    """
    Where a connection stands, as an `on_state` callback gets it.

    Attributes:
        state: "connecting" (on the way, and no attempt has failed since the start or the loss), "connected", "degraded" (it works,
            but not as it should), "offline" (an attempt failed; pushes wait, handlers go on with what was received) or
            "draining" (the run ends).
        reason: Why, in words; empty where there is nothing to say.
        since: Unix seconds.
        previous: The state before; empty at the start.
        connection: Which one, where there are several: "io", or "io-0" and so on.
        topics: How many are joined.
    """

    state: str
    reason: str
    since: float
    previous: str = ""
    connection: str = "io"
    topics: int = 0


StateCallback: TypeAlias = Callable[[State], Awaitable[None] | None]
StateCallbackType = TypeVar("StateCallbackType", bound=StateCallback)


@dataclass(frozen=True, slots=True)
class Route:
    """
    One handler and what it handles.

    Attributes:
        pattern: The topics and events.
        handler: The user's function.
        payload_type: What the payload is decoded into; `Any` for plain objects.
        key: What events must share to be handled one after the other: "topic", "payload.<path>", or None for no order.
        retries: How often a failed event is tried again; None takes `--retries`.
        backoff: Seconds, the ceiling of the wait before the first retry; it doubles. None takes `--retry-backoff`.
        timeout: Seconds that the handler may take; None for no limit.
        overflow: What happens to events when the worker cannot keep up; None takes `--overflow`.
        is_async: False if the handler is a plain function, which runs in a thread.
        cursor: The field that numbers the events of the topic, as "payload.<path>"; None if they have none.
    """

    pattern: Pattern
    handler: Handler
    payload_type: Any
    key: str | None
    retries: int | None
    backoff: float | None
    timeout: float | None
    overflow: Overflow | None
    is_async: bool
    cursor: str | None = None

    @property
    def name(self) -> str:
        """Where the handler is defined, for a reader: `module.function`."""
        return f"{self.handler.__module__}.{getattr(self.handler, '__qualname__', repr(self.handler))}"


class App:
    """The handlers of one application, and the topics that it joins."""

    def __init__(self, name: str = "rig", *, lifespan: Lifespan | None = None) -> None:
        """
        Make an application without handlers.

        Args:
            name: What logs call it.
            lifespan: A function that takes the app and returns an async context manager, entered by each worker
                before its first event and left after its last.
        """
        self.name = name
        self.lifespan: Lifespan = lifespan or _no_lifespan
        self.routes: list[Route] = []
        self.gap_routes: list[Route] = []
        """The callbacks of `on_gap`, as routes of all topics."""
        self.topics: dict[str, Any] = {}
        """The topics named by `join`, with the payload that each is joined with."""
        self.state_callbacks: list[StateCallback] = []
        """In the order of declaration."""

    def on(
        self,
        topic: str,
        event: str,
        *,
        key: str | None = "topic",
        retries: int | None = None,
        backoff: float | None = None,
        timeout: float | None = None,
        overflow: Overflow | None = None,
        cursor: str | None = None,
    ) -> Callable[[HandlerType], HandlerType]:
        """
        Handle the events of some topics.

        Every pattern that matches an event applies: its handlers run one after the other, in the order of declaration.

        Args:
            topic: A topic; `*` at the end stands for any rest, `{name}` for one segment, found in `event.captures`.
            event: An event's name, or a glob (`*`, `?`, `[…]`).
            key: Events with the same key are handled in order, one at a time: "topic", a field as "payload.user_id",
                or None where order does not matter.
            retries: How often an event is tried again after its handler raised; None takes `--retries`.
            backoff: Seconds, the ceiling of the wait before the first retry, doubled each time; None takes `--retry-backoff`.
            timeout: Seconds that the handler may take before it is cancelled, which counts as failed. A plain function
                cannot be cancelled: its event counts as failed, and its thread runs on.
            overflow: What happens to events when the worker cannot keep up: "spill" (kept on disk), "block" (the server waits),
                "drop_newest", "drop_oldest", or "latest", where the newest of each key (each topic where key is None) replaces
                the one before it. None takes `--overflow`. Where several patterns match, that of the first counts.
            cursor: The field that numbers the topic's events, as "payload.id": a whole number or a text that grows from event to
                event. The newest is sent with every join, so that the server can send what was missed, and an event that is not
                above it is not handled again. All handlers of a topic that name one name the same.

        Raises:
            AppError: If a pattern or an option cannot be used.
            HandlerSignatureError: If the function does not take exactly one event.
        """
        pattern = Pattern(topic, event)
        if key is not None and not _KEY.fullmatch(key):
            raise AppError(f"key={key!r}: write 'topic', a field such as 'payload.user_id', or None where order does not matter")
        if retries is not None and (not isinstance(retries, int) or retries < 0):
            raise AppError(f"retries={retries!r}: write a whole number, 0 or more")
        if cursor is not None and not _CURSOR.fullmatch(cursor):
            raise AppError(f"cursor={cursor!r}: write a field such as 'payload.id', or None where events have no number")
        for name, value in (("backoff", backoff), ("timeout", timeout)):
            if value is not None and (not isinstance(value, int | float) or not value >= 0):
                raise AppError(f"{name}={value!r}: write seconds, 0 or more")
        if overflow is not None and overflow not in get_args(Overflow):
            raise AppError(f"overflow={overflow!r}: write one of {', '.join(get_args(Overflow))}")

        def register(handler: HandlerType) -> HandlerType:
            payload_type = _payload_type(handler)
            is_async = _is_async(handler)
            self.routes.append(Route(pattern, handler, payload_type, key, retries, backoff, timeout, overflow, is_async, cursor))
            return handler

        return register

    def on_state(self, callback: StateCallbackType) -> StateCallbackType:
        """
        Call a function in every worker whenever the state of a connection changes; put it above a `def` or an `async def`.

        The calls come one after the other, in the order of the changes, and beside the handlers: a slow one delays no event.
        What it raises is logged. A worker that starts later hears of the changes from then on.

        Args:
            callback: Takes one `rig.State`.

        Raises:
            HandlerSignatureError: If it does not take exactly one state.
        """
        _check_callback(callback, State, "@app.on_state", "a callback takes one state, as in (state: rig.State)")
        self.state_callbacks.append(callback)
        return callback

    def on_gap(self, callback: HandlerType) -> HandlerType:
        """
        Be told when a topic is joined again after a time in which it was not, and what became of the events of that time.

        Used as a decorator, without parentheses. All callbacks are called, in the order of declaration, in one worker, in order
        with the topic's events that are ordered by topic. One that raises is tried again as a handler is.

        Args:
            callback: A plain or an async function that takes a `rig.Gap`.

        Raises:
            HandlerSignatureError: If the function does not take exactly one gap.
        """
        _check_callback(callback, Gap, "@app.on_gap", "a callback of on_gap takes one gap, as in (gap: rig.Gap)")
        pattern, is_async = Pattern("*", GAP_EVENT), _is_async(callback)
        self.gap_routes.append(Route(pattern, callback, Gap, "topic", None, None, None, None, is_async))
        return callback

    def join(self, *topics: str, payload: Any = None) -> None:
        """
        Name topics to join, and what to join them with.

        A pattern without captures that covers no named topic is joined as it is written; so this is for topics behind a
        `{name}`, for join payloads, and for topics without handlers.

        Args:
            topics: Topics as the server knows them.
            payload: Sent with each join; plain objects. None sends `{}`.
        """
        for topic in topics:
            self.topics[topic] = {} if payload is None else payload

    @property
    def patterns(self) -> Sequence[Pattern]:
        """The patterns of all routes, in the order of declaration."""
        return [route.pattern for route in self.routes]


@asynccontextmanager
async def _no_lifespan(app: App) -> AsyncIterator[None]:
    yield


def _payload_type(handler: Handler) -> Any:
    """Return T of the parameter's `Event[T]`, `Any` for a bare one, and insist on exactly one parameter."""
    parameter = _only_parameter(handler, "@app.on(…)", "a handler takes one event, as in (event: rig.Event)")
    annotation = _annotation(handler, parameter)
    if annotation in (Any, Event, inspect.Parameter.empty):
        return Any
    if get_origin(annotation) is not Event:
        raise HandlerSignatureError(
            f"{_where(handler)}: {parameter!r} is annotated {annotation!r}; write rig.Event, or rig.Event[YourPayload]"
        )
    payload_type = get_args(annotation)[0]
    if payload_type is not Any and not isinstance(payload_type, TypeVar):
        _check_decodable(handler, payload_type)
        return payload_type
    return Any


def _check_callback(callback: Callable[..., Any], takes: type, decorator: str, remedy: str) -> None:
    """Insist that a function takes exactly one argument, of this type if it says of which."""
    parameter = _only_parameter(callback, decorator, remedy)
    annotation = _annotation(callback, parameter)
    if annotation not in (Any, takes):
        raise HandlerSignatureError(f"{_where(callback)}: {parameter!r} is annotated {annotation!r}; write rig.{takes.__name__}")


def _annotation(function: Callable[..., Any], parameter: str) -> Any:
    target = _innermost(function)
    try:
        hints = get_type_hints(target if inspect.isroutine(target) else type(target).__call__)
    except Exception as exc:  # an annotation in quotes is evaluated, and may do anything
        raise HandlerSignatureError(f"{_where(function)}: the annotation of {parameter!r} cannot be resolved ({exc})") from exc
    return hints.get(parameter, Any)


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def _only_parameter(function: Callable[..., Any], decorator: str, remedy: str) -> str:
    """Return the name of the one parameter that a function takes."""
    if not callable(function):
        raise HandlerSignatureError(f"{function!r} is not a function: put {decorator} above a def")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise HandlerSignatureError(f"{_where(function)} yields: a handler is a plain or an async function")
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError) as exc:
        raise HandlerSignatureError(f"{function!r} does not say what it takes: put {decorator} above a def") from exc
    parameters = list(signature.parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not parameters or parameters[0].kind not in positional or required[1:] or any(p.kind is p.KEYWORD_ONLY for p in required):
        raise HandlerSignatureError(f"{_where(function)} takes {signature}: {remedy}")
    return parameters[0].name


def _check_decodable(handler: Handler, payload_type: Any) -> None:
    try:
        msgspec.json.Decoder(payload_type)
        foreign = isinstance(msgspec.inspect.type_info(payload_type), msgspec.inspect.CustomType)
    except Exception as exc:  # the annotations of the type's own fields are evaluated here
        raise HandlerSignatureError(f"{_where(handler)}: payloads cannot be decoded into {payload_type!r} ({exc})") from exc
    if foreign:
        raise HandlerSignatureError(
            f"{_where(handler)}: payloads cannot be decoded into {payload_type!r}; "
            "use a msgspec.Struct, a dataclass, a TypedDict, an attrs class or plain types"
        )


def _innermost(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside decorators and `functools.partial`: it has the annotations."""
    target: Callable[..., Any] = inspect.unwrap(handler)
    while isinstance(target, functools.partial):
        target = inspect.unwrap(target.func)
    return target


def _where(handler: Callable[..., Any]) -> str:
    function = _innermost(handler)
    code = getattr(function, "__code__", None)
    name = getattr(handler, "__qualname__", repr(handler))
    return f"handler {name}" if code is None else f"handler {name} ({code.co_filename}:{code.co_firstlineno})"
