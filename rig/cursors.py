"""
A cursor: the field of a payload that numbers the events of a topic. Pure.

Whole numbers compare as numbers, texts as texts. A text of nothing but digits is a number in quotes, as servers write those that
are too long for JavaScript: as a text "9" would come after "10", and every event from the tenth on would be taken for a repeat.
What is no whole number of 64 bits and no text of at most `LONGEST` characters is no cursor: such a payload counts as one without
the field.
"""

from collections.abc import Callable, Iterable
from functools import cmp_to_key
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

LONGEST = 128
"""Characters of a text that is a cursor."""

Cursor: TypeAlias = int | str
CursorOf: TypeAlias = Callable[[Any], Cursor | None]
"""Takes a payload (`msgspec.Raw` or bytes) and returns its cursor, None if it has none."""

_LEAF = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[str, Meta(min_length=1, max_length=LONGEST)] | None


def cursor_reader(path: str) -> CursorOf:
    """
    Return a function that reads the cursor of a payload, and decodes nothing else of it.

    Args:
        path: As in `payload.meta.id`.
    """
    names = path.split(".")[1:]
    leaf: Any = _LEAF
    for depth, name in reversed(list(enumerate(names))):
        fields = [("value", leaf, msgspec.field(name=name, default=None))]
        leaf = msgspec.defstruct(f"Cursor{depth}", fields, gc=False) | None
    decode, inner = msgspec.json.Decoder(leaf).decode, names[1:]

    def read(payload: Any) -> Cursor | None:
        if type(payload) is bytes:
            return None
        try:
            value: Any = decode(payload).value
            if inner:
                for _ in inner:
                    value = value.value
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
            return None
        return value  # type: ignore[no-any-return]

    return read


def is_after(one: Cursor, other: Cursor) -> bool:
    """Return True if an event with cursor `one` comes after one with `other`. One of the other kind does: numbering began anew."""
    if isinstance(one, int) and isinstance(other, int):
        return one > other
    if isinstance(one, str) and isinstance(other, str):
        if len(one) != len(other) and one.isdecimal() and other.isdecimal():
            return int(one) > int(other)
        return one > other
    return True


def in_order(cursors: Iterable[Cursor]) -> list[Cursor]:
    """Return cursors of one kind in the order of their events."""
    return sorted(cursors, key=cmp_to_key(_compare))


def _compare(one: Cursor, other: Cursor) -> int:
    return is_after(one, other) - is_after(other, one)
