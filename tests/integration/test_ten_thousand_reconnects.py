"""A worker that loses its connection, or gets none, thousands of times holds what it held after the first hundreds."""

import asyncio
import os
import signal

import psutil
import pytest

QUICKLY = """
import random

import rig.phoenix.link

random.random = lambda: 0.0001
rig.phoenix.link._WELL_AFTER = 0.0
"""
"""Runs in each of its processes: hardly any delay, and delays that start over with each join, so that it does not take a day."""
REFUSAL = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
WARM = 1_000
COUNT = 10_000


def held(processes: list[psutil.Process]) -> list[tuple[int, int]]:
    """Return the descriptors and threads of each process."""
    return [(process.num_fds(), process.num_threads()) for process in processes]


def private(processes: list[psutil.Process]) -> list[int]:
    """Return the memory of each process, without the rings: their pages count as soon as they were written once."""
    return [process.memory_full_info().uss for process in processes]


def grown(processes: list[psutil.Process], before: list[int]) -> list[str]:
    """Return those that have grown by more than a twentieth."""
    sizes = zip(private(processes), before, strict=True)
    return [f"{was} to {now} bytes" for now, was in sizes if now > was * 1.05]


async def quick_worker(stage):
    """Start a worker that waits for nothing, and return it and its children."""
    (stage.folder / "sitecustomize.py").write_text(QUICKLY)
    path = os.pathsep.join([str(stage.folder), os.environ.get("PYTHONPATH", "")])
    rig = await stage.run_worker("--log-level", "error", topics=4, workers=1, PYTHONPATH=path)
    return rig, [process for process in stage.processes() if process.pid != rig.process.pid]


async def end(rig) -> None:
    """End the worker in peace."""
    rig.signal(signal.SIGTERM)
    assert (await rig.end(), rig.err) == (0, [])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_reconnects_leave_nothing(play, until) -> None:
    """Memory within a twentieth, the same descriptors and threads, and no more than a few files."""

    async def test(stage):
        rig, processes = await quick_worker(stage)

        def back(last: str) -> bool:
            return any(client["client"] != last and len(client["channels"]) == 4 for client in stage.server.clients)

        async def reconnect(times: int) -> None:
            for number in range(times):
                last = stage.client
                stage.server.close_where((0, 1000, 1001, 1012)[number % 4])
                await until(lambda last=last: back(last))

        await reconnect(WARM)
        opened, size = held(processes), private(processes)
        await reconnect(COUNT - WARM)

        assert held(processes) == opened
        assert not grown(processes, size)
        assert sum(len(files) for _, _, files in os.walk(stage.state)) < 20
        await stage.flood("tick", 400)
        await until(lambda: len(stage.ledger.all("tick")) == 400)
        await end(rig)

    play(test, seconds=900.0)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_attempts_that_fail_leave_nothing(play, until) -> None:
    """A server that is away for a month costs no memory either."""
    attempts = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        await reader.read(4096)
        writer.write(REFUSAL)
        writer.close()

    async def test(stage):
        rig, processes = await quick_worker(stage)
        await stage.server.stop()
        async with await asyncio.start_server(refuse, "127.0.0.1", stage.server.port):
            await until(lambda: attempts > 300)
            size = private(processes)
            await until(lambda: attempts > 3_000, within=120.0)
            assert not grown(processes, size)
            await end(rig)

    play(test, seconds=300.0)
