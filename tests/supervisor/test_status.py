"""What the supervisor can say of a run."""

import msgspec
import pytest

from rig.control import Disconnect, State
from rig.counters import enter_state
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

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)


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
    for page in memory.io_pages:
        page.set("durable_stored", 4)
    for worker, handled in zip(memory.workers, (3, 4), strict=True):
        worker.page.set("handled", handled)
        worker.page.set("failed", 1)
        worker.page.set("quarantined", 1)

    totals = Status(memory).totals()

    assert (totals.received, totals.routed, totals.reconnects) == (12, 15, 2)
    assert (totals.handled, totals.failed, totals.quarantined) == (7, 2, 2)
    assert (totals.durable_stored, totals.durable_acknowledged) == (8, 0)
    assert totals.unfinished == 8


def test_dropped_events_are_not_unfinished(memory: SharedMemory) -> None:
    """They were handed on, and nobody will handle them; those in spill.db are still to be handled."""
    page = memory.io_pages[0]
    page.set("routed", 100)
    page.set("spill_backlog", 40)
    for count, name in enumerate(("dropped_oldest", "dropped_newest", "dropped_latest", "dropped_large"), 1):
        page.set(name, count)
    memory.workers[0].page.set("handled", 50)

    assert Status(memory).totals().unfinished == 40


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

UP, DOWN, DIALLING = State("connected", "", 3), State("offline", "connection refused", 0), State("connecting", "starting", 0)
LEAVING, LIMPING = State("draining", "asked to stop", 3), State("degraded", "a heartbeat was not answered", 3)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([UP, UP], State("connected", "", 6)),
        ([UP, DOWN], State("offline", "io-1: connection refused", 3)),
        ([UP, LIMPING], State("degraded", "io-1: a heartbeat was not answered", 6)),
        ([DIALLING, LIMPING], State("connecting", "io-0: starting", 3)),
        ([DIALLING, UP], State("connecting", "io-0: starting", 3)),
        ([DIALLING, DOWN, UP], State("offline", "io-1: connection refused", 3)),
        ([UP, LEAVING, DOWN], State("draining", "io-1: asked to stop", 6)),
    ],
)
def test_a_run_is_connected_only_if_all_its_io_processes_are(states: list[State], expected: State) -> None:
    """Else it stands as the worst of them, and the reason says whose it is; the joined topics are added up."""
    assert overall({f"io-{index}": state for index, state in enumerate(states)}) == expected


@pytest.mark.parametrize("state", [UP, DOWN, DIALLING, LEAVING, LIMPING])
def test_of_one_io_process_the_state_is_told_as_it_is(state: State) -> None:
    """There is nobody to confuse it with."""
    assert overall({"io": state}) == state


def test_the_latest_ends_of_all_connections_are_told_in_order() -> None:
    """Sixteen of them, whosever they were; since when is that of the worst."""
    ends = [Disconnect(float(at), "link_lost", "nobody", 1006, "", 1.0, 1.0, "reconnect", 0.5) for at in range(20)]
    first, second = State("connected", "", 1, 7.0, tuple(ends[::2])), State("offline", "", 0, 9.0, tuple(ends[1::2]))

    told = overall({"io-0": first, "io-1": second})

    assert told.disconnects == tuple(ends[4:])
    assert told.since == 9.0


# The figures of a connection.


def test_the_figures_of_each_connection(memory: SharedMemory, clock: Clock) -> None:
    """Time in each state, the running one included; reconnects by cause; heartbeats; all read from shared memory."""
    first, _ = memory.io_pages
    enter_state(first, "connecting", clock.monotonic_ns())
    enter_state(first, "connected", clock.monotonic_ns() + 2 * 10**9)
    first.add("reconnects_dns", 3)
    first.add("heartbeats_missed", 2)
    first.set("heartbeat_rtt_ns", 4_000_000)
    first.observe("heartbeat_rtt", 1_000_000, 98)
    first.observe("heartbeat_rtt", 500_000_000, 2)
    clock.now += 12

    link, idle = Status(memory).links()

    assert link.seconds == {"connecting": 2.0, "connected": 10.0, "degraded": 0.0, "offline": 0.0, "draining": 0.0}
    assert (link.reconnects, link.heartbeats_missed, link.rtt) == ({"dns": 3}, 2, 0.004)
    assert (link.rtt_p50, link.rtt_p99) == (pytest.approx(0.001, rel=0.07), pytest.approx(0.5, rel=0.07))
    assert (idle.reconnects, idle.rtt, idle.rtt_p50, set(idle.seconds.values())) == ({}, None, None, {0.0})
