"""
Finds workers that handle nothing although they have something to handle.

A worker gets on when a record is committed, or an event inside one is finished or begun, or an attempt of a handler ends.
That is seen in its shared memory, so that a worker whose loop is blocked, or which is stopped by a signal, is seen like any
other. What must stay true: seconds in which nobody looked, because this process was stopped itself, do not count; one stall
is reported once, and again after twice the time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rig.supervisor.child import Child
from rig.supervisor.memory import WorkerMemory

_COUNTERS = ("handled", "failed", "retried", "invalid", "quarantined")
LONGEST_LOOK = 1.0
"""Seconds that count at most between two looks."""


@dataclass(frozen=True, slots=True)
class Stall:
    """
    A worker that gets nowhere.

    Attributes:
        child: The worker.
        pid: Its process.
        seconds: For how long it has handled nothing.
    """

    child: Child
    pid: int
    seconds: float


@dataclass(slots=True)
class _Watch:
    """What was seen of one worker: its process, where it stood, for how long it has stood there, and when that is reported next."""

    pid: int | None = None
    mark: object = None
    still: float = 0.0
    due: float = 0.0


class Watchdog:
    """Looks at the workers of a run."""

    def __init__(self, workers: Sequence[tuple[Child, WorkerMemory]], *, timeout: float, on_stall: Callable[[Stall], None]) -> None:
        """
        Take the workers.

        Args:
            workers: Each with its memory.
            timeout: Seconds without progress that are a stall.
            on_stall: Told of each.
        """
        self._timeout, self._on_stall = timeout, on_stall
        self._watches = [(child, memory, _Watch(due=timeout)) for child, memory in workers]

    def look(self, elapsed: float) -> None:
        """Look at everybody; `elapsed` seconds after the last time."""
        for child, memory, watch in self._watches:
            busy = child.ready.is_set() and _unfinished(memory)
            mark = _mark(memory) if busy else None
            if child.pid is None or not busy or (child.pid, mark) != (watch.pid, watch.mark):
                watch.pid, watch.mark, watch.still, watch.due = child.pid, mark, 0.0, self._timeout
                continue
            watch.still += min(elapsed, LONGEST_LOOK)
            if watch.still >= watch.due:
                watch.due = 2 * watch.still
                self._on_stall(Stall(child, child.pid, watch.still))


def _mark(memory: WorkerMemory) -> object:
    counts = tuple(memory.page.get(name) for name in _COUNTERS)
    return counts, tuple(rings.events.memory.consumer_mark for rings in memory.rings)


def _unfinished(memory: WorkerMemory) -> bool:
    return any(rings.events.memory.used_bytes for rings in memory.rings)
