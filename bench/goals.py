"""What rig wants to reach on two cores, and whether this run did. A goal that is missed is shown; it is not a failure."""

from collections.abc import Iterator

import msgspec

from bench.rounds import RATES, Measured


class Goal(msgspec.Struct):
    """One figure, in words."""

    what: str
    wanted: str
    found: str
    met: bool


def goals(measured: Measured) -> list[Goal]:
    """Compare a run with the goals, as far as it has measured them."""
    return [*_throughput(measured), *_ratios(measured), *_latency(measured), *_io_process(measured), _connecting(measured)]


def _throughput(measured: Measured) -> Iterator[Goal]:
    for standing in measured.throughput:
        least = {"rig-1": 600_000, "rig-2": 700_000}.get(standing.key)
        if least is not None:
            yield Goal(f"{standing.label}: events/s", f"≥ {least:,}", f"{standing.rate:,.0f}", standing.rate >= least)


def _ratios(measured: Measured) -> Iterator[Goal]:
    least = {"websockets": 4.0, "node-ws": 1.0, "node-phoenix": 1.0}
    for standing in measured.throughput:
        ratio = standing.rig_is_faster_by.get("rig-1")
        if standing.key in least and ratio is not None:
            wanted = least[standing.key]
            yield Goal(f"rig, 1 worker, beside {standing.label}", f"≥ {wanted:g} times", f"{ratio:.2f} times", ratio >= wanted)


def _latency(measured: Measured) -> Iterator[Goal]:
    for run in measured.latency:
        p50, p99 = run.latency_ms.p50, run.latency_ms.p99
        name = f"latency at {run.rate:,}/s, workers: {run.workers}"
        yield Goal(f"{name}: p50, p99", "≤ 0.2, ≤ 2 ms", f"{p50:.3f}, {p99:.3f} ms", p50 <= 0.2 and p99 <= 2)


def _io_process(measured: Measured) -> Iterator[Goal]:
    run = next((run for run in measured.latency if run.rate == RATES[0] and run.workers == 1), None)
    if run is not None and "io" in run.cpu_percent:
        percent = run.cpu_percent["io"]
        yield Goal(f"io process at {run.rate:,}/s: CPU", "≤ 10 % of a core", f"{percent:.1f} %", percent <= 10)
    memory = [run.rss_mib for run in measured.latency]
    memory += [one.rss_mib for standing in measured.throughput for one in standing.rounds]
    largest = max((processes["io"] for processes in memory if "io" in processes), default=None)
    if largest is not None:
        yield Goal("io process: RSS", "≤ 50 MiB", f"{largest:.1f} MiB", largest <= 50)


def _connecting(measured: Measured) -> Goal:
    found = measured.connect_and_join_ms.p50
    return Goal("connect and first join", "≤ 20 ms", f"{found:.2f} ms", found <= 20)
