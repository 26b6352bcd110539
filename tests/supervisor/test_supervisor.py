"""What the supervisor makes of what its children say."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from rig.app import STATES
from rig.config import Settings
from rig.control import AuthenticationGivenUp, Disconnect, Drained, State
from rig.counters import enter_state, seconds_in_states
from rig.errors import AppError
from rig.supervisor import supervisor as supervisor_module
from rig.supervisor.child import Child, Died
from rig.supervisor.memory import SharedMemory
from rig.supervisor.supervisor import Supervisor
from rig.worker.describe import Description

TOPICS = [f"room:{number}" for number in range(40)]
WORKERS = 3


class Cast:
    """A supervisor that has described its children and started none."""

    def __init__(self, io_processes: int, topics: list[str]) -> None:
        settings = Settings(ring_bytes=64 * 1024, concurrency=2, io_processes=io_processes)
        self.memory = SharedMemory(settings, WORKERS)
        self.supervisor = Supervisor(settings)
        description = Description("app", [], {topic: {"since": topic} for topic in topics})
        self.supervisor._make_children(description, self.memory)
        self.ios, self.workers = self.supervisor._ios, self.supervisor._workers

    def say(self, child: Child, message: Any) -> None:
        """Let a child say something."""
        self.supervisor._heard(child, message)


@pytest.fixture
def cast(request: pytest.FixtureRequest) -> Iterator[Cast]:
    """Give the children of a run with three io processes, or as many as the test says."""
    cast = Cast(getattr(request, "param", 3), TOPICS)
    yield cast
    cast.memory.close()


def test_the_state_is_that_of_all_io_processes(cast: Cast) -> None:
    """It is connected when the last one is, and its topics are those of all."""
    assert cast.supervisor.state == State("connecting", "io-0: starting", 0)

    for child in cast.ios[:2]:
        cast.say(child, State("connected", "", 5))
    assert cast.supervisor.state == State("connecting", "io-2: starting", 10)

    cast.say(cast.ios[2], State("connected", "", 5))
    assert cast.supervisor.state == State("connected", "", 15)


def test_the_drain_waits_for_every_io_process(cast: Cast) -> None:
    """One that says it twice, as after a death, does not count for another."""
    supervisor = cast.supervisor
    for child in (cast.ios[0], cast.ios[2], cast.ios[0]):
        cast.say(child, Drained())
        assert not supervisor._drained.is_set()

    cast.say(cast.ios[1], Drained())
    assert supervisor._drained.is_set()


@pytest.mark.parametrize("graceful_timeout", [0.0, 0.2, 1.0, 4.0, 9.9, 30.0, 600.0])
def test_the_io_processes_leave_within_the_graceful_timeout(graceful_timeout: float) -> None:
    """Handlers have half of it at least, and the io processes as much as storing takes, unless it is very short."""
    leaving = supervisor_module._time_to_leave(graceful_timeout)

    assert leaving <= graceful_timeout / 2
    assert leaving <= 10.0
    assert leaving >= min(supervisor_module._STORING, graceful_timeout / 2)


def test_too_many_rings_for_the_system_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options that help are named."""

    def full(*_: object, **__: object) -> None:
        raise OSError("no descriptor left")

    monkeypatch.setattr(supervisor_module, "SharedMemory", full)

    with pytest.raises(AppError, match=r"no descriptor left.*take fewer --workers or --io-processes"):
        supervisor_module._make_memory(Settings(), 1)


def test_the_state_of_a_dead_io_process_does_not_stand(cast: Cast) -> None:
    """Nobody is connected by a process that is gone; how it ended before is still known, and the times go on."""
    first, *others = cast.ios
    end = Disconnect(1.0, "link_lost", "nobody", 1006, "", 1.0, 1.0, "reconnect", 0.5)
    for io in cast.ios:
        cast.say(io, State("connected", "", 3, 5.0, (end,)))
    page = cast.memory.io_pages[0]
    page.set("connected", 1)
    enter_state(page, "connected", time.monotonic_ns() - 10**9)

    cast.say(first, Died("SIGKILL", 1, 0.1))

    state = cast.supervisor.state
    assert (state.state, state.reason, state.joined) == (
        "connecting",
        "io-0: the process died (SIGKILL), and is started again after 0.1 s",
        6,
    )
    assert end in state.disconnects
    assert page.get("connected") == 0
    seconds = seconds_in_states(page, time.monotonic_ns())
    assert seconds["connected"] == pytest.approx(1.0, abs=0.5)
    assert STATES[page.get("state")] == "connecting"

    cast.say(first, State("connected", "", 3))
    assert cast.supervisor.state.state == "connected"
    assert others


def test_a_server_that_refuses_our_token_ends_the_run_if_an_io_process_says_so(cast: Cast) -> None:
    """It drains as after a signal; the first reason counts."""
    for reason in ("HTTP 403", "a join"):
        cast.say(cast.ios[0], AuthenticationGivenUp(reason))

    assert cast.supervisor._stopping.is_set()
    assert cast.supervisor._refused == "HTTP 403"
