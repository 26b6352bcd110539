"""
The shared memory of one run: rings, doorbells and counter pages, made by the supervisor and inherited by its children.

All of it is anonymous: it is gone with the last process that has it, however that ends.
"""

from dataclasses import dataclass

from rig.config import Settings
from rig.control import RingFds, WorkerFds
from rig.counters import IO_COUNTERS, WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.ring import Doorbell, RingMemory


@dataclass(frozen=True, slots=True)
class Ring:
    """A ring with its doorbell."""

    memory: RingMemory
    bell: Doorbell

    @property
    def fds(self) -> RingFds:
        """The descriptors, as a child is told them."""
        return RingFds(self.memory.fd, self.bell.fds)

    @property
    def fill(self) -> float:
        """How much of it is in use, 0 to 1."""
        return self.memory.used_bytes / self.memory.capacity


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """The three rings and the counters of one worker."""

    events: Ring
    replies: Ring
    pushes: Ring
    page: Page

    @property
    def fds(self) -> WorkerFds:
        """The descriptors of the rings, as a child is told them."""
        return WorkerFds(self.events.fds, self.replies.fds, self.pushes.fds)


class SharedMemory:
    """
    All of it.

    Attributes:
        workers: One entry per worker.
        io_page: The counters of the io process.
    """

    def __init__(self, settings: Settings, workers: int) -> None:
        """Make the rings, all of the size that the settings say; pages that are never written take no memory."""
        self.workers = [
            WorkerMemory(
                _ring(settings.ring_bytes, settings.concurrency),
                _ring(settings.ring_bytes),
                _ring(settings.ring_bytes),
                Page.create(WORKER_COUNTERS, WORKER_HISTOGRAMS),
            )
            for _ in range(workers)
        ]
        self.io_page = Page.create(IO_COUNTERS)

    def close(self) -> None:
        """Free it, once no child needs it."""
        for worker in self.workers:
            for ring in (worker.events, worker.replies, worker.pushes):
                ring.bell.close()
                ring.memory.close()
            worker.page.close()
        self.io_page.close()


def _ring(capacity: int, lanes: int = 0) -> Ring:
    return Ring(RingMemory.create(capacity, lanes=lanes), Doorbell.create())
