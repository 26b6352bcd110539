"""The bounded queue of what may be dropped."""

import sys
from typing import Any

import msgspec
import pytest

from rig.control import RouteSpec
from rig.io.held import MOST_BYTES, MOST_EVENTS, Held, HeldEvent
from rig.io.router import Router

ROUTER = Router(
    [
        RouteSpec("*", "price", "payload.id", "latest"),
        RouteSpec("*", "halt", "payload.id", "latest"),
        RouteSpec("*", "state", "topic", "latest"),
        RouteSpec("*", "old", "topic", "drop_oldest"),
    ],
    1,
)


def event(number: int, name: str, payload: Any, *, topic: str = "t") -> HeldEvent:
    raw = msgspec.Raw(msgspec.json.encode(payload))
    return HeldEvent(number, ROUTER.slot(topic, name, raw), raw, False, number)


def content(held: Held) -> list[tuple[int, Any]]:
    return [(one.number, msgspec.json.decode(one.payload)) for one in held]


def test_newer_event_of_a_key_takes_the_place_of_the_older() -> None:
    """The queue keeps its order, so that a key which changes all the time has its turn too."""
    held = Held()
    fresh = [held.add(event(n, "price", {"id": n % 2, "n": n})) for n in (1, 2, 3)]

    assert fresh == [True, True, False]
    assert content(held) == [(1, {"id": 1, "n": 3}), (2, {"id": 0, "n": 2})]
    assert held.dropped == {"latest": 1}


def test_routes_do_not_replace_each_other() -> None:
    """A price never takes the place of a halt, though both are of one key."""
    held = Held()
    for number, name in enumerate(("price", "halt", "price", "halt"), 1):
        held.add(event(number, name, {"id": 7, "n": number}))

    assert content(held) == [(3, {"id": 7, "n": 3}), (4, {"id": 7, "n": 4})]


@pytest.mark.parametrize("between", ["halt", "old", "outside"])
def test_newer_event_does_not_overtake_what_came_between(between: str) -> None:
    """Where something of the same key may have come in between, the newer one queues up behind it."""
    held = Held()
    held.add(event(1, "price", {"id": 7}))
    if between == "outside":
        held.note_other(2)
    else:
        held.add(event(2, between, {"id": 7}))

    assert held.add(event(3, "price", {"id": 7, "n": 3}))
    assert content(held)[-1] == (3, {"id": 7, "n": 3})
    assert 1 not in dict(content(held))


def test_topic_is_the_key_where_there_is_none() -> None:
    """By topic, the newest of each topic is kept."""
    held = Held()
    for number, topic in enumerate("abab", 1):
        held.add(event(number, "state", number, topic=topic))

    assert content(held) == [(1, 3), (2, 4)]


def test_oldest_is_dropped_beyond_the_limit() -> None:
    """By number of events, whatever their policy; each is counted by its own."""
    held = Held()
    held.add(event(1, "price", {"id": 0}))
    for number in range(2, MOST_EVENTS + 6):
        held.add(event(number, "old", number))

    assert len(held) == MOST_EVENTS
    assert held.first == 6
    assert held.dropped == {"latest": 1, "drop_oldest": 4}


@pytest.mark.parametrize("name", ["old", "price"])
def test_bytes_are_limited_too(name: str) -> None:
    """Large events are few, and a single one may be larger than the limit."""
    held = Held()
    for number in range(1, 20):
        held.add(event(number, name, {"id": number, "x": "x" * 100_000}))
        assert held.size_bytes <= MOST_BYTES
    held.add(event(20, name, {"id": 20, "x": "x" * MOST_BYTES}))

    assert [number for number, _ in content(held)] == [20]
    assert sum(held.dropped.values()) == 19


def test_growing_in_place_is_limited_as_well() -> None:
    """An event that takes the place of a smaller one may push out others."""
    held = Held()
    for number in (1, 2, 3):
        held.add(event(number, "price", {"id": number}))
    held.add(event(4, "price", {"id": 3, "x": "x" * MOST_BYTES}))

    assert [number for number, _ in content(held)] == [3]
    assert held.size_bytes > MOST_BYTES


def test_payload_does_not_keep_its_batch() -> None:
    """An event is held in memory of its own: else a few bytes would hold on to everything that came with them."""
    source = b'[{"id":1},"%b"]' % (b"x" * 1000)
    references = sys.getrefcount(source)
    batch = msgspec.json.decode(source, type=list[msgspec.Raw])
    assert sys.getrefcount(source) > references
    held = Held()
    held.add(HeldEvent(1, ROUTER.slot("t", "price", batch[0]), batch[0], False, 1))
    del batch

    assert sys.getrefcount(source) == references
    assert content(held) == [(1, {"id": 1})]


def test_pop_and_clear_leave_nothing() -> None:
    """What leaves is forgotten, sizes and keys included."""
    held = Held()
    for number in (1, 2, 3):
        held.add(event(number, "price", {"id": number}))
    assert held.pop().number == 1
    held.clear()

    assert (len(held), held.first, held.size_bytes, held._newest) == (0, None, 0, {})
    assert held.dropped == {"latest": 2}
