"""`rig.backoff`."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.backoff import RULES, Cause, Decision, Rule, decide, full_jitter, rejoin_delay

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


EXPECTED = {
    "dns": (0, 1, False),
    "refused": (0, 1, False),
    "unreachable": (0, 1, False),
    "timeout": (0, 1, False),
    "tls": (5, 1, True),
    "proxy": (0, 1, False),
    "no_token": (0, 1, True),
    "not_websocket": (0, 1, False),
    "http_4xx": (5, 1, True),
    "http_5xx": (0, 1, False),
    "unauthorized": (60, 1, True),
    "busy": (30, 1, False),
    "heartbeat_lost": (0, 1, False),
    "draining": (0, 1, False),
    "policy_violation": (60, 1, True),
    "server_closed": (0, 1, False),
    "link_lost": (0, 1, False),
    "requested": (0, 0.25, False),
}
"""Cause: seconds of the floor, seconds over which the first wait is spread, whether the log says it as an error."""


def test_every_cause_has_its_rule():
    """The table of this test and that of the module name every cause."""
    assert set(EXPECTED) == {str(cause) for cause in Cause} == {str(cause) for cause in RULES}


@pytest.mark.parametrize("cause", list(Cause))
def test_the_rule_of_each_cause(cause):
    """Floor, jitter and loudness are those of the table; the waits that follow keep the floor and grow."""
    floor, first, loud = EXPECTED[cause]
    words = "reconnect slowly" if floor else "reconnect"

    assert RULES[cause] == Rule(floor, first, loud)
    assert decide(0, cause, lambda: 0.5) == Decision(words, floor + first / 2)
    assert decide(4, cause, lambda: 0.5) == Decision(words, floor + 2.0)
    assert decide(99, cause, lambda: 0.5) == Decision(words, floor + 15.0)


@given(ATTEMPT, CHANCE, st.sampled_from(Cause))
def test_reconnect_bounds(attempt, chance, cause):
    """A wait lies above the floor, within a second of it at first and within 30 s later."""
    floor = RULES[cause].floor
    wait = decide(attempt, cause, lambda: chance).delay

    assert floor <= wait <= floor + (1.0 if attempt == 0 else min(30.0, 0.25 * 2.0 ** min(attempt, 60)))


@given(ATTEMPT, CHANCE, st.sampled_from(Cause), st.floats(0.0, 1e6))
def test_retry_after_takes_the_place_of_the_floor(attempt, chance, cause, retry_after):
    """What the server asked for is the least wait, shorter or longer than the floor would be."""
    decision = decide(attempt, cause, lambda: chance, retry_after=retry_after)

    assert retry_after <= decision.delay <= retry_after + 30.0
    assert decision.what == "reconnect when the server asked to"


def test_negative_retry_after_is_none_at_all():
    """A server that asks for a wait in the past is tried after the jitter alone."""
    assert decide(0, Cause.BUSY, lambda: 0.5, retry_after=-100.0).delay == 0.5


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
