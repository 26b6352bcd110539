"""
Whether a process stays as large as it is while something is repeated: memory, descriptors, threads, and the tasks of a loop.

Memory goes up and down by itself, with what waits for the garbage collector and for the allocator. So the peak of the last part of
the repetitions is compared with that of a first part, in which caches fill and the allocator takes its arenas.
"""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields

import psutil

TOLERANCE = 0.05


@dataclass(frozen=True)
class Footprint:
    """
    What a process takes.

    Attributes:
        rss_bytes: Resident memory.
        descriptors: Open files and sockets.
        threads: Of the process.
        tasks: Of the running loop, if it is this process; else 0.
    """

    rss_bytes: int
    descriptors: int
    threads: int
    tasks: int = 0


def footprint(pid: int | None = None) -> Footprint:
    """Measure a process, or this one and its running loop."""
    process = psutil.Process(pid or os.getpid())
    with process.oneshot():
        tasks = 0 if pid else len(asyncio.all_tasks())
        return Footprint(process.memory_info().rss, process.num_fds(), process.num_threads(), tasks)


def peak(footprints: Iterable[Footprint]) -> Footprint:
    """Return the most of everything."""
    some = list(footprints)
    return Footprint(*(max(getattr(one, field.name) for one in some) for field in fields(Footprint)))


def assert_flat(before: Footprint, after: Footprint, *, tolerance: float = TOLERANCE) -> None:
    """Insist that nothing has grown by more than the tolerance."""
    for field in fields(Footprint):
        was, is_now = getattr(before, field.name), getattr(after, field.name)
        assert is_now <= was * (1 + tolerance), f"{field.name} has grown: {before} -> {after}"
