"""`rig bench`: measure, then print a table or JSON."""

import asyncio
import signal
import sys

import msgspec
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from rig.benchmark.measure import Latency, Quantiles, Throughput, measure_connect, measure_latency, measure_throughput
from rig.benchmark.server import BenchServer

_LATENCY_SECONDS = 5.0
_CONNECTIONS = 20


class Report(msgspec.Struct):
    """Everything that was measured."""

    throughput: list[Throughput]
    latency: list[Latency]
    connect_and_join_ms: Quantiles

    @property
    def lossless(self) -> bool:
        """True if every event of every run was handled once and in order."""
        losses = [run.loss for run in self.throughput] + [run.loss for run in self.latency]
        return all(loss.nothing for loss in losses)


def run(events: int, workers: tuple[int, ...], rates: tuple[int, ...], *, as_json: bool) -> int:
    """
    Measure and print; see `rig.benchmark.main`.

    Raises:
        RigError: If the server or the pipeline does not come up, or ends too early.
        KeyboardInterrupt: If SIGTERM or Ctrl-C ends it.
    """
    console = Console(stderr=True)
    try:
        report = uvloop.run(_measure(events, workers, rates, console))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    else:
        show(report, Console())
    return 0 if report.lossless else 1


async def _measure(events: int, workers: tuple[int, ...], rates: tuple[int, ...], console: Console) -> Report:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with BenchServer() as server:
        with console.status("measuring: connection"):
            connecting = await measure_connect(server, _CONNECTIONS)
        report = Report([], [], connecting)
        for count in workers:
            with console.status(f"measuring: throughput, workers: {count}"):
                report.throughput.append(await measure_throughput(server, count, events))
        for count in workers:
            for rate in rates:
                with console.status(f"measuring: latency at {rate:,}/s, workers: {count}"):
                    report.latency.append(await measure_latency(server, count, rate, _LATENCY_SECONDS))
    return report


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    console.print(_throughput_table(report.throughput))
    console.print(_latency_table(report.latency))
    console.print(f"connect and first join: {report.connect_and_join_ms.p50:.2f} ms (median of {_CONNECTIONS})")
    if not report.lossless:
        console.print("[bold red]Not every event was handled once and in order: see the columns.[/]")


def _throughput_table(runs: list[Throughput]) -> Table:
    table = _table(
        "Throughput: events of 200 bytes over 64 topics, to a typed async handler",
        "\nworkers | \nevents | \nevents/s | \nlost | \ntwice | \nlate | CPU µs/event\nio | \nworkers | \nserver",
    )
    for run in runs:
        loss, cpu = run.loss, run.cpu_us
        workers = sum(used for name, used in cpu.items() if name.startswith("worker"))
        table.add_row(
            *(str(run.workers), f"{run.events:,}", f"{run.rate:,.0f}"),
            *(str(loss.lost), str(loss.duplicated), str(loss.reordered)),
            *(_number(cpu.get("io")), _number(workers if cpu else None), _number(cpu.get("server"))),
        )
    return table


def _latency_table(runs: list[Latency]) -> Table:
    table = _table(
        "Latency: server send to handler start, in ms",
        "\nworkers | \nevents/s | \np50 | \np99 | \nmax | \nlost | io\nCPU % | io\nRSS MiB | parent\nRSS MiB",
    )
    for run in runs:
        latency, rss = run.latency_ms, run.rss_mib
        table.add_row(
            *(
                str(run.workers),
                f"{run.rate:,}",
                f"{latency.p50:.3f}",
                f"{latency.p99:.3f}",
                f"{latency.max:.2f}",
                str(run.loss.lost),
            ),
            *(_number(run.cpu_percent.get("io")), _number(rss.get("io")), _number(rss.get("supervisor"))),
        )
    return table


def _table(title: str, headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in headings.split(" | "):
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
