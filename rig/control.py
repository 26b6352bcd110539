"""
The line between the supervisor and each of its children: one JSON object a line, both ways, over an inherited socket.

The first line a child gets is its specification; the end of the stream is the supervisor's death. Nothing of the hot
path travels here.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import msgspec
import structlog

from rig.config import Settings
from rig.routing import Overflow

LINE_LIMIT = 64 * 1024 * 1024
"""Bytes of one line: a specification names every route and join."""

log = structlog.get_logger()


class RingFds(msgspec.Struct, frozen=True):
    """The descriptors of one ring: its memory, and its doorbell."""

    memory: int
    bell: tuple[int, ...]

    def all(self) -> tuple[int, ...]:
        """Return every descriptor, to be inherited."""
        return (self.memory, *self.bell)


class RingsFds(msgspec.Struct, frozen=True):
    """The four rings between one io process and one worker."""

    events: RingFds
    replies: RingFds
    pushes: RingFds
    storage: RingFds

    def all(self) -> tuple[int, ...]:
        """Return every descriptor, to be inherited."""
        return (*self.events.all(), *self.replies.all(), *self.pushes.all(), *self.storage.all())


class RouteSpec(msgspec.Struct, frozen=True):
    """What the io process must know of a handler: which events, by what they are ordered and numbered, which may be dropped."""

    topic: str
    event: str
    key: str | None
    overflow: Overflow | None = None
    cursor: str | None = None


# What the supervisor says.


class IoSpec(msgspec.Struct, frozen=True, tag="io"):
    """
    All that an io process needs.

    Attributes:
        settings: With the URLs and the state directory that are used, and all else as the user set it.
        name: For the log: "io", "io-0".
        index: Its number among the io processes, from 0: topics are spread over them.
        joins: Its own topics, with their join payloads.
        routes: Of all handlers.
        rings: For each worker, those between the two.
        counters: The descriptor of its page.
        run: A number that this run has drawn, the same for all its io processes: what they spill is known by it.
        marks: The descriptor of its cursors, which its successor goes on from.
        gaps: True if the application wants to be told of gaps.
    """

    settings: Settings
    name: str
    index: int
    joins: dict[str, Any]
    routes: list[RouteSpec]
    rings: list[RingsFds]
    counters: int
    run: int
    marks: int
    gaps: bool


class WorkerSpec(msgspec.Struct, frozen=True, tag="worker"):
    """
    All that a worker needs.

    Attributes:
        index: Its number, from 0.
        rings: For each io process, those between the two, in the order in which topics are spread over them.
        counters: The descriptor of its page.
        stacks: That of the file to which `rig.child.STACKS_SIGNAL` has it write the stacks of its threads.
    """

    settings: Settings
    index: int
    rings: list[RingsFds]
    counters: int
    stacks: int


class DescribeSpec(msgspec.Struct, frozen=True, tag="describe"):
    """Asks a child to import the application and say what is in it."""

    settings: Settings


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """To an io process: hand on what was received, then nothing more. To a worker: finish what is in the rings, then end."""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """
    To an io process: leave and close the socket, then end.

    Attributes:
        within: Seconds that there are for it; storing what is left may take a little longer.
    """

    within: float


class Rotate(msgspec.Struct, frozen=True, tag="rotate"):
    """To an io process: hand over to another connection; `Rotated` with the same number follows."""

    request: int


class ListTopics(msgspec.Struct, frozen=True, tag="list_topics"):
    """To an io process: say where the topics stand; `Topics` with the same number follows."""

    request: int


class DumpFlight(msgspec.Struct, frozen=True, tag="dump_flight"):
    """To an io process: write down what the flight recorder holds; `FlightDumped` with the same number follows."""

    request: int


class Recycle(msgspec.Struct, frozen=True, tag="recycle"):
    """To a worker: finish what is read already, read no more, then end; a successor goes on with the rest."""


class DumpStacks(msgspec.Struct, frozen=True, tag="dump_stacks"):
    """To a worker: say what its tasks wait for."""


# What a child says.


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The child does its work now."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The child cannot start; the reason is a sentence for the user."""

    reason: str
    exit_code: int


class Described(msgspec.Struct, frozen=True, tag="described"):
    """What the application consists of, as `rig.worker.describe.Description` in JSON."""

    description: msgspec.Raw


class Disconnect(msgspec.Struct, frozen=True):
    """
    One end of a connection, or one attempt that failed, and what was decided.

    Attributes:
        at: Unix seconds.
        cause: One of `rig.backoff.Cause`.
        by: Who closed: "us", "server" or "nobody".
        code: The close code; None if it never opened.
        reason: In words.
        heartbeat_age: Seconds since the server had answered a heartbeat; None if it never opened.
        open_for: Seconds; None if it never opened.
        decision: What followed, in words.
        delay: Seconds until the next attempt.
    """

    at: float
    cause: str
    by: str
    code: int | None
    reason: str
    heartbeat_age: float | None
    open_for: float | None
    decision: str
    delay: float


