"""What the supervisor can say of a run."""

import msgspec
import pytest

from rig.control import State
from rig.ring import Producer
from rig.supervisor import status as status_module
from rig.supervisor.memory import SharedMemory
from rig.supervisor.status import Status, overall


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
    """Those of the io processes and those of the workers are added up."""
    first, second = memory.io_pages
    first.set("received", 12)
    first.set("routed", 10)
    second.set("routed", 5)
    second.set("reconnects", 2)
    for worker, handled in zip(memory.workers, (3, 4), strict=True):
        worker.page.set("handled", handled)
        worker.page.set("failed", 1)
        worker.page.set("quarantined", 1)

    totals = Status(memory).totals()

    assert (totals.received, totals.routed, totals.reconnects) == (12, 15, 2)
    assert (totals.handled, totals.failed, totals.quarantined) == (7, 2, 2)
    assert totals.unfinished == 8


def test_nothing_is_unfinished_before_something_is_routed(memory: SharedMemory) -> None:
    """A worker may count an event before an io process's count of it is seen: that is not less than nothing."""
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
    producer = Producer(second.rings[1].events.memory)
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


# Where a run stands.

UP, DOWN, DIALLING = State("connected", "", 3), State("waiting", "connection refused", 0), State("connecting", "starting", 0)
LEAVING = State("draining", "asked to stop", 3)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([UP, UP], State("connected", "", 6)),
        ([UP, DOWN], State("waiting", "io-1: connection refused", 3)),
        ([DIALLING, UP], State("connecting", "io-0: starting", 3)),
        ([DIALLING, DOWN, UP], State("waiting", "io-1: connection refused", 3)),
        ([UP, LEAVING, DOWN], State("draining", "io-1: asked to stop", 6)),
    ],
)
def test_a_run_is_connected_only_if_all_its_io_processes_are(states: list[State], expected: State) -> None:
    """Else it stands as the worst of them, and the reason says whose it is; the joined topics are added up."""
    assert overall({f"io-{index}": state for index, state in enumerate(states)}) == expected


@pytest.mark.parametrize("state", [UP, DOWN, DIALLING, LEAVING])
def test_of_one_io_process_the_state_is_told_as_it_is(state: State) -> None:
    """There is nobody to confuse it with."""
    assert overall({"io": state}) == state
