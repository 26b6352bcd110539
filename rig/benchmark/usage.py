"""
What processes use: CPU seconds and resident memory, as the kernel counts them.

Where there is no /proc, nothing is known, and the benchmark goes without.

Source: Linux, proc_pid_stat(5), proc_pid_status(5).
"""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024


class Usage(msgspec.Struct, frozen=True):
    """
    Of one process.

    Attributes:
        cpu: Seconds in user and kernel mode since its start, to 10 ms.
        rss_bytes: Resident memory, shared pages included.
        own_bytes: The anonymous part of it, which no other process shares.
    """

    cpu: float
    rss_bytes: int
    own_bytes: int


def read_usage(pid: int) -> Usage | None:
    """
    Look at a process.

    Returns:
        None if it is gone, or if the system does not tell.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines) if name in ("VmRSS", "RssAnon")}
    rss, own = (int(sizes.get(name, "0 kB").split()[0]) * _KIB for name in ("VmRSS", "RssAnon"))
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, rss, own)


def child_running(pid: int, module: str) -> int | None:
    """Return the child of a process that runs `python -m module`, None if there is none or the system does not tell."""
    return next((child for child in _children(pid) if module in _arguments(child)), None)


def cpu_between(before: dict[str, Usage], after: dict[str, Usage]) -> dict[str, float]:
    """Return the CPU seconds that each process has used between two looks at them."""
    return {name: after[name].cpu - usage.cpu for name, usage in before.items() if name in after}


def _children(pid: int) -> Iterable[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
