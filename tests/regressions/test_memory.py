"""What grew with every reconnect, rejoin or push, until somebody restarted it. The threads are in THREADS.md."""

import asyncio
import gc
import os
import random
import threading
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from mock_server.server import MockServer
from rig.client import connect
from rig.errors import PushTimeout
from tests.client.talking import cut, talking
from tests.running import run, until

_ALLOWED_BYTES = 32 * 1024


@pytest.fixture
def without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hundreds of attempts follow each other with hardly a pause."""
    monkeypatch.setattr(random, "random", lambda: 1e-9)


@pytest.fixture(autouse=True)
def _traced() -> Iterator[None]:
    """Know of every allocation where it was made."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@asynccontextmanager
async def flat() -> AsyncIterator[None]:
    """Insist that what rig holds afterwards is what it held before: memory, descriptors, threads and tasks."""
    before, held = await _settle(), _held()
    yield
    growth = (await _settle()).compare_to(before, "lineno")
    assert _held() == held
    assert sum(line.size_diff for line in growth) < _ALLOWED_BYTES, [str(line) for line in growth[:5]]


async def _settle() -> tracemalloc.Snapshot:
    """Let the loop forget what it has done, and return what is left of rig's own."""
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    return tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/rig/*")])


def _held() -> tuple[int, int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(asyncio.all_tasks())


@pytest.mark.usefixtures("at_once")
def test_a_channel_that_was_left_stays_away_over_every_reconnect() -> None:
    """What was left is neither joined again nor kept in memory (supabase/supabase-py#1371)."""

    async def test() -> None:
        async with talking() as (server, client):
            await client.join("room:stays")
            for n in range(20):
                await (await client.join(f"room:{n}")).leave()
            await cut(server)

            assert server.clients[0]["channels"] == ["room:stays"]
            assert list(client._channels) == ["room:stays"]
            assert not client._leaving
            assert not client._joining
            assert len(client._socket._channels) == 1

    run(test)


@pytest.mark.usefixtures("without_delay")
def test_hundreds_of_reconnects_leave_nothing() -> None:
    """Neither sockets, nor timers, nor tasks, nor threads gather (supabase/supabase-js#1840, #1902)."""

    async def test() -> None:
        async with talking() as (server, client):
            await client.join("room:1")
            await client.join("room:2")

            async def reconnect(times: int) -> None:
                for _ in range(times):
                    client._socket._link.attempt = 0  # as after 30 s joined, so that the waits stay short
                    await cut(server)
                    await until(lambda: len(server.clients) == 1 and len(server.clients[0]["channels"]) == 2)

            await reconnect(20)
            async with flat():
                await reconnect(200)

    run(test)


@pytest.mark.usefixtures("at_once")
def test_a_connection_that_has_ended_is_freed_at_once() -> None:
    """Its buffers do not wait for the garbage collector, which a worker lets run rarely (supabase/supabase-js#1840, #1902)."""

    async def test() -> None:
        async with talking() as (server, client):
            await client.join("room:1")
            for code in (0, 1000):
                ended = weakref.ref(client._connection._transport)
                await cut(server, code)
                await until(lambda transport=ended: transport() is None)

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()


@pytest.mark.usefixtures("without_delay")
def test_hundreds_of_refused_rejoins_leave_nothing() -> None:
    """A topic that is refused for days costs what it cost in the first minute (Slipstream 1.0.2)."""

    async def test() -> None:
        async with talking() as (server, client):
            await client.join("room:1")
            channel = client._socket._channels._channels["room:1"]
            server.faults.change({"refuse_joins": True})
            server.kill_channels("room:1")
            await until(lambda: channel.attempts >= 20)
            async with flat():
                await until(lambda: channel.attempts >= 1_000)

    run(test)


def test_pushes_without_a_reply_leave_nothing() -> None:
    """What nobody answered is forgotten when its time is up, and so is what waited for a join (phoenixframework/phoenix#6788)."""

    async def test() -> None:
        async with MockServer() as server, connect(server.url) as client:
            channel = await client.join("room:1")

            async def push(times: int) -> None:
                outcomes = await asyncio.gather(
                    *(channel.push("noreply", {"n": n}, timeout=0.05) for n in range(times)), return_exceptions=True
                )
                assert {type(outcome) for outcome in outcomes} == {PushTimeout}

            await push(1_000)
            async with flat():
                await push(1_000)
            assert client._socket.pending_pushes == 0
            assert not client._waiting

    run(test)


def test_a_channel_that_lives_for_long_does_not_grow() -> None:
    """A hundred thousand events later one channel holds what it held (supabase/supabase-js#1204)."""

    async def test() -> None:
        async with MockServer() as server, connect(server.url) as client:
            channel = await client.join("room:1")
            events = aiter(channel)

            async def exchange(times: int) -> None:
                for _ in range(times):
                    answer = asyncio.create_task(channel.push("push_n", {"n": 500}))
                    for _ in range(500):
                        await anext(events)
                    await answer

            await exchange(5)
            async with flat():
                await exchange(40)

    run(test)
