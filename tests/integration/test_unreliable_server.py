"""
A server that kicks, drains, refuses, crashes, garbles, repeats, delays and ignores, at random and all at once: afterwards all is as
if nothing had been, and nothing has gathered.
"""

import asyncio
import contextlib
import gc
import itertools
import os
import random
import tracemalloc

import psutil
import pytest

from mock_server.server import MockServer
from rig.client import connect
from rig.errors import RigError
from tests.hostile import HostileServer
from tests.running import run
from tests.running import until as until_here

HASTY = ("--heartbeat-interval", "0.5", "--heartbeat-timeout", "0.3", "--join-timeout", "1", "--connect-timeout", "1",
         "--push-timeout", "1")  # fmt: skip
_ALLOWED_BYTES = 64 * 1024
RECOVERY = 30.0
"""Seconds in which all must be joined again: a lost heartbeat, a close that is not answered, and waits that had grown."""
SOON_WELL = """
import rig.phoenix.link

rig.phoenix.link._WELL_AFTER = 0.2  # seconds joined after which the delays start over: in 20 s there is no time for 30
"""


def growing(values: list[int]) -> bool:
    """Return True if no value comes twice, or before a smaller one."""
    return all(a < b for a, b in itertools.pairwise(values))


def held(processes: list[psutil.Process]) -> list[tuple[str, int, int]]:
    """Return what each process has open."""
    return [(process.cmdline()[2], process.num_fds(), process.num_threads()) for process in processes]


def allocated() -> tracemalloc.Snapshot:
    """Return what rig has allocated in this process."""
    gc.collect()
    return tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/rig/*")])


def descriptors() -> int:
    """Return how many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def grown_since(before: tracemalloc.Snapshot) -> int:
    """Return by how many bytes that is more now."""
    return sum(line.size_diff for line in allocated().compare_to(before, "filename"))


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_a_worker_outlives_it(play, until, seed) -> None:
    """It is in all its topics, has handled in order and once what it got, and holds no more than before."""

    async def test(stage):
        (stage.folder / "sitecustomize.py").write_text(SOON_WELL)
        path = os.pathsep.join([str(stage.folder), os.environ.get("PYTHONPATH", "")])
        rig = await stage.run_worker(*HASTY, topics=32, PYTHONPATH=path)
        hostile = HostileServer(stage.server, stage.topics, seed, stops=True)

        async def recover() -> None:
            await until(lambda: len(stage.server.clients) == 1 and stage.joined() == set(stage.topics), within=RECOVERY)
            before = len(stage.ledger.all("slow"))
            await stage.flood("slow", 3_200)
            await until(lambda: len(stage.ledger.all("slow")) == before + 3_200)
            await until(
                lambda: len(stage.ledger.all("asking")) == len(stage.ledger.all("answer")) + len(stage.ledger.all("failed"))
            )

        await hostile.rage(3.0, pause=0.15)
        await recover()
        processes = [process for process in stage.processes() if process.pid != rig.process.pid]
        before, resident = held(processes), [process.memory_info().rss for process in processes]
        await hostile.rage(10.0, pause=0.15)
        await recover()

        assert hostile.complete, hostile.done
        assert held(processes) == before
        for process, was in zip(processes, resident, strict=True):
            assert process.memory_info().rss < was * 1.1, process.cmdline()
        ticks = stage.ledger.all("tick")
        assert len(ticks) > 100
        for topic in stage.topics:
            assert growing([value for of, value in ticks if of == topic]), topic
        summary = await rig.drain()
        assert summary["reconnects"] > 5
        assert summary["unfinished"] == 0

    play(test, seconds=120.0)


@pytest.mark.long
@pytest.mark.parametrize("seed", [3, 4])
def test_a_client_outlives_it(monkeypatch, seed) -> None:
    """It is in all its topics, hears all that is said, and neither a task nor a descriptor nor memory is left over."""
    chance = random.Random(seed)
    monkeypatch.setattr(random, "random", lambda: 0.02 * chance.random())
    monkeypatch.setattr("rig.phoenix.link._WELL_AFTER", 0.1)
    topics = [f"room:{number}" for number in range(16)]

    async def test() -> None:
        settings = {"heartbeat_interval": 0.3, "heartbeat_timeout": 0.2, "join_timeout": 0.5, "push_timeout": 0.5}
        async with MockServer() as server, connect(server.url, **settings) as client:
            hostile, seen = HostileServer(server, topics, seed, stops=False), dict.fromkeys(topics, -1)
            received = 0

            async def follow() -> None:
                nonlocal received
                async for event in client.events():
                    if event.event == "tick":
                        assert event.payload["i"] > seen[event.topic]
                        received += 1
                        seen[event.topic] = event.payload["i"]

            async def ask() -> None:
                while True:
                    with contextlib.suppress(RigError):
                        await channels[chance.choice(topics)].push("echo", {"n": 1})
                    await asyncio.sleep(0.005)

            async def recover() -> None:
                await until_here(lambda: len(server.clients) == 1 and set(server.clients[0]["channels"]) == set(topics))
                for topic in topics:
                    hostile.say(topic)
                await until_here(lambda: seen == {topic: count - 1 for topic, count in hostile.sent.items()})

            channels = {topic: await client.join(topic) for topic in topics}
            working = [asyncio.create_task(follow()), asyncio.create_task(ask())]
            await hostile.rage(3.0, pause=0.1)
            await recover()
            before, opened, tasks = allocated(), descriptors(), len(asyncio.all_tasks())
            await hostile.rage(10.0, pause=0.1)
            await recover()

            assert hostile.complete, hostile.done
            assert not any(task.done() for task in working)
            assert received > 100
            await until_here(lambda: descriptors() == opened)
            await until_here(lambda: len(asyncio.all_tasks()) == tasks)
            await until_here(lambda: grown_since(before) < _ALLOWED_BYTES)  # the latest connections' buffers go with them
            for task in working:
                task.cancel()

    tracemalloc.start()
    try:
        run(test, patience=60.0)
    finally:
        tracemalloc.stop()
