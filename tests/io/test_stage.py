"""A cursor arrives when every outlet has brought there what it had been given."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rig.io.stage import Stage
from rig.io.track import Track


def track(topic: str) -> Track:
    return Track(topic, None, [], lambda track, cursor: None)


A, B = track("a"), track("b")


def test_what_is_there_already_arrives_at_once() -> None:
    """Nothing waits where the outlets are done."""
    stage = Stage()
    stage.add(A, 1)

    assert stage.advance([3, 3], [3, 3]) == {A: 1}
    assert not stage
    assert stage.advance([3, 3], [3, 3]) == {}


def test_cursor_waits_for_the_slowest_outlet() -> None:
    """One outlet that is behind keeps it, whatever the others do, and what it is given afterwards does not."""
    stage = Stage()
    stage.add(A, 1)
    assert stage.advance([3, 3], [2, 3]) == {}
    assert stage.advance([9, 9], [2, 9]) == {}
    assert stage
    assert stage.advance([9, 9], [3, 3]) == {A: 1}


def test_newer_cursor_takes_the_place_of_the_one_that_waits() -> None:
    """What has not left yet is kept once for each topic; what has left arrives first."""
    stage = Stage()
    stage.add(A, 1)
    assert stage.advance([1], [0]) == {}
    stage.add(A, 2)
    stage.add(B, 5)
    stage.add(A, 3)
    assert stage.advance([4], [1]) == {A: 1}
    assert stage.advance([4], [4]) == {A: 3, B: 5}


def test_each_batch_arrives_by_itself() -> None:
    """A worker with much before it leaves traces of how far it is."""
    stage = Stage()
    for number in range(1, 4):
        stage.add(A, number)
        stage.seal([number])
    assert [stage.advance([3], [done]) for done in range(4)] == [{}, {A: 1}, {A: 2}, {A: 3}]


def test_what_waits_is_bounded() -> None:
    """Of very many batches the newest are joined: fewer cursors are kept, none arrives early, and the last one does."""
    stage = Stage()
    for number in range(1, 1001):
        stage.add(A, number)
        stage.seal([number])
    arrived = [found[A] for done in range(1001) if (found := stage.advance([1000], [done]))]
    assert arrived == [*range(1, 64), 1000]
    assert not stage

    for number in range(1, 11):
        for name in range(5_000):
            stage.add(track(f"{number}-{name}"), number)
        stage.seal([number])
    assert len(stage.advance([10], [9])) <= 20_000
    assert len(stage.advance([10], [10])) >= 30_000


steps = st.lists(st.tuples(st.sampled_from("gca"), st.integers(0, 2), st.integers(0, 5)), max_size=60)


@settings(deadline=None)
@given(steps=steps)
def test_cursor_never_arrives_before_its_events(steps: list[Any]) -> None:
    """Whatever order outlets get on in: what has arrived is complete, and in the end all has arrived."""
    stage, queued, done = Stage(), [0, 0, 0], [0, 0, 0]
    needed: dict[tuple[Track, Any], list[int]] = {}
    number, newest = 0, {}

    def check(arrived: Any) -> None:
        for item in arrived.items():
            assert all(d >= n for d, n in zip(done, needed[item], strict=True))
            reached[item[0]] = item[1]

    reached: dict[Track, Any] = {}
    for what, outlet, amount in steps:
        if what == "g":
            queued[outlet] += amount
            number += 1
            topic = (A, B)[amount % 2]
            stage.add(topic, number)
            newest[topic] = number
            needed[topic, number] = list(queued)
        elif what == "c":
            done[outlet] = min(done[outlet] + amount, queued[outlet])
        else:
            check(stage.advance(queued, done))
    done[:] = queued
    check(stage.advance(queued, done))

    assert reached == newest
    assert not stage
