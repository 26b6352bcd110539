"""A client and the mock server in conversation, both on one loop, and ways to wait for what they do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import uvloop

from mock_server.server import MockServer
from rig.client import Client, connect

PATIENCE = 10.0
"""Seconds after which a test has failed."""


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a loop of its own; it fails if a task is left, or the loop had something to complain of."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        await asyncio.wait_for(test(), PATIENCE)
        for _ in range(3):  # the loop closes generators in turns of its own
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    uvloop.run(main())
    assert complaints == []


@contextlib.asynccontextmanager
async def talking(**settings: Any) -> AsyncIterator[tuple[MockServer, Client]]:
    """A mock server, and a client that is connected to it."""
    async with MockServer() as server, connect(server.url, **settings) as client:
        yield server, client


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0.001)


async def cut(server: MockServer, code: int = 0) -> None:
    """End the client's connection, and return when it is there again and has joined."""
    first = server.clients[0]["client"]
    server.close_where(code)
    await until(lambda: server.clients and server.clients[0]["client"] != first and server.clients[0]["channels"])


async def take(events: AsyncIterator[Any], count: int) -> list[Any]:
    """Return the next events of an iteration."""
    return [await anext(events) for _ in range(count)]
