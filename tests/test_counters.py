"""Counters in shared memory, and what can be read from their histograms."""

import itertools
import math
import mmap
import os
import statistics
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.app import STATES
from rig.backoff import Cause
from rig.counters import (
    BUCKETS,
    IO_COUNTERS,
    IO_HISTOGRAMS,
    WORKER_COUNTERS,
    WORKER_HISTOGRAMS,
    Page,
    bucket,
    bucket_limits,
    enter_state,
    merge,
    quantile,
    seconds_in_states,
)

LONGEST = bucket_limits(BUCKETS - 1)[0] * 1000
"""Nanoseconds from which on everything falls into the last bucket."""


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page.create(("a", "b"), ("latency", "duration"))
    yield page
    page.close()


def test_counters_start_at_zero_and_count(page: Page) -> None:
    """A counter counts up, a gauge is set, neither touches the other."""
    page.add("a")
    page.add("a", 4)
    page.set("b", 9)
    page.set("b", 2)

    assert (page.get("a"), page.get("b")) == (5, 2)


def test_another_process_sees_the_same_memory(page: Page) -> None:
    """A page that is attached by its descriptor is the same page, with the histograms in the same places."""
    other = Page(os.dup(page.fd), ("a", "b"), ("latency", "duration"))
    page.add("b", 3)
    page.observe("duration", 5_000, 2)

    assert other.get("b") == 3
    assert other.buckets("latency") == [0] * BUCKETS
    assert other.buckets("duration")[5] == 2
    other.close()


def test_page_outlives_its_writer(page: Page) -> None:
    """What a killed process had counted stays counted, and its successor goes on from there."""
    first = Page(os.dup(page.fd), ("a", "b"), ("latency", "duration"))
    first.add("a", 2)
    first.close()
    successor = Page(os.dup(page.fd), ("a", "b"), ("latency", "duration"))
    successor.add("a")

    assert page.get("a") == 3
    successor.close()


def test_descriptor_goes_no_further(page: Page) -> None:
    """A process that is started by a handler does not inherit the page."""
    fd = os.dup(page.fd)
    os.set_inheritable(fd, True)
    other = Page(fd, ("a", "b"), ("latency", "duration"))

    assert not os.get_inheritable(other.fd)
    other.close()


def test_words_lie_where_the_document_says(page: Page) -> None:
    """Counters first, in their order, then one block for each histogram."""
    page.add("b", 7)
    page.observe("latency", 0)
    page.observe("duration", 0)
    with mmap.mmap(page.fd, 0) as memory, memoryview(memory) as whole, whole.cast("Q") as words:
        found = {index: word for index, word in enumerate(words) if word}

    assert found == {1: 7, 2: 1, 2 + BUCKETS: 1}


def test_close_frees_the_descriptor() -> None:
    """A page that is closed leaves nothing open."""
    page = Page.create(("a",))
    page.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(page.fd)


def test_names_are_not_used_twice() -> None:
    """Two counters of one name would be one."""
    for names in (IO_COUNTERS, IO_HISTOGRAMS, WORKER_COUNTERS, WORKER_HISTOGRAMS):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("duration_ns", "index"),
    [(-5, 0), (0, 0), (999, 0), (1_000, 1), (7_999, 7), (8_000, 8), (15_999, 15), (16_000, 16), (17_999, 16)],
)
def test_short_durations_have_buckets_of_a_microsecond(duration_ns: int, index: int) -> None:
    """Up to 16 µs a bucket is a microsecond; a clock that runs backwards counts as no time."""
    assert bucket(duration_ns) == index


@given(st.integers(0, 1 << 50))
def test_duration_lies_within_the_limits_of_its_bucket(duration_ns: int) -> None:
    """The bucket of a duration holds it, unless it is longer than what is told apart."""
    start, end = bucket_limits(bucket(duration_ns))

    assert start <= duration_ns // 1000
    assert duration_ns // 1000 < end or bucket(duration_ns) == BUCKETS - 1


def test_buckets_have_no_gap_and_no_overlap() -> None:
    """Each bucket begins where the one before it ends."""
    limits = [bucket_limits(index) for index in range(BUCKETS)]

    assert limits[0][0] == 0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(limits))
    assert [bucket(start * 1000) for start, _ in limits] == list(range(BUCKETS))


def test_buckets_are_narrow() -> None:
    """A bucket is an eighth of its start at most, beyond the first microseconds."""
    assert all(end - start <= max(start / 8, 1) for start, end in map(bucket_limits, range(BUCKETS)))


def test_last_bucket_holds_everything_longer() -> None:
    """A duration of days is counted, not lost."""
    assert bucket(10**15) == bucket(1 << 62) == BUCKETS - 1


@given(
    durations=st.lists(st.integers(16_000, LONGEST - 1), min_size=1, max_size=200),
    fraction=st.sampled_from([0.01, 0.25, 0.5, 0.9, 0.99, 1.0]),
)
def test_quantile_is_right_to_seven_percent(durations: list[int], fraction: float) -> None:
    """The quantile of the histogram is that of the raw durations, whatever they are."""
    buckets = [0] * BUCKETS
    for duration in durations:
        buckets[bucket(duration)] += 1
    exact = sorted(durations)[math.ceil(fraction * len(durations)) - 1] / 1e9

    assert quantile(buckets, fraction) == pytest.approx(exact, rel=0.07)


@given(st.integers(4, 24), st.integers(0, 1000))
def test_quantiles_of_a_spread_agree_with_statistics(exponent: int, offset: int) -> None:
    """The percentiles of many durations are those that the standard library finds in the raw data."""
    low = (1 << exponent) + offset
    raw = [low + low * i // 500 for i in range(1000)]
    buckets = [0] * BUCKETS
    for micros in raw:
        buckets[bucket(micros * 1000)] += 1
    exact = statistics.quantiles(raw, n=100)

    for percent in (10, 50, 90, 99):
        assert quantile(buckets, percent / 100) == pytest.approx(exact[percent - 1] / 1e6, rel=0.07)


@given(st.lists(st.integers(0, 1 << 42), min_size=1, max_size=50))
def test_quantiles_do_not_fall(durations: list[int]) -> None:
    """A higher fraction never gives a shorter duration."""
    buckets = [0] * BUCKETS
    for duration in durations:
        buckets[bucket(duration)] += 1
    found = [quantile(buckets, step / 20) or 0.0 for step in range(21)]

    assert found == sorted(found)


def test_no_durations_have_no_quantile() -> None:
    """Nothing was counted, so nothing can be said."""
    assert quantile([0] * BUCKETS, 0.5) is None


def test_histograms_of_workers_add_up() -> None:
    """Several pages are read as one."""
    assert merge([[1, 0, 2], [0, 5, 1]]) == [1, 5, 3]


def test_time_in_states_adds_up() -> None:
    """What has passed in each state, and what passes in the present one; before the first there is none."""
    page = Page.create(IO_COUNTERS)
    assert set(seconds_in_states(page, 10**9).values()) == {0.0}
    enter_state(page, "connecting", 5 * 10**9)
    enter_state(page, "connected", 6 * 10**9)
    enter_state(page, "connecting", 8 * 10**9)

    found = seconds_in_states(page, 12 * 10**9)
    assert found == {"connecting": 5.0, "connected": 2.0, "degraded": 0.0, "offline": 0.0, "draining": 0.0}
    page.close()


def test_every_state_and_every_cause_has_a_word() -> None:
    """What can be entered or counted can be read by others."""
    assert {f"{state}_ns" for state in STATES} | {f"reconnects_{cause}" for cause in Cause} <= set(IO_COUNTERS)
