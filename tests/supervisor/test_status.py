"""What the supervisor can say of a run."""

import msgspec
import pytest

from rig.ring import Producer
from rig.supervisor import status as status_module
from rig.supervisor.memory import SharedMemory
from rig.supervisor.status import Status


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(status_module, "time", clock)
    return clock


def test_totals_are_those_of_all_processes(memory: SharedMemory, clock: Clock) -> None:
    """The io process's counters as they are, the workers' added up."""
    memory.io_page.set("received", 12)
    memory.io_page.set("routed", 10)
    memory.io_page.set("reconnects", 2)
    for worker, handled in zip(memory.workers, (3, 4), strict=True):
        worker.page.set("handled", handled)
        worker.page.set("failed", 1)
        worker.page.set("quarantined", 1)

    totals = Status(memory).totals()

    assert (totals.received, totals.routed, totals.reconnects) == (12, 10, 2)
    assert (totals.handled, totals.failed, totals.quarantined) == (7, 2, 2)
    assert totals.unfinished == 3


def test_nothing_is_unfinished_before_something_is_routed(memory: SharedMemory) -> None:
    """A worker may count an event before the io process's count of it is seen: that is not less than nothing."""
    memory.workers[0].page.set("handled", 5)

    assert Status(memory).totals().unfinished == 0


def test_totals_can_be_written(memory: SharedMemory) -> None:
    """The summary at the end names each of them once."""
    assert "unfinished" not in msgspec.to_builtins(Status(memory).totals())


def test_interval_counts_from_the_last_look(memory: SharedMemory, clock: Clock) -> None:
    """Rate and quantiles are those of the time since then, the fill is that of the fullest ring now."""
    first, second = memory.workers
    first.page.observe("latency", 10**9, 100)
    status = Status(memory)
    first.page.add("handled", 30)
    second.page.add("handled", 20)
    first.page.observe("latency", 100_000, 30)
    second.page.observe("latency", 10_000_000, 20)
    producer = Producer(second.events.memory)
    for _ in range(8):
        producer.put(b"x" * (32 * 1024 - 64), kind=1)
    clock.now += 2

    interval = status.interval()

    assert interval.rate == pytest.approx(25)
    assert interval.p50 == pytest.approx(100e-6, rel=0.07)
    assert interval.p99 == pytest.approx(10e-3, rel=0.07)
    assert interval.fill == pytest.approx(0.5, rel=0.01)

    clock.now += 1
    quiet = status.interval()
    assert (quiet.rate, quiet.p50, quiet.p99) == (0, None, None)


def test_latency_since_the_start_covers_everything(memory: SharedMemory, clock: Clock) -> None:
    """The summary's quantiles are not those of the last interval."""
    status = Status(memory)
    assert status.latency(0.5) is None
    for worker in memory.workers:
        worker.page.observe("latency", 1_000_000, 10)
        status.interval()

    assert status.latency(0.5) == pytest.approx(1e-3, rel=0.07)


def test_two_looks_at_once_are_no_division_by_zero(memory: SharedMemory, clock: Clock) -> None:
    """A clock that has not moved gives a rate all the same."""
    status = Status(memory)

    assert status.interval().rate == 0
