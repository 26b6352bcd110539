"""Which worker is recycled when."""

import os
from typing import Any

import pytest
import structlog

from rig.config import Settings
from rig.control import Drain
from rig.supervisor import recycling
from rig.supervisor.memory import SharedMemory
from rig.supervisor.recycling import Recycler, resident_bytes
from tests.supervisor.team import FakeChild, team


class Scene:
    """Two workers, and a recycler that looks when it is told to."""

    def __init__(self, memory: SharedMemory, dice: float = 0.0, **settings: Any) -> None:
        self.workers = team(memory)
        self.children: list[FakeChild] = [child for child, _ in self.workers]
        self.recycler = Recycler(self.workers, Settings(graceful_timeout=30, **settings), random=lambda: dice)
        self.recycler.look(0.0)

    def handle(self, worker: int, events: int) -> None:
        self.workers[worker][1].page.add("handled", events)

    def recycled(self, now: float = 1.0) -> list[str]:
        self.recycler.look(now)
        return [child.name for child in self.children if "recycle" in child.log]


def test_a_worker_is_recycled_after_so_many_events(memory: SharedMemory) -> None:
    """Counted from the start of its process, not from that of the run."""
    scene = Scene(memory, max_events_per_worker=100)
    scene.handle(0, 99)
    assert scene.recycled() == []
    scene.handle(0, 1)
    assert scene.recycled() == ["worker-0"]
    scene.children[0].log.clear()
    scene.children[0].number = 200
    assert scene.recycled() == []
    scene.handle(0, 99)
    assert scene.recycled() == []
    scene.handle(0, 1)
    assert scene.recycled() == ["worker-0"]


def test_what_a_process_handles_before_the_first_look_counts(memory: SharedMemory) -> None:
    """The machine may be busy; what its predecessor did while it was made to end does not."""
    scene = Scene(memory, max_events_per_worker=100)
    scene.handle(0, 100)
    fresh = Recycler(scene.workers, Settings(graceful_timeout=30, max_events_per_worker=100), random=lambda: 0.0)
    fresh.look(0.0)
    child = scene.children[0]
    assert child.log == ["recycle"]
    scene.handle(0, 500)
    fresh.look(1.0)
    child.ready.clear()
    fresh.look(2.0)
    child.number = 200
    child.ready.set()
    scene.handle(0, 99)
    fresh.look(3.0)
    assert child.log == ["recycle"]
    scene.handle(0, 1)
    fresh.look(4.0)
    assert child.log == ["recycle", "recycle"]


@pytest.mark.parametrize("dice", [0.0, 0.5, 0.99])
def test_up_to_a_tenth_is_added_by_chance(memory: SharedMemory, dice: float) -> None:
    """Workers that started together do not end together."""
    scene = Scene(memory, dice, max_events_per_worker=1_000)
    limit = 1_000 + round(100 * dice)
    scene.handle(1, limit - 1)
    assert scene.recycled() == []
    scene.handle(1, 1)
    assert scene.recycled() == ["worker-1"]


def test_one_at_a_time(memory: SharedMemory) -> None:
    """The second waits until the first's successor is at work."""
    scene = Scene(memory, max_events_per_worker=10)
    scene.handle(0, 10)
    scene.handle(1, 10)
    first, second = scene.children
    assert scene.recycled(1) == ["worker-0"]
    assert scene.recycled(2) == ["worker-0"]
    first.ready.clear()
    first.number = 0
    assert scene.recycled(3) == ["worker-0"]
    first.number = 200
    assert scene.recycled(4) == ["worker-0"]
    first.ready.set()
    assert scene.recycled(5) == ["worker-0", "worker-1"]
    assert second.log == ["recycle"]


def test_who_does_not_finish_is_killed_once(memory: SharedMemory) -> None:
    """After the graceful time-out."""
    scene = Scene(memory, max_events_per_worker=10)
    scene.handle(0, 10)
    child = scene.children[0]
    scene.recycled(1.0)
    scene.recycled(30.9)
    assert child.log == ["recycle"]
    scene.recycled(31.0)
    scene.recycled(99.0)
    assert child.log == ["recycle", "it did not finish within --graceful-timeout"]


def test_nobody_is_recycled_in_a_drain(memory: SharedMemory) -> None:
    """They end anyway."""
    scene = Scene(memory, max_events_per_worker=10)
    scene.handle(0, 10)
    scene.children[0]._told.append(Drain())
    assert scene.recycled() == []


def test_a_worker_that_starts_is_left_alone(memory: SharedMemory) -> None:
    """What it takes for its import is not held against it before it is ready."""
    scene = Scene(memory, max_events_per_worker=10)
    scene.children[0].ready.clear()
    scene.handle(0, 10)
    assert scene.recycled() == []


def test_memory_is_a_reason_too(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resident memory, as the system tells it; a system that does not tell recycles nobody."""
    sizes = {100: 0, 101: 50 * 1024**2}
    monkeypatch.setattr(recycling, "resident_bytes", sizes.__getitem__)
    scene = Scene(memory, max_worker_rss=64 * 1024**2)
    sizes[101] = 64 * 1024**2 - 1
    assert scene.recycled() == []
    sizes[101] += 1
    assert scene.recycled() == ["worker-1"]


def test_a_limit_below_what_a_fresh_worker_takes_is_warned_of(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recycling would never end, and not help; a worker that grows is recycled all the same."""
    sizes = {100: 60 * 1024**2, 101: 60 * 1024**2}
    monkeypatch.setattr(recycling, "resident_bytes", sizes.__getitem__)
    with structlog.testing.capture_logs() as logs:
        scene = Scene(memory, max_worker_rss=32 * 1024**2)
        assert scene.recycled(1) == scene.recycled(2) == []
    assert [entry["event"].partition(":")[2] for entry in logs] == [" raise it"]
    assert logs[0]["memory"] == "60 MiB"
    sizes[101] = 66 * 1024**2
    assert scene.recycled(3) == ["worker-1"]


def test_nobody_is_passed_over() -> None:
    """With workers that are due again as soon as the next one is done, all have their turn."""
    memory = SharedMemory(Settings(ring_bytes=64 * 1024, concurrency=1), 3)
    scene = Scene(memory, max_events_per_worker=10)
    order = []
    for now in range(1, 7):
        for worker, child in enumerate(scene.children):
            scene.handle(worker, 10)
            if "recycle" in child.log:
                child.number += 100
                child.log.clear()
        order += scene.recycled(now)
        scene.recycled(now)
    memory.close()

    assert order == [f"worker-{number}" for number in (0, 1, 2, 0, 1, 2)]


def test_resident_memory_is_that_of_the_process() -> None:
    """It grows by what is taken, and is nothing for a process that is gone."""
    before = resident_bytes(os.getpid())
    taken = b"x" * (32 * 1024**2)
    assert 30 * 1024**2 < resident_bytes(os.getpid()) - before < 40 * 1024**2
    assert len(taken) == 32 * 1024**2
    assert resident_bytes(2**22 + 1) == 0
