"""The processors that this process may use."""

import os
from pathlib import Path


def usable_cores() -> int:
    """
    Count the cores that this process may use: its affinity, and in a container no more than the quota.

    Raises:
        Nothing.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst, "cpu.max".
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
