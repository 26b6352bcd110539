"""`rig.backoff`."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.backoff import FLOORS, Cause, full_jitter, reconnect_delay, rejoin_delay

CHANCE = st.floats(0.0, 1.0, exclude_max=True)
ATTEMPT = st.integers(0, 10**6)


@given(ATTEMPT, CHANCE, st.floats(0.01, 10.0), st.floats(0.01, 100.0))
def test_full_jitter_bounds(attempt, chance, base, cap):
    """A wait lies between zero and the ceiling, which never exceeds the cap, however many attempts there were."""
    wait = full_jitter(attempt, lambda: chance, base=base, cap=cap)

    assert 0.0 <= wait <= min(cap, base * 2.0 ** min(attempt, 60))
    assert math.isfinite(wait)


def test_full_jitter_ceilings():
    """The ceiling starts at 0.25 s, doubles, and stays at 30 s."""
    ceilings = [full_jitter(attempt, lambda: 1.0) for attempt in range(12)]

    assert ceilings == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0, 30.0]


def test_full_jitter_is_uniform():
    """The waits fill the whole range evenly, so that clients cut off together do not come back together."""
    source = random.Random(1)
    waits = sorted(full_jitter(4, source.random) for _ in range(4000))

    for i in range(1, 8):
        assert waits[4000 * i // 8] == pytest.approx(4.0 * i / 8, abs=0.15)


@given(CHANCE, st.sampled_from(Cause))
def test_first_reconnect_is_spread_over_a_second(chance, cause):
    """The first wait lies within one second above the cause's floor."""
    assert reconnect_delay(0, cause, lambda: chance) == FLOORS.get(cause, 0.0) + chance


@given(st.integers(1, 10**6), CHANCE, st.sampled_from(Cause))
def test_reconnect_bounds(attempt, chance, cause):
    """Later waits lie within 30 s above the floor."""
    wait = reconnect_delay(attempt, cause, lambda: chance)

    assert FLOORS.get(cause, 0.0) <= wait <= FLOORS.get(cause, 0.0) + min(30.0, 0.25 * 2.0 ** min(attempt, 60))


def test_floors():
    """A busy server gets 30 s, one that refuses us 60 s; nothing else has a floor."""
    assert FLOORS == {Cause.BUSY: 30.0, Cause.UNAUTHORIZED: 60.0}


@given(ATTEMPT, CHANCE, st.sampled_from(Cause), st.floats(0.0, 1e6))
def test_retry_after_takes_the_place_of_the_floor(attempt, chance, cause, retry_after):
    """What the server asked for is the least wait, shorter or longer than the floor would be."""
    wait = reconnect_delay(attempt, cause, lambda: chance, retry_after=retry_after)

    assert retry_after <= wait <= retry_after + 30.0


def test_negative_retry_after_is_none_at_all():
    """A server that asks for a wait in the past is tried after the jitter alone."""
    assert reconnect_delay(0, Cause.BUSY, lambda: 0.5, retry_after=-100.0) == 0.5


def test_rejoin_ceilings():
    """Rejoins wait within 1 s, 2 s, 4 s, …, 30 s."""
    assert [rejoin_delay(attempt, lambda: 1.0) for attempt in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert rejoin_delay(3, lambda: 0.0) == 0.0


@given(ATTEMPT, CHANCE, st.integers(2, 1000))
def test_a_join_refused_as_unauthorised_is_retried_soon_and_then_slowly(attempt, chance, more):
    """The first retry leaves a second for a fresh token; if that one is refused too, a minute passes before each further one."""
    assert 1.0 <= rejoin_delay(attempt, lambda: chance, unauthorized=1) <= 2.0
    assert 60.0 <= rejoin_delay(attempt, lambda: chance, unauthorized=more) <= 90.0


def test_causes_are_labels():
    """Each cause is a word that a metric can carry."""
    assert all(cause.value.isidentifier() and cause.value == cause.value.lower() for cause in Cause)
