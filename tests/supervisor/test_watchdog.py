"""When a worker counts as stalled."""

from collections.abc import Callable
from typing import Any

import pytest

from rig.ring import Consumer, Producer, Progress
from rig.supervisor.memory import SharedMemory
from rig.supervisor.watchdog import Stall, Watchdog
from tests.supervisor.team import team


class Scene:
    """Two workers with two io processes, and a watchdog with a time-out of 10 seconds that looks every second."""

    def __init__(self, memory: SharedMemory) -> None:
        self.workers = team(memory)
        self.child = self.workers[0][0]
        self.page = memory.workers[0].page
        self.ring = memory.workers[0].rings[1].events.memory
        self.stalls: list[Stall] = []
        self.watchdog = Watchdog(self.workers, timeout=10.0, on_stall=self.stalls.append)

    def publish(self) -> None:
        Producer(self.ring).put(b"x", kind=1)

    def wait(self, seconds: int) -> list[float]:
        """Let so many seconds pass, and return after how many of all each new report came."""
        self.stalls.clear()
        for _ in range(seconds):
            self.watchdog.look(1.0)
        return [stall.seconds for stall in self.stalls]


@pytest.fixture
def scene(memory: SharedMemory) -> Scene:
    """Give a scene in which the first worker has something to do."""
    scene = Scene(memory)
    scene.publish()
    return scene


def test_a_worker_that_handles_nothing_is_reported(scene: Scene) -> None:
    """Which one, which process, and for how long."""
    assert scene.wait(10) == []  # with the first look it is seen, with ten more it has stood still for ten seconds
    assert scene.wait(1) == [10.0]
    assert (scene.stalls[0].child, scene.stalls[0].pid) == (scene.child, 100)


def test_it_is_reported_again_after_twice_the_time(scene: Scene) -> None:
    """A handler that legitimately waits long does not fill the log."""
    assert scene.wait(100) == [10.0, 20.0, 40.0, 80.0]


def test_a_worker_with_nothing_to_do_is_not_stalled(memory: SharedMemory) -> None:
    """Idle for ever is fine."""
    assert Scene(memory).wait(100) == []


def commit(scene: Scene) -> None:
    scene.publish()
    consumer = Consumer(scene.ring)
    consumer.commit(consumer.poll()[0])


def begin_an_event(scene: Scene) -> None:
    consumer, progress = Consumer(scene.ring), Progress(scene.ring)
    progress.open(consumer.poll()[0].position)[2] += 1


@pytest.mark.parametrize(
    "step",
    [
        commit,
        begin_an_event,
        lambda scene: scene.page.add("retried"),
        lambda scene: scene.page.add("failed"),
        lambda scene: setattr(scene.child, "number", 101),
    ],
    ids=["a commit", "an event", "a retry", "a failure", "another process"],
)
def test_whatever_gets_on_starts_the_time_over(scene: Scene, step: Callable[[Scene], Any]) -> None:
    """A commit, an event inside a record, an attempt, a fresh process."""
    scene.wait(9)
    step(scene)
    assert scene.wait(10) == []
    assert scene.wait(2) == [10.0]


def test_a_worker_that_is_not_ready_is_not_stalled(scene: Scene) -> None:
    """An import can take minutes."""
    scene.child.ready.clear()
    assert scene.wait(100) == []


def test_time_in_which_nobody_looked_does_not_count(scene: Scene) -> None:
    """A supervisor that was stopped itself, or a laptop that slept, accuses nobody."""
    scene.wait(2)
    scene.watchdog.look(3_600.0)
    assert scene.stalls == []
