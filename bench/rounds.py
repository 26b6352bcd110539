"""
The rounds: every contender once a round, one after the other, so that what slows the machine down slows all of them down.

Each round starts with another contender. What is compared is the ratio within a round; of the ratios the median counts.
"""

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from bench.contenders import Contender
from bench.peer import run_flood, run_pace
from rig.benchmark.measure import Latency, Quantiles, Throughput, measure_connect, measure_latency, measure_throughput
from rig.benchmark.server import BenchServer
from rig.errors import RigError

RATES = (1_000, 10_000)
_BASELINES = ("picows", "websockets")
_CONNECTIONS = 20

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How much to measure.

    Attributes:
        rounds: Of throughput.
        share: Of the full number of events.
        pace_seconds: For each latency.
        idle_seconds: For the first one, which also says what the io process takes at a low rate.
    """

    rounds: int
    share: float
    pace_seconds: float
    idle_seconds: float


class Round(msgspec.Struct):
    """One contender in one round; `cpu_us` is microseconds of CPU per event, by process, and `rss_mib` what they then held."""

    events: int
    seconds: float
    rate: float
    lost: int
    duplicated: int
    reordered: int
    cpu_us: dict[str, float]
    rss_mib: dict[str, float] = {}


class Standing(msgspec.Struct):
    """One contender after all rounds."""

    key: str
    label: str
    version: str
    rate: float
    lost: int
    duplicated: int
    reordered: int
    cpu_us: dict[str, float]
    rig_is_faster_by: dict[str, float]
    rounds: list[Round]


class PeerLatency(msgspec.Struct):
    """The latency of a contender beside rig."""

    key: str
    label: str
    rate: int
    lost: int
    latency_ms: Quantiles


class Measured(msgspec.Struct):
    """Everything of one run."""

    throughput: list[Standing]
    latency: list[Latency]
    peer_latency: list[PeerLatency]
    connect_and_join_ms: Quantiles
    failures: dict[str, str]

    @property
    def lossless(self) -> bool:
        """True if rig has handled every event once and in order."""
        ours = [standing for standing in self.throughput if standing.key.startswith("rig-")]
        counted = all(not (s.lost or s.duplicated or s.reordered) for s in ours)
        return counted and all(run.loss.nothing for run in self.latency)


async def measure(contenders: Sequence[Contender], plan: Plan, say: Say) -> Measured:
    """
    Run everything.

    Args:
        contenders: Those that can run.
        plan: How much.
        say: Takes a line of progress.

    Raises:
        RigError: If rig itself, or the server, does not come up.
    """
    rounds: dict[str, list[Round]] = {contender.key: [] for contender in contenders}
    failures: dict[str, str] = {}
    async with BenchServer() as server, BenchServer("bench.realtime_server") as realtime_server:
        connecting = await measure_connect(server, _CONNECTIONS)
        for number in range(plan.rounds):
            first = number % len(contenders)
            for contender in [*contenders[first:], *contenders[:first]]:
                if contender.key in failures:
                    continue
                found = await _flood(realtime_server if contender.realtime else server, contender, plan, failures)
                if found is not None:
                    rounds[contender.key].append(found)
                    say(f"round {number + 1} of {plan.rounds}: {contender.label}: {found.rate:,.0f} events/s")
        latency, peer_latency = await _latencies(server, contenders, plan, say)
    standings = [summarise(contender, rounds) for contender in contenders if contender.key not in failures]
    return Measured(standings, latency, peer_latency, connecting, failures)


async def _flood(server: BenchServer, contender: Contender, plan: Plan, failures: dict[str, str]) -> Round | None:
    events = contender.events(plan.share)
    if contender.workers:
        return _round_of_rig(await measure_throughput(server, contender.workers, events))
    try:
        run = await run_flood(server, contender, events)
    except RigError as exc:
        failures[contender.key] = str(exc)
        return None
    cpu = {"client": round(run.result.cpu_seconds / run.events * 1e6, 3)}
    return Round(run.events, run.seconds, run.rate, run.lost, run.result.duplicated, run.result.reordered, cpu)


def _round_of_rig(run: Throughput) -> Round:
    loss = run.loss
    return Round(run.events, run.seconds, run.rate, loss.lost, loss.duplicated, loss.reordered, run.cpu_us, run.rss_mib)


async def _latencies(
    server: BenchServer, contenders: Sequence[Contender], plan: Plan, say: Say
) -> tuple[list[Latency], list[PeerLatency]]:
    ours, theirs = [], []
    for rate in RATES:
        for contender in contenders:
            if contender.workers:
                seconds = plan.idle_seconds if rate == RATES[0] and contender.workers == 1 else plan.pace_seconds
                run = await measure_latency(server, contender.workers, rate, seconds)
                ours.append(run)
                found = run.latency_ms
            elif contender.key in _BASELINES:
                peer = await run_pace(server, contender, rate, plan.pace_seconds)
                found = Quantiles(**(peer.result.latency_ms or {}))
                theirs.append(PeerLatency(contender.key, contender.label, rate, peer.lost, found))
            else:
                continue
            say(f"latency at {rate:,}/s: {contender.label}: p50 {found.p50:.3f} ms, p99 {found.p99:.3f} ms")
            await asyncio.sleep(0)
    return ours, theirs


def summarise(contender: Contender, rounds: Mapping[str, Sequence[Round]]) -> Standing:
    """
    Return medians over the rounds, sums of what was lost, and how many times as fast rig is.

    Args:
        contender: Whom to sum up.
        rounds: Those of all contenders by key, in the same order.

    Raises:
        StatisticsError: If it has no round.
    """
    own = rounds[contender.key]
    names = {name: None for one in own for name in one.cpu_us}
    ratios = {
        rig: round(statistics.median(ours.rate / one.rate for ours, one in zip(rounds[rig], own, strict=True)), 3)
        for rig in ("rig-1", "rig-2")
        if rig in rounds and rig != contender.key
    }
    return Standing(
        key=contender.key,
        label=contender.label,
        version=contender.version,
        rate=round(statistics.median(one.rate for one in own)),
        lost=sum(one.lost for one in own),
        duplicated=sum(one.duplicated for one in own),
        reordered=sum(one.reordered for one in own),
        cpu_us={name: round(statistics.median(one.cpu_us.get(name, 0.0) for one in own), 3) for name in names},
        rig_is_faster_by=ratios,
        rounds=list(own),
    )
