"""Servers with a certificate, for the tests of what is accepted and what is not."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rig.errors import TlsFailed
from rig.transport import Endpoint, dial
from tests.transport.raw_server import Owner, Peer, RawServer, close


async def greet(peer: Peer) -> None:
    """Accept, say goodbye, and wait for the end."""
    await peer.upgrade(close(1000))
    await peer.read_to_end()


async def reach(endpoint: Endpoint) -> None:
    """Dial a server that greets, and hear it to the end."""
    owner = Owner()
    await dial(endpoint, owner, close_timeout=60)
    assert (await owner.wait_closed()).code == 1000


async def reach_with(context: ssl.SSLContext, host: str = "localhost", **settings: Any) -> None:
    """Dial a server with this certificate, and fail unless it is accepted."""
    async with RawServer(greet, context) as server:
        await reach(Endpoint(f"wss://{host}:{server.port}/socket", **settings))


async def fail_with(
    context: ssl.SSLContext, host: str = "localhost", *, expected: type[Exception] = TlsFailed, **settings: Any
) -> Any:
    """Dial a server with this certificate, and return the error. Nothing that we have to say may have reached the server."""
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        with contextlib.suppress(OSError):
            await writer.start_tls(context)
            received = await reader.read()
        heard.set_result(received)
        writer.transport.abort()

    async with serving(listen) as port:
        url = f"wss://{host}:{port}/socket"
        with pytest.raises(expected) as failed:
            await dial(Endpoint(url, {"token": "hush"}, auth_token="hush", **settings), Owner())
        assert await heard == b"", "the request left before the certificate was checked"
    assert failed.type is expected
    assert "hush" not in str(failed.value)
    return failed.value


@contextlib.asynccontextmanager
async def serving(callback: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free port, and close whatever the test did: uvloop cannot end with a server that is left open."""
    server = await asyncio.start_server(callback, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
