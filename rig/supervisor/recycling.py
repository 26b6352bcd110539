"""
Workers that are replaced by fresh ones before what the application leaks becomes too much.

What must stay true: at most one worker at a time is ending or starting for this; nobody is recycled once the run drains; a
recycled worker has ended by itself, having committed what it had read, or was killed after the graceful time-out.
Source: the options `max_requests` of gunicorn and `worker_max_memory_per_child` of Celery.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from rig.config import Settings, show_size
from rig.supervisor.child import Child
from rig.supervisor.memory import WorkerMemory

JITTER = 0.1
"""Of the limit of events: so much later at most, so that workers which started together do not end together."""
_GROWTH = 1.1
"""Times the memory of a fresh worker, where that is more than the limit: else one would follow the other for ever."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

log = structlog.get_logger()


@dataclass(slots=True)
class _Life:
    """One process of a worker: what those before it had handled, how many events it may handle, its memory at first."""

    pid: int
    before: int
    limit: float
    rss: int


class Recycler:
    """Looks at the workers of a run, and has the next one recycled that is due."""

    def __init__(self, workers: Sequence[tuple[Child, WorkerMemory]], settings: Settings, *, random: Callable[[], float]) -> None:
        """
        Take the workers.

        Args:
            workers: Each with its counters.
            settings: With the limits.
            random: From 0 to 1.
        """
        self._workers, self._random = list(workers), random
        self._most_events, self._most_bytes = settings.max_events_per_worker, settings.max_worker_rss
        self._patience = settings.graceful_timeout
        self._lives: dict[Child, _Life] = {}
        self._handled = {child: 0 for child, _ in self._workers}
        self._ending: tuple[Child, int, float] | None = None
        self._warned = False

    def look(self, now: float) -> None:
        """Go one step on; to be called a few times a second, with the seconds of a clock that never goes back."""
        for child, memory in self._workers:
            self._observe(child, memory.page.get("handled"))
        if self._ending is not None and not self._has_ended(*self._ending, now=now):
            return
        self._ending = None
        due = [(worker, reason) for worker in self._workers if (reason := self._due(worker[0]))]
        if due:
            worker, reason = due[0]
            self._workers.remove(worker)
            self._workers.append(worker)  # the others come first next time
            child = worker[0]
            log.info("worker is recycled", name=child.name, because=reason)
            self._ending = (child, child.pid or 0, now + self._patience)
            child.recycle()

    def _has_ended(self, child: Child, pid: int, deadline: float, *, now: float) -> bool:
        """Return True when the successor is at work; end by force what takes too long."""
        if child.pid == pid and now >= deadline:
            log.warning("worker did not finish within --graceful-timeout, and is killed", name=child.name, seconds=self._patience)
            child.replace("it did not finish within --graceful-timeout")
            self._ending = (child, pid, float("inf"))
        return child.is_told or (child.pid != pid and child.ready.is_set())

    def _observe(self, child: Child, handled: int) -> None:
        """Note a fresh process: what its worker had handled when it was last seen without it is not its own."""
        life = self._lives.get(child)
        if child.pid is not None and child.ready.is_set() and (life is None or life.pid != child.pid):
            limit = self._most_events * (1 + JITTER * self._random())
            self._lives[child] = _Life(child.pid, self._handled[child], limit, self._resident(child.pid))
        self._handled[child] = handled

    def _due(self, child: Child) -> str:
        """Return why a worker is to be recycled, nothing if it is not."""
        pid = child.pid
        if pid is None or child.is_told or not child.ready.is_set():
            return ""
        life, rss = self._lives[child], self._resident(pid)
        handled = self._handled[child] - life.before
        if self._most_events and handled >= life.limit:
            return f"{handled} events"
        return f"{show_size(rss)} of memory" if rss and rss >= self._allowed(child, life) else ""

    def _resident(self, pid: int) -> int:
        """Return the memory of a process; 0 if there is no limit."""
        return resident_bytes(pid) if self._most_bytes else 0

    def _allowed(self, child: Child, life: _Life) -> float:
        """Return how much memory a worker may have; where a fresh one has more, say so once, and let it grow a little."""
        if life.rss < self._most_bytes:
            return self._most_bytes
        if not self._warned:
            self._warned = True
            log.warning(
                "a fresh worker has more memory than --max-worker-rss, and is recycled once it has grown by a tenth: raise it",
                name=child.name,
                memory=show_size(life.rss),
            )
        return life.rss * _GROWTH


def resident_bytes(pid: int) -> int:
    """
    Return the resident memory of a process, the pages of its rings included; 0 where the system does not tell.

    Raises:
        Nothing.

    Source: Linux, proc_pid_statm(5).
    """
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
