"""
`python -m bench.outbox`: what the outbox stores a second on this disk, and what a large backlog costs.

Every add is committed with fsync before its caller goes on, as `store_sync = full` has it. Nothing here passes or fails: the
figures depend on the disk, and on what else the machine does.
"""

import asyncio
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from bench.report import describe_machine
from rig.store import NewPush, Outbox, Store

_PAYLOAD = b'{"body": "%b"}' % (b"x" * 186)
_TOPICS = 20
_LOADS = [(1, 1), (1, 64), (1, 512), (64, 1), (64, 16), (512, 1), (512, 8)]
"""Pushes in a call of `add`, and callers at the same time."""
_PAGE = 512


class Pushes:
    """New ones, as long as anybody asks."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def take(self, count: int) -> list[NewPush]:
        """Return so many pushes of 200 bytes, over a few topics."""
        numbers = itertools.islice(self._numbers, count)
        return [NewPush(f"{number:032x}", f"room:{number % _TOPICS}", "new_msg", _PAYLOAD) for number in numbers]


async def add_for(seconds: float, outbox: Outbox, pushes: Pushes, *, batch: int, callers: int) -> tuple[float, float]:
    """
    Add for a while, and return pushes a second and the share of a core that it took.

    Args:
        seconds: How long.
        batch: Pushes in a call.
        callers: How many call at the same time, each when its last call has returned.
    """
    started, cpu, stored = time.perf_counter(), time.process_time(), 0
    end = started + seconds

    async def call() -> None:
        nonlocal stored
        while time.perf_counter() < end:
            await outbox.add(pushes.take(batch))
            stored += batch

    await asyncio.gather(*(call() for _ in range(callers)))
    took = time.perf_counter() - started
    return stored / took, (time.process_time() - cpu) / took


async def busy() -> None:
    """Keep the loop's thread at work, as live traffic at its limit does: turns of a millisecond."""
    while True:
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
        await asyncio.sleep(0)


async def beside_a_busy_loop(seconds: float, outbox: Outbox, pushes: Pushes, **load: int) -> tuple[float, float]:
    """As `add_for`, while the loop has no time to spare."""
    task = asyncio.create_task(busy())
    try:
        return await add_for(seconds, outbox, pushes, **load)
    finally:
        task.cancel()


async def fill(path: Path, rows: int) -> None:
    """Make a backlog."""
    store = await Store.open(path, "normal")
    outbox, pushes = Outbox(store), Pushes()
    for _ in range(rows // _PAGE + 1):
        await outbox.add(pushes.take(_PAGE))
    await store.close()


async def timed(label: str, call: Coroutine[Any, Any, Any], show: Callable[[str, str], None]) -> Any:
    """Await a call, and show how long it took."""
    started = time.perf_counter()
    result = await call
    show(label, f"{(time.perf_counter() - started) * 1000:.2f} ms")
    return result


async def drain(outbox: Outbox) -> int:
    """Read and acknowledge all topics page by page, as the sender does."""
    drained = 0
    for topic in await outbox.topics():
        after = 0
        while rows := await outbox.after(topic, after, _PAGE):
            after = rows[-1].id
            drained += len(rows)
            await outbox.acknowledge([row.id for row in rows])
    return drained


def resident_kib() -> int:
    """Return the largest resident set that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def syncs_a_second(folder: Path) -> float:
    """Return how often this disk can be asked to sync a page: the limit of a lone caller."""
    fd = os.open(folder / "sync", os.O_RDWR | os.O_CREAT, 0o600)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 0.5:
        os.pwrite(fd, b"x" * 4096, 0)
        os.fdatasync(fd)
        count += 1
    os.close(fd)
    return count / (time.perf_counter() - started)


async def measure_adds(folder: Path, seconds: float) -> Table:
    """Measure every load, with a full sync and beside a busy loop."""
    table = Table(
        "pushes a call", "callers", "stored a second", "cores", "beside a busy loop", title="Durable", box=box.SIMPLE_HEAD
    )
    for number, (batch, callers) in enumerate(_LOADS):
        store = await Store.open(folder / f"adds-{number}.db")
        outbox, pushes = Outbox(store, limit_bytes=1 << 40), Pushes()
        rate, cores = await add_for(seconds, outbox, pushes, batch=batch, callers=callers)
        beside, _ = await beside_a_busy_loop(seconds, outbox, pushes, batch=batch, callers=callers)
        await store.close()
        (folder / f"adds-{number}.db").unlink()
        table.add_row(f"{batch}", f"{callers}", f"{rate:,.0f}", f"{cores:.2f}", f"{beside:,.0f}")
    return table


async def measure_backlog(folder: Path, rows: int) -> Table:
    """Measure how a backlog opens, is looked at, and drains."""
    table = Table("", "", title=f"A backlog of {rows:,} rows", box=box.SIMPLE_HEAD, show_header=False)
    path = folder / "backlog.db"
    await fill(path, rows)
    table.add_row("file", f"{path.stat().st_size / 1e6:.0f} MB")
    store = await timed("open", Store.open(path), table.add_row)
    outbox = Outbox(store)
    await timed("topics()", outbox.topics(), table.add_row)
    await timed("after(), 64 rows", outbox.after("room:7", 0, 64), table.add_row)
    await timed("after(), 64 rows in the middle", outbox.after("room:7", rows // 2, 64), table.add_row)
    await timed("counts()", outbox.counts(), table.add_row)
    before, started = resident_kib(), time.perf_counter()
    drained = await drain(outbox)
    table.add_row("drained a second", f"{drained / (time.perf_counter() - started):,.0f}")
    table.add_row("largest memory before, after", f"{before / 1024:.1f} MiB, {resident_kib() / 1024:.1f} MiB")
    await store.close()
    table.add_row("file after", f"{path.stat().st_size / 1e6:.0f} MB")
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", default=2.0, show_default=True, help="How long each load is kept up.")
@click.option("--rows", default=1_000_000, show_default=True, help="Rows of the backlog.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where the databases are put.  [default: the system's place for temporary files]",
)
def main(*, seconds: float, rows: int, folder: Path | None) -> None:
    """Measure the outbox on this machine."""
    machine, console = describe_machine(), Console()
    console.print(f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}", highlight=False)
    with tempfile.TemporaryDirectory(dir=folder, prefix="rig-bench-") as name:
        console.print(f"{name}: {syncs_a_second(Path(name)):,.0f} syncs a second", highlight=False)
        console.print(uvloop.run(measure_adds(Path(name), seconds)))
        console.print(uvloop.run(measure_backlog(Path(name), rows)))


if __name__ == "__main__":
    main()
