"""Where a connection stands: what follows from which facts, and how long."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.app import STATES
from rig.counters import IO_COUNTERS, IO_HISTOGRAMS, Page, seconds_in_states
from rig.io import states as states_module
from rig.io.states import States


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def time(self) -> float:
        return 1e9 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(states_module, "time", clock)
    return clock


STEPS: dict[str, Callable[[States], Any]] = {
    "opened": lambda states: states.opened(),
    "lost": lambda states: states.lost("cut"),
    "failed": lambda states: states.failed("refused"),
    "impair": lambda states: states.impair("store", "the disk is full"),
    "mend": lambda states: states.mend("store"),
    "drain": lambda states: states.draining(),
}


@pytest.mark.parametrize(
    ("steps", "state", "reason"),
    [
        ("", "connecting", "starting"),
        ("opened", "connected", ""),
        ("failed", "offline", "refused"),
        ("failed failed", "offline", "refused"),
        ("opened lost", "connecting", "cut"),
        ("opened lost failed", "offline", "refused"),
        ("failed opened", "connected", ""),
        ("failed opened lost", "connecting", "cut"),
        ("impair", "connecting", "starting"),
        ("impair opened", "degraded", "the disk is full"),
        ("opened impair", "degraded", "the disk is full"),
        ("opened impair mend", "connected", ""),
        ("opened impair lost", "connecting", "cut"),
        ("opened impair failed opened", "degraded", "the disk is full"),
        ("mend", "connecting", "starting"),
        ("drain", "draining", "asked to stop"),
        ("drain opened", "draining", "asked to stop"),
        ("opened drain failed", "draining", "asked to stop"),
    ],
)
def test_state_follows_from_the_facts(page: Page, steps: str, state: str, reason: str) -> None:
    """What happened last, what is wrong, and whether the run ends: nothing else counts."""
    states = States(page)
    for step in steps.split():
        STEPS[step](states)

    assert (states.state, states.reason) == (state, reason)
    assert STATES[page.get("state")] == state


def test_two_things_that_are_wrong_are_both_told(page: Page) -> None:
    """Mending one leaves the other."""
    states = States(page)
    states.opened()
    states.impair("store", "the disk is full")
    states.impair("heartbeat", "a heartbeat was not answered")
    assert states.reason == "the disk is full; a heartbeat was not answered"

    states.mend("store")
    assert (states.state, states.reason) == ("degraded", "a heartbeat was not answered")


def test_since_is_that_of_the_state_and_not_of_its_reason(page: Page, clock: Clock) -> None:
    """A second attempt that fails does not make us offline anew."""
    states = States(page)
    clock.now += 1
    states.failed("refused")
    clock.now += 5
    states.failed("no route to host")

    assert (states.state, states.reason, states.since) == ("offline", "no route to host", 1e9 + 51.0)
    assert states.previous == "connecting"


def test_callbacks_are_told_once_of_each_change(page: Page) -> None:
    """Another reason for the same state is none; another thing that is wrong is one."""
    states = States(page)

    def told() -> str | None:
        news = states.news(connection="io-1", topics=3)
        return None if news is None else news.state

    assert told() == "connecting"
    assert told() is None
    states.failed("refused")
    assert told() == "offline"
    states.failed("another reason")
    assert told() is None
    states.impair("store", "the disk is full")
    assert told() is None
    states.opened()
    assert told() == "degraded"
    states.impair("store", "the disk is still full")
    assert told() is None
    states.impair("heartbeat", "a heartbeat was not answered")
    news = states.news(connection="io-1", topics=3)
    assert news is not None
    assert (news.state, news.previous, news.connection, news.topics) == ("degraded", "offline", "io-1", 3)


@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.floats(0.001, 1000.0)), max_size=30))
def test_the_times_in_all_states_are_the_time_that_has_passed(steps: list[tuple[str, float]]) -> None:
    """None is lost and none counted twice, whatever happens in which order."""
    clock, page = Clock(), Page.create(IO_COUNTERS, IO_HISTOGRAMS)
    spent = dict.fromkeys(STATES, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states_module, "time", clock)
        states = States(page)
        for step, seconds in steps:
            spent[states.state] += seconds
            clock.now += seconds
            STEPS[step](states)
    found = seconds_in_states(page, clock.monotonic_ns())
    page.close()

    assert found == pytest.approx(spent, abs=1e-3)


def test_a_successor_starts_on_the_way_and_keeps_the_times(page: Page, clock: Clock) -> None:
    """What a killed io process has left in the page is not where its successor stands."""
    States(page).opened()
    clock.now += 7
    successor = States(page)
    clock.now += 2

    assert (successor.state, successor.reason, STATES[page.get("state")]) == ("connecting", "starting", "connecting")
    found = seconds_in_states(page, clock.monotonic_ns())
    assert (found["connected"], found["connecting"]) == (7.0, 2.0)


def test_every_state_can_come_about(page: Page) -> None:
    """None of those that callbacks and pages name is made up."""
    reached = set()
    for steps in itertools.product(STEPS, repeat=3):
        states = States(page)
        for step in steps:
            STEPS[step](states)
            reached.add(states.state)

    assert reached | {"connecting"} == set(STATES)
