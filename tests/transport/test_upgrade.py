"""`rig.transport.upgrade`: an attempt that hangs is cut at the connect time-out, whatever it hangs in."""

import asyncio
import contextlib
import socket
import time
import types
from collections.abc import AsyncIterator, Callable

import psutil
import pytest

from rig.backoff import Cause
from rig.connection import Connection
from rig.phoenix import Socket, events
from rig.transport import Endpoint, Transport, TransportOwner, dial
from tests.running import run, until
from tests.transport.raw_server import Peer, RawServer

LIMIT = 0.2


@contextlib.asynccontextmanager
async def the_name(scheme: str) -> AsyncIterator[tuple[str, Callable[[], bool]]]:
    """A resolver that never answers."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    async def getaddrinfo(*args: object, **options: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        resolving = _Resolving(loop, getaddrinfo)
        patch.setattr("rig.transport.tcp.asyncio", types.SimpleNamespace(get_running_loop=lambda: resolving))
        yield f"{scheme}://phoenix.example/socket", asked.is_set


class _Resolving:
    """A loop that finds names in its own way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, getaddrinfo: object) -> None:
        self._loop, self.getaddrinfo = loop, getaddrinfo

    def __getattr__(self, name: str) -> object:
        return getattr(self._loop, name)


@contextlib.asynccontextmanager
async def the_connection(scheme: str) -> AsyncIterator[tuple[str, Callable[[], bool]]]:
    """A host whose queue of connections is full: what asks for another hears nothing."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listening.getsockname())
        yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/socket", lambda: True


@contextlib.asynccontextmanager
async def _served(scheme: str, say: bytes, *, first: bool) -> AsyncIterator[tuple[str, Callable[[], bool]]]:
    reached = asyncio.Event()

    async def behaviour(peer: Peer) -> None:
        if not first:
            await peer.reader.read(1)
        peer.write(say)
        reached.set()
        await peer.read_to_end()

    async with RawServer(behaviour) as server:
        yield f"{scheme}://127.0.0.1:{server.port}/socket", reached.is_set


def an_answer(scheme: str) -> contextlib.AbstractAsyncContextManager[tuple[str, Callable[[], bool]]]:
    """A server that accepts, and says nothing."""
    return _served(scheme, b"", first=True)


def the_rest_of_tls(scheme: str) -> contextlib.AbstractAsyncContextManager[tuple[str, Callable[[], bool]]]:
    """A server that begins its hello, and stops in the middle of it."""
    assert scheme == "wss"
    return _served(scheme, b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + bytes(20), first=False)


def the_rest_of_the_upgrade(scheme: str) -> contextlib.AbstractAsyncContextManager[tuple[str, Callable[[], bool]]]:
    """A server that begins to agree, and stops in the middle of a header."""
    return _served(scheme, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: web", first=False)


@pytest.mark.parametrize(
    ("waits_for", "scheme"),
    [
        (the_name, "ws"),
        (the_connection, "ws"),
        (an_answer, "ws"),
        (an_answer, "wss"),
        (the_rest_of_tls, "wss"),
        (the_rest_of_the_upgrade, "ws"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_attempt_that_waits_for_ever_is_cut_and_the_next_one_follows(
    waits_for: Callable[[str], contextlib.AbstractAsyncContextManager[tuple[str, Callable[[], bool]]]], scheme: str
) -> None:
    """Whatever it waits for, it has the connect time-out and no more, leaves no descriptor, and is told as a time-out."""

    async def test() -> None:
        async with waits_for(scheme) as (url, reached):
            endpoint, closed = Endpoint(url), []
            endpoint.ssl_context()  # to make it takes a good part of the time limit
            before, started = psutil.Process().num_fds(), []

            async def attempt(owner: TransportOwner) -> Transport:
                started.append(time.monotonic())
                return await dial(endpoint, owner, connect_timeout=LIMIT)

            def on_events(received: list[events.Event]) -> None:
                closed.extend((event, time.monotonic()) for event in received if isinstance(event, events.SocketClosed))

            connection = Connection(Socket(random=lambda: 0.001), attempt, on_events)
            connection.start()
            await until(lambda: len(closed) == 2)

            for (event, ended), began in zip(closed, started, strict=False):
                assert (event.cause, event.code) == (Cause.TIMEOUT, None)
                assert "within 0.2 s" in event.reason
                assert LIMIT - 0.01 < ended - began < LIMIT + 1.0
            assert reached()
            await connection.close()
            await until(lambda: psutil.Process().num_fds() <= before)

    run(test)
