"""
The measurements of rig itself: throughput, latency, and how long a connection takes.

Throughput is timed from the request that starts the flood to the moment when the last event was handled. Latency is handler
start minus the time at which the event was meant to be sent, on one clock, so a late server counts too.
"""

import asyncio
import math
import statistics
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from rig.benchmark.app import POSTED_EVERY, TOPICS
from rig.benchmark.pipeline import Pipeline
from rig.benchmark.server import BenchServer, SendResult
from rig.benchmark.tally import Loss, settle
from rig.benchmark.usage import Usage, cpu_between
from rig.client import connect

STEP = POSTED_EVERY * len(TOPICS)
"""Floods are multiples of this, so that their last event is posted."""


class Quantiles(msgspec.Struct, frozen=True):
    """Of durations, in milliseconds."""

    p50: float
    p99: float
    max: float


class Throughput(msgspec.Struct, frozen=True):
    """
    One flood.

    Attributes:
        seconds: From the request to the last event handled.
        cpu_us: Microseconds of CPU per event, by process; empty where the system does not tell.
        rss_mib: Resident memory after it, by process; rings and libraries that processes share count in each.
    """

    workers: int
    events: int
    seconds: float
    rate: float
    loss: Loss
    cpu_us: dict[str, float]
    rss_mib: dict[str, float]


class Latency(msgspec.Struct, frozen=True):
    """
    One steady stream.

    Attributes:
        cpu_percent: Of one core, by process.
        rss_mib: As above.
        own_mib: The part of it that no other process shares.
    """

    workers: int
    rate: int
    seconds: float
    events: int
    latency_ms: Quantiles
    loss: Loss
    cpu_percent: dict[str, float]
    rss_mib: dict[str, float]
    own_mib: dict[str, float]


async def measure_throughput(server: BenchServer, workers: int, events: int) -> Throughput:
    """
    Flood a fresh pipeline.

    Args:
        server: Without other clients.
        workers: Worker processes.
        events: Rounded up to a multiple of STEP.

    Raises:
        RigError: If the pipeline does not come up, or does not end well.
    """
    events = math.ceil(events / STEP) * STEP
    await server.reset()
    async with Pipeline(server, workers) as pipeline:
        before, started = pipeline.usage(), time.monotonic_ns()
        async with _meanwhile(server.flood(TOPICS, events)) as sending:
            await pipeline.wait_handled(events, sending)
            seconds, after = (pipeline.last_ns - started) / 1e9, pipeline.usage()
            sent = (await sending).sent
        accounts = await pipeline.finish()
    handled = sum(account.handled for account in accounts)
    cpu = {name: round(used / events * 1e6, 3) for name, used in cpu_between(before, after).items()}
    return Throughput(workers, events, seconds, handled / seconds, settle(sent, accounts), cpu, _rss_mib(after))


async def measure_latency(server: BenchServer, workers: int, rate: int, seconds: float) -> Latency:
    """
    Send to a fresh pipeline at a steady rate.

    Args:
        server: Without other clients.
        workers: Worker processes.
        rate: Events per second.
        seconds: For how long.

    Raises:
        RigError: If the pipeline does not come up, or does not end well.
    """
    await server.reset()
    async with Pipeline(server, workers) as pipeline:
        before, started = pipeline.usage(), time.monotonic()
        async with _meanwhile(server.pace(TOPICS, rate, seconds)) as sending:
            await pipeline.wait_handled(round(rate * seconds), sending)
            after, elapsed = pipeline.usage(), time.monotonic() - started
            sent = (await sending).sent
        accounts = await pipeline.finish()
    samples = [sample for account in accounts for sample in account.latency_ns]
    return Latency(
        workers,
        rate,
        seconds,
        sent,
        quantiles(samples),
        settle(sent, accounts),
        {name: round(used / elapsed * 100, 2) for name, used in cpu_between(before, after).items()},
        _rss_mib(after),
        {name: round(usage.own_bytes / 2**20, 1) for name, usage in after.items()},
    )


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, SendResult]) -> AsyncIterator["asyncio.Task[SendResult]"]:
    """Have the server send, and no longer than somebody looks."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def _rss_mib(usages: Mapping[str, Usage]) -> dict[str, float]:
    return {name: round(usage.rss_bytes / 2**20, 1) for name, usage in usages.items()}


async def measure_connect(server: BenchServer, times: int) -> Quantiles:
    """
    Connect and join one topic, several times, each on a connection of its own.

    Args:
        server: Where to.
        times: How often.

    Raises:
        ConnectError: If a connection does not come about.
        JoinRefused: If the topic is refused.
    """
    durations = []
    for _ in range(times):
        started = time.monotonic_ns()
        async with connect(server.url) as connection:
            await connection.join(TOPICS[0])
            durations.append(time.monotonic_ns() - started)
    await server.wait_joined(0)
    return quantiles(durations)


def quantiles(durations_ns: Sequence[int]) -> Quantiles:
    """
    Sum up durations; NaN if there are none.

    Args:
        durations_ns: In nanoseconds, in any order.

    Raises:
        Nothing.
    """
    if not durations_ns:
        return Quantiles(math.nan, math.nan, math.nan)
    if len(durations_ns) == 1:
        return Quantiles(*[durations_ns[0] / 1e6] * 3)
    cuts = statistics.quantiles(durations_ns, n=100, method="inclusive")
    return Quantiles(*(round(value / 1e6, 4) for value in (cuts[49], cuts[98], max(durations_ns))))