class State(msgspec.Struct, frozen=True, tag="state"):
    """
    Where a connection stands.

    Attributes:
        state: One of `rig.app.STATES`.
        reason: Why, in words; may be empty.
        joined: How many topics are joined.
        since: Unix seconds; 0 if nobody has said it.
        disconnects: The latest, oldest first.
    """

    state: str
    reason: str
    joined: int
    since: float = 0.0
    disconnects: tuple[Disconnect, ...] = ()


class AuthenticationGivenUp(msgspec.Struct, frozen=True, tag="authentication_given_up"):
    """The server does not accept our token, and the run shall end for it; the reason is a sentence for the user."""

    reason: str


class FlightDumped(msgspec.Struct, frozen=True, tag="flight_dumped"):
    """The answer to a `DumpFlight`: where it was written, or why it was not; the other is empty."""

    request: int
    path: str
    error: str


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """This io process hands on no more events; what it had is in the rings."""


class Stacks(msgspec.Struct, frozen=True, tag="stacks"):
    """What a worker's tasks wait for: the handlers in hand, each with its event and its line, and the lines of all tasks."""

    handlers: list[str]
    text: str


class Crashed(msgspec.Struct, frozen=True, tag="crashed"):
    """The child's last words: the exception that ends it, in one line."""

    reason: str


class Rotated(msgspec.Struct, frozen=True, tag="rotated"):
    """
    What a hand-over has come to.

    Attributes:
        request: As in the question.
        endpoint: Where the connection is now, masked.
        topics: How many were taken along.
        seconds: How long it took.
        failure: Why there was none; empty if there was.
    """

    request: int
    endpoint: str
    topics: int
    seconds: float
    failure: str


class Topics(msgspec.Struct, frozen=True, tag="topics"):
    """Where each topic of an io process stands: `joined`, `joining`, `errored`, `closed` or `leaving`."""

    request: int
    topics: dict[str, str]


class EndpointState(msgspec.Struct, frozen=True):
    """
    How an endpoint has been.

    Attributes:
        url: Masked.
        here: True if the connection is there.
        failures: In a row.
        reason: What the latest of them was.
        rests_until: Unix time until which the others come first; None if it is well.
    """

    url: str
    here: bool
    failures: int
    reason: str
    rests_until: float | None


class Endpoints(msgspec.Struct, frozen=True, tag="endpoints"):
    """The endpoints of an io process, the preferred one first; said whenever that changes."""

    endpoints: list[EndpointState]


Question: TypeAlias = Rotate | ListTopics | DumpFlight
"""What an io process is asked, and its successor is not."""
ToChild: TypeAlias = IoSpec | WorkerSpec | DescribeSpec | Drain | Stop | Recycle | DumpStacks | Question
FromChild: TypeAlias = (
    Ready
    | Failed
    | Described
    | State
    | Drained
    | AuthenticationGivenUp
    | Stacks
    | Crashed
    | Rotated
    | Topics
    | Endpoints
    | FlightDumped
)

_to_child = msgspec.json.Decoder(ToChild)
_from_child = msgspec.json.Decoder(FromChild)
_encoder = msgspec.json.Encoder()


def encode(message: ToChild | FromChild) -> bytes:
    """Return the line of a message."""
    return _encoder.encode(message) + b"\n"


class Control:
    """One end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, child: bool) -> None:
        """Take the ends of a stream; `child` says which vocabulary is read."""
        self._reader, self._writer = reader, writer
        self._decoder: Any = _to_child if child else _from_child

    @classmethod
    async def open(cls, sock: socket.socket, *, child: bool) -> "Control":
        """Take over a connected Unix socket."""
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=LINE_LIMIT)
        return cls(reader, writer, child=child)

    def send(self, message: ToChild | FromChild) -> None:
        """Queue a message; if the other end is gone, it is dropped."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def receive(self) -> Any:
        """Return the next message, None at the end of the stream. A line that cannot be read is logged and skipped."""
        while True:
            try:
                line = await self._reader.readline()
                return self._decoder.decode(line) if line.endswith(b"\n") else None
            except ConnectionError:
                return None
            except (ValueError, RecursionError) as exc:  # a line over the limit, or no message
                log.error("a line of the control stream was skipped", reason=str(exc))

    async def messages(self) -> AsyncIterator[Any]:
        """Yield messages until the other end is gone."""
        while (message := await self.receive()) is not None:
            yield message

    async def flush(self) -> None:
        """Wait until what was sent is written."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
