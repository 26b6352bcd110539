"""A client and the mock server in conversation, both on one loop, and ways to wait for what they do."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from mock_server.server import MockServer
from rig.client import Client, connect
from tests.running import until


@contextlib.asynccontextmanager
async def talking(**settings: Any) -> AsyncIterator[tuple[MockServer, Client]]:
    """A mock server, and a client that is connected to it."""
    async with MockServer() as server, connect(server.url, **settings) as client:
        yield server, client


async def cut(server: MockServer, code: int = 0) -> None:
    """End the client's connection, and return when it is there again and has joined."""
    first = server.clients[0]["client"]
    server.close_where(code)
    await until(lambda: server.clients and server.clients[0]["client"] != first and server.clients[0]["channels"])


async def take(events: AsyncIterator[Any], count: int) -> list[Any]:
    """Return the next events of an iteration."""
    return [await anext(events) for _ in range(count)]
