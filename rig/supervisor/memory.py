"""
The shared memory of one run: rings, doorbells and counter pages, made by the supervisor and inherited by its children.

All of it is anonymous: it is gone with the last process that has it, however that ends.
"""

import os
import resource
from dataclasses import dataclass, fields

from rig.config import Settings
from rig.control import RingFds, RingsFds
from rig.counters import IO_COUNTERS, IO_HISTOGRAMS, WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.marks import Marks
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
class Rings:
    """
    The four rings between one io process and one worker.

    Attributes:
        events: io process → worker: what the handlers handle.
        replies: io process → worker: what became of pushes; never behind events.
        pushes: Worker → io process; a record is committed before it is handed on.
        storage: Worker → io process: what is to be stored; a record is committed once it is.
    """

    events: Ring
    replies: Ring
    pushes: Ring
    storage: Ring

    @property
    def fds(self) -> RingsFds:
        """The descriptors, as a child is told them."""
        return RingsFds(self.events.fds, self.replies.fds, self.pushes.fds, self.storage.fds)

    def all(self) -> tuple[Ring, ...]:
        """Return every ring."""
        return (self.events, self.replies, self.pushes, self.storage)


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """
    What belongs to one worker.

    Attributes:
        rings: One entry per io process.
        page: The worker's counters.
        stacks: The descriptor of a file for the stacks of its threads.
    """

    rings: tuple[Rings, ...]
    page: Page
    stacks: int

    @property
    def fds(self) -> list[RingsFds]:
        """The descriptors of the rings, as a child is told them."""
        return [rings.fds for rings in self.rings]

    @property
    def fill(self) -> float:
        """How full the fullest events ring is, 0 to 1."""
        return max(rings.events.fill for rings in self.rings)


RINGS = len(fields(Rings))
"""Between one io process and one worker."""
_DESCRIPTORS_A_RING = 3
"""Its memory, and a doorbell of two where that is a pipe."""
_DESCRIPTORS_BESIDE = 256
"""For everything else that the supervisor holds, its children's control lines for one."""


class SharedMemory:
    """
    All of it.

    Attributes:
        workers: One entry per worker.
        io_pages: The counters of each io process.
        io_marks: The cursors of each io process.
    """

    def __init__(self, settings: Settings, workers: int, *, topics: int = 0) -> None:
        """
        Make the rings, all of the size that the settings say; pages that are never written take no memory.

        Args:
            settings: For sizes and numbers.
            workers: How many there are.
            topics: How many are joined at the start.

        Raises:
            OSError: If the system has no descriptor or no memory left.
        """
        _allow_descriptors(workers * (RINGS * _DESCRIPTORS_A_RING * settings.io_processes + 3) + _DESCRIPTORS_BESIDE)
        self.workers = [
            WorkerMemory(
                tuple(_rings(settings) for _ in range(settings.io_processes)),
                Page.create(WORKER_COUNTERS, WORKER_HISTOGRAMS),
                os.memfd_create("rig-stacks", os.MFD_CLOEXEC),
            )
            for _ in range(workers)
        ]
        self.io_pages = [Page.create(IO_COUNTERS, IO_HISTOGRAMS) for _ in range(settings.io_processes)]
        self.io_marks = [Marks.create(topics, workers) for _ in range(settings.io_processes)]

    def close(self) -> None:
        """Free it, once no child needs it."""
        for worker in self.workers:
            for rings in worker.rings:
                for ring in rings.all():
                    ring.bell.close()
                    ring.memory.close()
            worker.page.close()
            os.close(worker.stacks)
        for page in self.io_pages:
            page.close()
        for marks in self.io_marks:
            marks.close()


def _allow_descriptors(count: int) -> None:
    """
    Raise our own limit of open files to this, as far as we may: many workers on many io processes need more than the usual 1024.

    Children inherit it, but get low numbers for what they open: the limit is there for programs that use `select`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard))


def _rings(settings: Settings) -> Rings:
    size = settings.ring_bytes
    return Rings(_ring(size, settings.concurrency), _ring(size), _ring(size), _ring(size))


def _ring(capacity: int, lanes: int = 0) -> Ring:
    return Ring(RingMemory.create(capacity, lanes=lanes), Doorbell.create())
