"""What each child is told: which topics, which rings, which counters are its own."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from rig.config import Settings
from rig.control import IoSpec, RingsFds
from rig.routing import rendezvous
from rig.supervisor.children import make_ios, make_workers
from rig.supervisor.memory import SharedMemory
from rig.worker.describe import Description

TOPICS = [f"room:{number}" for number in range(40)]
WORKERS = 3


class Cast:
    """The children of a run, none of them started."""

    def __init__(self, io_processes: int, topics: list[str]) -> None:
        settings = Settings(ring_bytes=64 * 1024, concurrency=2, io_processes=io_processes)
        self.memory = SharedMemory(settings, WORKERS)
        description = Description("app", [], {topic: {"since": topic} for topic in topics})
        self.ios = make_ios(settings, description, self.memory, lambda child, message: None)
        self.workers = make_workers(settings, self.memory, lambda child, message: None)
        self.io_specs: list[IoSpec] = [child._spec for child in self.ios]  # type: ignore[misc]
        self.worker_specs: list[Any] = [child._spec for child in self.workers]


@pytest.fixture
def cast(request: pytest.FixtureRequest) -> Iterator[Cast]:
    """Give the children of a run with three io processes, or as many as the test says."""
    cast = Cast(getattr(request, "param", 3), TOPICS)
    yield cast
    cast.memory.close()


def test_each_topic_is_joined_by_one_io_process(cast: Cast) -> None:
    """By the one that rendezvous hashing names, with its payload; the order of declaration stays within each."""
    assert [spec.name for spec in cast.io_specs] == ["io-0", "io-1", "io-2"]
    for index, spec in enumerate(cast.io_specs):
        assert list(spec.joins) == [topic for topic in TOPICS if rendezvous(topic, 3) == index]
        assert all(payload == {"since": topic} for topic, payload in spec.joins.items())
    assert sum(len(spec.joins) for spec in cast.io_specs) == len(TOPICS)


@pytest.mark.parametrize("cast", [1], indirect=True)
def test_a_single_io_process_has_no_number_and_every_topic(cast: Cast) -> None:
    """Nothing is spread by default."""
    [spec] = cast.io_specs

    assert (spec.name, list(spec.joins)) == ("io", TOPICS)


def test_io_process_and_worker_are_told_the_same_rings(cast: Cast) -> None:
    """Ring by ring the two ends meet, and a child inherits what its specification names and nothing else."""
    pages = [page.fd for page in cast.memory.io_pages]
    for index, (child, spec) in enumerate(zip(cast.ios, cast.io_specs, strict=True)):
        assert spec.rings == [worker.rings[index] for worker in cast.worker_specs]
        assert sorted(child._fds) == sorted([*descriptors(spec.rings), spec.counters, spec.marks])
        assert (spec.counters, spec.marks) == (pages[index], cast.memory.io_marks[index].fd)
    for child, worker in zip(cast.workers, cast.worker_specs, strict=True):
        assert len(worker.rings) == 3
        assert sorted(child._fds) == sorted([*descriptors(worker.rings), worker.counters, worker.stacks])


def descriptors(rings: list[RingsFds]) -> list[int]:
    return [fd for one in rings for fd in one.all()]


def test_more_io_processes_than_topics_are_warned_of() -> None:
    """An io process without a topic only costs."""
    with structlog.testing.capture_logs() as logs:
        cast = Cast(4, ["room:1"])
    cast.memory.close()

    assert {entry["name"] for entry in logs} == {f"io-{n}" for n in range(4)} - {f"io-{rendezvous('room:1', 4)}"}
    assert all("no topic falls to this io process" in entry["event"] for entry in logs)
