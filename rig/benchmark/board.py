"""
A word of shared memory per worker, by which the benchmark sees how far it is without asking.

A file of one page, `board-PID`: the events handled, and the monotonic time in ns of the last of them. The worker stores the
time first, so who reads a count finds a time that is no older.
"""

import mmap
import os
import time
from collections.abc import Mapping
from pathlib import Path

DIRECTORY_VARIABLE = "BENCHMARK_DIRECTORY"
"""Where the workers put their boards and their accounts. Not one of rig's own variables, whose names are checked."""
_HANDLED, _TIME = 0, 1


class Board:
    """One worker's words."""

    def __init__(self, path: Path) -> None:
        """Map the file; it is made if there is none."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, mmap.PAGESIZE)
        self._map = mmap.mmap(fd, mmap.PAGESIZE)
        os.close(fd)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, environment: Mapping[str, str]) -> "Board":
        """
        Make the board of this process.

        Raises:
            KeyError: If the environment does not say where.
        """
        return cls(Path(environment[DIRECTORY_VARIABLE]) / f"board-{os.getpid()}")

    def post(self, handled: int) -> None:
        """Say how many events are handled by now."""
        self._words[_TIME] = time.monotonic_ns()
        self._words[_HANDLED] = handled

    @property
    def handled(self) -> int:
        """Events handled when it was last posted."""
        return int(self._words[_HANDLED])

    @property
    def time_ns(self) -> int:
        """When that was, on the monotonic clock; 0 for never."""
        return int(self._words[_TIME])

    def close(self) -> None:
        """Unmap it."""
        self._words.release()
        self._map.close()
