"""The field that numbers events: what can be a cursor, and which of two comes first."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.cursors import LONGEST, cursor_reader, in_order, is_after


@pytest.mark.parametrize(
    ("path", "payload", "cursor"),
    [
        ("payload.id", b'{"id":7,"more":[1,{"id":8}]}', 7),
        ("payload.id", b'{"id":-9223372036854775808}', -(2**63)),
        ("payload.id", b'{"id":"01HZX"}', "01HZX"),
        ("payload.meta.at.seq", b'{"meta":{"at":{"seq":9007199254740993}}}', 9007199254740993),
        ("payload.a b", '{"a b":"ä"}'.encode(), "ä"),
    ],
)
def test_cursor_is_read_where_the_path_leads(path: str, payload: bytes, cursor: Any) -> None:
    """A whole number or a text, at any depth, exact to the last digit."""
    assert cursor_reader(path)(msgspec.Raw(payload)) == cursor


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"id":null}',
        b'{"id":1.5}',
        b'{"id":true}',
        b'{"id":{"id":1}}',
        b'{"id":9223372036854775808}',
        b'{"id":""}',
        b'{"id":"\xff"}',
        b'{"id":"%b"}' % (b"x" * (LONGEST + 1)),
        b"[1]",
        b"1",
        b"not json",
    ],
)
def test_payload_without_a_cursor_has_none(payload: bytes) -> None:
    """Whatever is in the place of a number or a text counts as if it were not there, and so does one that cannot be kept."""
    assert cursor_reader("payload.id")(msgspec.Raw(payload)) is None
    assert cursor_reader("payload.deep.id")(msgspec.Raw(b'{"deep":%b}' % payload)) is None


def test_binary_payload_has_no_cursor() -> None:
    """Bytes are not looked into, even where they look like JSON."""
    assert cursor_reader("payload.id")(b'{"id":1}') is None


@pytest.mark.parametrize(
    ("one", "other", "after"),
    [(10, 9, True), (9, 10, False), (9, 9, False), ("b", "a", True), ("a", "a", False), ("10", "9", True), ("9", "10", False)],
)
def test_numbers_compare_as_numbers_and_texts_as_texts(one: Any, other: Any, after: bool) -> None:
    """A number in quotes is a number: else the tenth event would be taken for a repeat of the ninth."""
    assert is_after(one, other) is after


def test_cursor_of_the_other_kind_comes_after() -> None:
    """A server that changes from numbers to texts, or back, numbers anew, and its events are no repeats."""
    assert is_after("1", 5)
    assert is_after(1, "5")


@settings(deadline=None)
@given(st.lists(st.integers()) | st.lists(st.text(alphabet="ab", min_size=1)) | st.lists(st.integers(0).map(str)))
def test_in_order_is_the_order_of_is_after(cursors: list[Any]) -> None:
    """None that is returned comes after the next."""
    found = in_order(cursors)

    assert sorted(map(str, found)) == sorted(map(str, cursors))
    assert not any(is_after(one, other) for one, other in itertools.pairwise(found))
