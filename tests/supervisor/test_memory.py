"""The shared memory of one run: what is made, what is handed on, and that nothing is left."""

import os
from pathlib import Path

from rig.config import Settings
from rig.counters import IO_COUNTERS, WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.ring import Consumer, Doorbell, Producer, RingMemory
from rig.supervisor.memory import SharedMemory


def test_each_worker_has_three_rings(memory: SharedMemory) -> None:
    """All have the size that the settings say; that of the events keeps progress for each lane."""
    assert len(memory.workers) == 2
    for worker in memory.workers:
        rings = (worker.events, worker.replies, worker.pushes)
        assert [ring.memory.capacity for ring in rings] == [512 * 1024] * 3
        assert [ring.memory.lanes for ring in rings] == [3, 0, 0]


def test_child_attaches_what_it_is_told(memory: SharedMemory) -> None:
    """By the descriptors of the specification both sides use the same rings, doorbells and counters."""
    worker = memory.workers[1]
    fds = worker.fds.events
    attached, bell = RingMemory.attach(os.dup(fds.memory)), Doorbell.attach(*(os.dup(fd) for fd in fds.bell))
    page = Page(os.dup(worker.page.fd), WORKER_COUNTERS, WORKER_HISTOGRAMS)
    Producer(attached).put(b"event", kind=1)
    bell.ring()
    page.add("handled", 3)

    assert [record.payload for record in Consumer(worker.events.memory).poll()] == [b"event"]
    assert worker.events.bell.clear() == 1
    assert worker.page.get("handled") == 3
    for part in (attached, bell, page):
        part.close()


def test_every_descriptor_is_its_own(memory: SharedMemory) -> None:
    """No ring is shared by two workers, none by two directions."""
    fds = [fd for worker in memory.workers for fd in (*worker.fds.all(), worker.page.fd)] + [memory.io_page.fd]

    assert len(set(fds)) == len(fds)


def test_descriptors_are_inherited_only_where_they_are_named(memory: SharedMemory) -> None:
    """A child gets what its specification names, and nothing by accident."""
    fds = [fd for worker in memory.workers for fd in (*worker.fds.all(), worker.page.fd)] + [memory.io_page.fd]

    assert not any(os.get_inheritable(fd) for fd in fds)


def test_fill_is_what_is_in_use(memory: SharedMemory) -> None:
    """Between empty and full."""
    ring = memory.workers[0].replies
    producer = Producer(ring.memory)

    assert ring.fill == 0
    while producer.fits(8_000):
        producer.put(b"x" * 8_000, kind=1)
    assert 0.9 < ring.fill <= 1


def test_io_process_has_its_own_counters(memory: SharedMemory) -> None:
    """All of them, at zero."""
    assert [memory.io_page.get(name) for name in IO_COUNTERS] == [0] * len(IO_COUNTERS)


def test_close_leaves_nothing() -> None:
    """After a run the supervisor has no descriptor more than before it."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    SharedMemory(Settings(ring_bytes=64 * 1024), 3).close()

    assert len(list(Path("/proc/self/fd").iterdir())) == before
