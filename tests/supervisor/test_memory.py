"""The shared memory of one run: what is made, what is handed on, and that nothing is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rig.config import Settings
from rig.counters import IO_COUNTERS, WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.ring import Consumer, Doorbell, Producer, RingMemory
from rig.supervisor.memory import SharedMemory


def all_descriptors(memory: SharedMemory) -> list[int]:
    """Return every descriptor that a child is told."""
    rings = [fd for worker in memory.workers for fds in worker.fds for fd in fds.all()]
    return rings + [worker.page.fd for worker in memory.workers] + [page.fd for page in memory.io_pages]


def test_each_worker_has_four_rings_with_each_io_process(memory: SharedMemory) -> None:
    """All have the size that the settings say; that of the events keeps progress for each lane."""
    assert [len(worker.rings) for worker in memory.workers] == [2, 2]
    for worker in memory.workers:
        for pair in worker.rings:
            assert [ring.memory.capacity for ring in pair.all()] == [512 * 1024] * 4
            assert [ring.memory.lanes for ring in pair.all()] == [3, 0, 0, 0]


def test_child_attaches_what_it_is_told(memory: SharedMemory) -> None:
    """By the descriptors of the specification both sides use the same rings, doorbells and counters."""
    worker = memory.workers[1]
    fds = worker.fds[1].events
    attached, bell = RingMemory.attach(os.dup(fds.memory)), Doorbell.attach(*(os.dup(fd) for fd in fds.bell))
    page = Page(os.dup(worker.page.fd), WORKER_COUNTERS, WORKER_HISTOGRAMS)
    Producer(attached).put(b"event", kind=1)
    bell.ring()
    page.add("handled", 3)

    assert [record.payload for record in Consumer(worker.rings[1].events.memory).poll()] == [b"event"]
    assert worker.rings[1].events.bell.clear() == 1
    assert worker.rings[0].events.memory.used_bytes == 0
    assert worker.page.get("handled") == 3
    for part in (attached, bell, page):
        part.close()


def test_every_descriptor_is_its_own(memory: SharedMemory) -> None:
    """No ring is shared by two workers, none by two io processes, none by two directions."""
    fds = all_descriptors(memory)

    assert len(set(fds)) == len(fds) == 2 * 2 * 4 * 2 + 2 + 2


def test_descriptors_are_inherited_only_where_they_are_named(memory: SharedMemory) -> None:
    """A child gets what its specification names, and nothing by accident."""
    assert not any(os.get_inheritable(fd) for fd in all_descriptors(memory))


def test_fill_is_what_is_in_use(memory: SharedMemory) -> None:
    """Between empty and full."""
    ring = memory.workers[0].rings[1].replies
    producer = Producer(ring.memory)

    assert ring.fill == 0
    while producer.fits(8_000):
        producer.put(b"x" * 8_000, kind=1)
    assert 0.9 < ring.fill <= 1


def test_each_io_process_has_its_own_counters(memory: SharedMemory) -> None:
    """All of them, at zero."""
    first, second = memory.io_pages
    first.add("received", 7)

    assert [second.get(name) for name in IO_COUNTERS] == [0] * len(IO_COUNTERS)


def test_close_leaves_nothing() -> None:
    """After a run the supervisor has no descriptor more than before it."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    SharedMemory(Settings(ring_bytes=64 * 1024, io_processes=2), 3).close()

    assert len(list(Path("/proc/self/fd").iterdir())) == before


MANY_RINGS = """
import resource, sys
from rig.config import Settings
from rig.supervisor.memory import SharedMemory
resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[1])))
memory = SharedMemory(Settings(ring_bytes=64 * 1024, io_processes=8), 16)
print(len(memory.workers))
"""


@pytest.mark.parametrize("allowed", [4_096, 512])
def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be(allowed: int) -> None:
    """The usual soft limit does not keep many workers from many io processes; the hard limit is an error."""
    run = subprocess.run([sys.executable, "-c", MANY_RINGS, str(allowed)], capture_output=True, text=True, check=False)

    if allowed > 8 * 16 * 3 * 2:
        assert run.stdout == "16\n", run.stderr
    else:
        assert "Too many open files" in run.stderr
