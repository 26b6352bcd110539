"""The line between the supervisor and its children: what is said arrives, and nothing that is said wrongly ends it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import structlog
import uvloop

from rig import control as control_module
from rig.config import Settings
from rig.control import (
    AuthenticationGivenUp,
    Control,
    Crashed,
    Described,
    DescribeSpec,
    Disconnect,
    Drain,
    Drained,
    DumpFlight,
    DumpStacks,
    Endpoints,
    EndpointState,
    Failed,
    FlightDumped,
    IoSpec,
    ListTopics,
    Ready,
    Recycle,
    RingFds,
    RingsFds,
    Rotate,
    Rotated,
    RouteSpec,
    Stacks,
    State,
    Stop,
    Topics,
    WorkerSpec,
)

FDS = RingsFds(RingFds(3, (4,)), RingFds(5, (6, 7)), RingFds(8, (9,)), RingFds(10, (11,)))
SETTINGS = Settings(target="app:app", param={"token": "x"}, header=(("a", "b"),))
TO_CHILD = [
    IoSpec(
        SETTINGS,
        "io-1",
        1,
        {"a:*": {"since": 1}},
        [RouteSpec("a:*", "tick", None, cursor="payload.id")],
        [FDS],
        10,
        run=7,
        marks=11,
        gaps=True,
    ),
    WorkerSpec(SETTINGS, 1, [FDS, FDS], 11, 12),
    DescribeSpec(SETTINGS),
    Drain(),
    Stop(2.5),
    DumpFlight(7),
    Recycle(),
    DumpStacks(),
    Rotate(7),
    ListTopics(8),
]
FROM_CHILD = [
    Ready(),
    Failed("write it otherwise", 3),
    Described(msgspec.Raw(b'{"name":"max"}')),
    State("connected", "", 3),
    State("offline", "cut", 0, 1e9, (Disconnect(1e9, "link_lost", "nobody", 1006, "cut", 1.5, 2.5, "reconnect", 0.25),)),
    AuthenticationGivenUp("the server answers HTTP 403"),
    FlightDumped(7, "/state/flight/x.json", ""),
    Drained(),
    Stacks(["app.handler (a:1 tick, app.py:3)"], "Task lane-0\n"),
    Crashed("KeyError: 'x' (app.py:3)"),
    Rotated(7, "ws://a/socket", 3, 0.5, ""),
    Topics(8, {"a:1": "joined"}),
    Endpoints([EndpointState("ws://a/socket", True, 2, "refused", 1.5)]),
]


@asynccontextmanager
async def line() -> AsyncIterator[tuple[Control, Control, socket.socket]]:
    """Give both ends, and the raw socket of the child's."""
    ours, theirs = socket.socketpair()
    raw = theirs.dup()
    parent, child = await Control.open(ours, child=False), await Control.open(theirs, child=True)
    yield parent, child, raw
    for end in (parent, child):
        await end.flush()
        end.close()
    raw.close()
    await asyncio.sleep(0)


def run(main: Callable[[Control, Control, socket.socket], Awaitable[None]]) -> None:
    async def with_line() -> None:
        async with asyncio.timeout(5), line() as ends:
            await main(*ends)

    uvloop.run(with_line())


@pytest.mark.parametrize("message", TO_CHILD, ids=lambda message: type(message).__name__)
def test_child_hears_the_supervisor(message: Any) -> None:
    """Each message of the supervisor arrives as it was sent."""

    async def main(parent: Control, child: Control, _: socket.socket) -> None:
        parent.send(message)
        assert await child.receive() == message

    run(main)


@pytest.mark.parametrize("message", FROM_CHILD, ids=lambda message: type(message).__name__)
def test_supervisor_hears_the_child(message: Any) -> None:
    """Each message of a child arrives as it was sent, whatever bytes and line breaks are in it."""

    async def main(parent: Control, child: Control, _: socket.socket) -> None:
        child.send(message)
        assert await parent.receive() == message

    run(main)


def test_messages_keep_their_order_until_the_end() -> None:
    """Everything that was sent before the other end closed is read, then the messages end."""

    async def main(parent: Control, child: Control, raw: socket.socket) -> None:
        for joined in range(100):
            child.send(State("connected", "", joined))
        await child.flush()
        child.close()
        raw.close()
        assert [message.joined async for message in parent.messages()] == list(range(100))
        assert await parent.receive() is None

    run(main)


def test_line_that_ends_in_the_middle_is_no_message() -> None:
    """A child that is killed while it writes says nothing wrong."""

    async def main(parent: Control, child: Control, raw: socket.socket) -> None:
        raw.sendall(b'{"type":"ready"}\n{"type":"dra')
        child.close()
        raw.shutdown(socket.SHUT_RDWR)
        assert [message async for message in parent.messages()] == [Ready()]

    run(main)


def test_sending_to_nobody_is_harmless() -> None:
    """What is said to a process that is gone is dropped."""

    async def main(parent: Control, child: Control, raw: socket.socket) -> None:
        child.close()
        raw.close()
        assert await parent.receive() is None
        for _ in range(3):
            parent.send(Drain())
            await parent.flush()
        parent.close()
        parent.send(Stop(2.5))

    run(main)


@pytest.mark.parametrize(
    "junk", [b"no json\n", b'{"type":"drain"}\n', b'{"type":"unknown"}\n', b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"\n"]
)
def test_line_that_is_no_message_is_skipped(junk: bytes) -> None:
    """A line from outside the vocabulary is logged and does not end the line: what follows is heard."""

    async def main(parent: Control, child: Control, raw: socket.socket) -> None:
        with structlog.testing.capture_logs() as logs:
            raw.sendall(junk)
            child.send(Ready())
            assert await parent.receive() == Ready()
        assert [entry["event"] for entry in logs] == ["a line of the control stream was skipped"]

    run(main)


def test_oversized_line_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line over the limit is logged and dropped, the messages after it are not."""
    monkeypatch.setattr(control_module, "LINE_LIMIT", 1000)

    async def main(parent: Control, child: Control, _: socket.socket) -> None:
        with structlog.testing.capture_logs() as logs:
            child.send(Failed("x" * 10_000, 3))
            await child.flush()
            child.send(Ready())
            assert await parent.receive() == Ready()
        assert logs

    run(main)


def test_fds_are_listed_for_inheritance() -> None:
    """A worker inherits every descriptor of its four rings."""
    assert FDS.all() == (3, 4, 5, 6, 7, 8, 9, 10, 11)


@pytest.mark.parametrize("message", [message for message in TO_CHILD if isinstance(message, IoSpec | WorkerSpec | DescribeSpec)])
def test_specification_is_one_line(message: Any) -> None:
    """A specification is one line of JSON with the name of its kind."""
    text = msgspec.json.encode(message)

    assert b"\n" not in text
    assert msgspec.json.decode(text)["type"] in {"io", "worker", "describe"}
