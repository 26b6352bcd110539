"""The token bucket of what is sent again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.io.budget import Budget


def test_a_burst_is_free() -> None:
    """Some repetitions after a long peace wait for nothing."""
    budget = Budget(burst=100, rate=10)

    assert budget.spend(100, 0.0) == 0.0
    assert budget.spend(1, 0.0) == pytest.approx(0.1)


def test_who_asks_later_waits_behind_who_asked_before() -> None:
    """What is taken in advance is not there for the next."""
    budget = Budget(burst=1, rate=10)
    budget.spend(1, 0.0)

    assert [budget.spend(10, 0.0), budget.spend(10, 0.0), budget.spend(10, 1.0)] == pytest.approx([1.0, 2.0, 2.0])


def test_time_and_successes_fill_it_no_higher_than_the_burst() -> None:
    """A year without a repetition is no reason for a year's worth of them."""
    budget = Budget(burst=5, rate=10, share=0.5)
    budget.spend(5, 0.0)
    budget.earn(4)
    assert budget.spend(2, 0.0) == 0.0
    budget.earn(1_000)

    assert budget.spend(5, 1_000.0) == 0.0
    assert budget.spend(1, 1_000.0) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 5)), min_size=1, max_size=30))
def test_what_is_let_through_stays_within_the_rate(spendings: list[tuple[int, float]]) -> None:
    """However it is asked, by the time that the last may be made no more have been made than burst and rate allow."""
    budget, now, total = Budget(burst=20, rate=10), 0.0, 0
    for count, pause in spendings:
        now += pause
        total += count
        allowed_at = now + budget.spend(count, now)

        assert total <= 20 + 10 * allowed_at + 1e-6
