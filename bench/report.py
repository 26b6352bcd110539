"""The table, and `results.json`."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Column, Table

from bench.contenders import Contender
from bench.goals import goals
from bench.rounds import Measured, Plan
from rig.config import usable_cores

_LIBRARIES = ("picows", "uvloop", "msgspec", "aiohttp", "websockets")


def describe_machine() -> dict[str, Any]:
    """Say what this ran on, and how busy it was before."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def write(path: Path, machine: dict[str, Any], plan: Plan, measured: Measured) -> None:
    """Write everything as JSON."""
    whole = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine | {"load_average_after": round(os.getloadavg()[0], 2)},
        "plan": plan,
        "goals": goals(measured),
        "measured": measured,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole)) + b"\n")


def show(console: Console, machine: dict[str, Any], measured: Measured, left_out: list[Contender]) -> None:
    """Print the tables, and what is missing in them."""
    versions = ", ".join(f"{standing.key} {standing.version}" for standing in measured.throughput if standing.version)
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}", highlight=False
    )
    console.print(f"load average before: {machine['load_average_before']}; {versions}\n", highlight=False)
    for table in (_throughput(measured), _latency(measured), _resources(measured), _goals(measured)):
        console.print(table)
    for contender in left_out:
        console.print(f"left out: {contender.label}: {contender.missing}")
    for key, reason in measured.failures.items():
        console.print(f"failed: {key}: {reason}", markup=False)
    if not measured.lossless:
        console.print("[bold red]rig has lost, repeated or reordered events: see above.[/]")


def _throughput(measured: Measured) -> Table:
    headings = ("\nevents/s", "\nlost", "rig is faster by\n1 worker", "\n2 workers", "\nCPU µs/event")
    table = _table("Throughput: 200-byte events over 64 topics (medians over the rounds)", *headings)
    for standing in sorted(measured.throughput, key=lambda standing: -standing.rate):
        ratios = standing.rig_is_faster_by
        table.add_row(
            *(standing.label, f"{standing.rate:,.0f}", f"{standing.lost:,}"),
            *(f"{ratios[key]:.2f} times" if key in ratios else "" for key in ("rig-1", "rig-2")),
            _cpu(standing.cpu_us),
        )
    return table


def _cpu(cpu_us: dict[str, float]) -> str:
    if "io" not in cpu_us:
        return ", ".join(f"{used:.2f}" for used in cpu_us.values())
    workers = sum(used for name, used in cpu_us.items() if name.startswith("worker"))
    return f"io {cpu_us['io']:.2f}, workers {workers:.2f}"


def _latency(measured: Measured) -> Table:
    table = _table("Latency: server send to handler, ms", "events/s", "p50", "p99", "max", "lost")
    rows = [(f"rig, workers: {run.workers}", run.rate, run.latency_ms, run.loss.lost) for run in measured.latency]
    rows += [(run.label, run.rate, run.latency_ms, run.lost) for run in measured.peer_latency]
    for label, rate, latency, lost in sorted(rows, key=lambda row: row[1]):
        table.add_row(label, f"{rate:,}", f"{latency.p50:.3f}", f"{latency.p99:.3f}", f"{latency.max:.2f}", str(lost))
    return table


def _resources(measured: Measured) -> Table:
    table = _table("Processes of rig during the latency runs", "events/s", "CPU % of a core", "RSS MiB", "own MiB")
    for run in measured.latency:
        for name in run.rss_mib:
            if name != "server":
                table.add_row(
                    *(f"{name} ({run.workers} workers)", f"{run.rate:,}"),
                    *(f"{run.cpu_percent.get(name, 0):.1f}", f"{run.rss_mib[name]:.1f}", f"{run.own_mib[name]:.1f}"),
                )
    return table


def _goals(measured: Measured) -> Table:
    table = _table("Goals", "goal", "measured", "")
    for goal in goals(measured):
        table.add_row(goal.what, goal.wanted, goal.found, "[green]met[/]" if goal.met else "[yellow]not met[/]")
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(
        Column("", no_wrap=True), title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for heading in headings:
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    return table


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
