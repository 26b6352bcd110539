"""The judgement over what clients pushed."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_server.received import Orders, Received, Verdict

TOPIC = "ledger:a"


def taken(pushes: Iterable[Any], **settings: Any) -> dict[str, Any]:
    received = Received(**settings)
    for payload in pushes:
        received.attempt(TOPIC, Orders())
        received.take(TOPIC, payload)
    return received.snapshot()[TOPIC]


def numbers(*sequence: int) -> list[dict[str, Any]]:
    return [{"i": i, "idempotency_key": f"k{n}"} for n, i in enumerate(sequence)]


def test_a_whole_sequence_is_without_fault() -> None:
    """Every number once, in order."""
    assert taken(numbers(0, 1, 2)) == {
        "count": 3,
        "unique": 3,
        "duplicates": 0,
        "repeated": 0,
        "lost": 0,
        "reordered": 0,
        "refused": 0,
        "last": 2,
        "missing": [],
    }


def test_a_gap_is_lost_until_it_is_filled() -> None:
    """What comes after a later number is out of order, and no longer missing."""
    open_gap = taken(numbers(0, 3))
    filled = taken(numbers(0, 3, 1))
    assert (open_gap["lost"], open_gap["missing"], open_gap["reordered"]) == (2, [1, 2], 0)
    assert (filled["lost"], filled["missing"], filled["reordered"]) == (1, [2], 1)


def test_the_first_number_can_be_lost_too() -> None:
    """Sequences start at 0."""
    assert taken(numbers(1))["missing"] == [0]


def test_the_same_key_again_is_a_double_and_changes_nothing() -> None:
    """As a push that is sent again because its reply was lost."""
    figures = taken([{"i": 0, "idempotency_key": "a"}, {"i": 1, "idempotency_key": "b"}, {"i": 0, "idempotency_key": "a"}])
    assert (figures["count"], figures["unique"], figures["duplicates"]) == (3, 2, 1)
    assert (figures["reordered"], figures["repeated"]) == (0, 0)


def test_the_same_number_under_a_new_key_is_told_apart() -> None:
    """As an event that was handled twice, which enqueues twice."""
    figures = taken([{"i": 0, "idempotency_key": "a"}, {"i": 0, "idempotency_key": "b"}])
    assert (figures["duplicates"], figures["repeated"], figures["unique"]) == (0, 1, 2)


def test_without_a_key_the_number_tells_doubles() -> None:
    """A client that sends none is judged by its sequence."""
    assert taken([{"i": 0}, {"i": 0}])["duplicates"] == 1


def test_the_field_of_the_key_can_be_another() -> None:
    """Whatever a server calls it."""
    assert taken([{"id": 5}, {"id": 5}], key_field="id")["duplicates"] == 1


@pytest.mark.parametrize(
    "payload", [b"\x00", {}, {"i": True}, {"i": "1"}, {"i": -1}, {"i": 1.0}, {"idempotency_key": [1]}, [0], None]
)
def test_what_has_neither_is_only_counted(payload: Any) -> None:
    """Any payload can be pushed."""
    figures = taken([payload, payload])
    assert (figures["count"], figures["unique"], figures["last"], figures["lost"]) == (2, 2, None, 0)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_figures_agree_with_a_simple_count(sequence: list[int]) -> None:
    """Whatever the order: lost, doubled and reordered are what a naive reader would say."""
    figures = taken({"i": i} for i in sequence)
    missing = sorted(set(range(max(sequence))) - set(sequence))
    firsts = [i for n, i in enumerate(sequence) if i not in sequence[:n]]
    late = sum(i < max(firsts[:n], default=0) for n, i in enumerate(firsts))
    assert figures["missing"] == missing[:20]
    assert figures["lost"] == len(missing)
    assert figures["duplicates"] == len(sequence) - len(firsts)
    assert figures["reordered"] == late


def test_every_nth_push_is_treated_as_ordered() -> None:
    """0 means none; a crash wins over silence, silence over an error."""
    orders = Orders(error_every=2, ignore_every=4, mute_every=3, crash_every=8)
    verdicts = [orders.verdict(attempt) for attempt in range(1, 9)]
    take, error, mute = Verdict.TAKE, Verdict.ERROR, Verdict.MUTE
    assert verdicts == [take, error, mute, Verdict.IGNORE, take, error, take, Verdict.CRASH]
    assert {Orders().verdict(attempt) for attempt in range(1, 9)} == {take}
