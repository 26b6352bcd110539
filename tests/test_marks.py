"""Cursors in shared memory: whole at any moment, whoever is killed."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rig.marks
from rig.cursors import LONGEST
from rig.marks import LEAST_TOPICS, Marks
from tests.dying import die_at

cursors = st.integers(-(2**63), 2**63 - 1) | st.text(min_size=1, max_size=LONGEST)


@pytest.fixture
def marks() -> Iterator[Marks]:
    marks = Marks.create(2, 3)
    yield marks
    marks.close()


def successor(marks: Marks) -> Marks:
    """Map the same memory as another process does."""
    return Marks.attach(os.dup(marks.fd))


def place(marks: Marks, topic: str) -> int:
    found = marks.take_place(topic)
    assert found is not None
    return found


@settings(deadline=None)
@given(values=st.lists(cursors, min_size=1, max_size=6))
def test_successor_finds_the_newest_cursor(values: list[Any]) -> None:
    """Numbers and texts, in any order, of any length that a cursor has."""
    marks = Marks.create(1, 1)
    for value in values:
        marks.set(place(marks, "a"), value)
        other = successor(marks)
        assert other.get(place(other, "a")) == value
        other.close()
    marks.close()


def test_topics_have_places_of_their_own(marks: Marks) -> None:
    """A topic that nobody marked has none, one that was only joined has a place without a cursor."""
    marks.set(place(marks, "a"), 1)
    marks.set(place(marks, "b"), "x")
    place(marks, "joined")

    other = successor(marks)
    assert [other.get(place(other, topic)) for topic in ("a", "b", "joined")] == [1, "x", None]
    assert other.place("never") is None
    other.set(place(other, "new"), 9)
    assert other.get(place(other, "new")) == 9
    assert other.get(place(other, "a")) == 1
    other.close()


def test_topics_beyond_the_room_have_no_place(marks: Marks) -> None:
    """Nothing is overwritten; whoever asks is told."""
    for number in range(LEAST_TOPICS):
        assert marks.take_place(f"topic:{number}") == number
    assert marks.take_place("one more") is None
    assert marks.take_place("topic:7") == 7
    other = successor(marks)
    assert other.take_place("another") is None
    other.close()


def test_there_is_room_for_twice_the_topics_that_are_known() -> None:
    """Those that are joined later need some too."""
    marks = Marks.create(LEAST_TOPICS, 1)
    assert marks.topics == 2 * LEAST_TOPICS
    marks.close()


def test_lives_are_counted(marks: Marks) -> None:
    """A successor knows that it is one."""
    other = successor(marks)
    assert [marks.begin(), other.begin(), marks.begin()] == [0, 1, 2]
    other.close()


def test_positions_are_kept(marks: Marks) -> None:
    """Each outlet has one, and they touch nothing else."""
    marks.set(place(marks, "a"), 5)
    for worker in range(3):
        marks.positions[worker] = 1 << (40 + worker)
    other = successor(marks)
    assert other.positions.tolist() == [1 << 40, 1 << 41, 1 << 42]
    assert other.get(place(other, "a")) == 5
    other.close()


def test_memory_of_something_else_is_refused() -> None:
    """A descriptor that was mixed up is found at the start, and stays open."""
    fd = os.memfd_create("other")
    os.ftruncate(fd, 4096)
    with pytest.raises(ValueError, match="has no marks"):
        Marks.attach(fd)
    os.close(fd)


@settings(max_examples=200, deadline=None)
@given(first=cursors, second=cursors, line=st.integers(0, 14))
def test_writer_that_dies_between_two_stores_leaves_a_whole_cursor(first: Any, second: Any, line: int) -> None:
    """It is the one before or the one after, and the next writer goes on from there."""
    marks = Marks.create(1, 1)
    at = place(marks, "a")
    marks.set(at, first)
    died = die_at(line, lambda: marks.set(at, second), rig.marks)

    other = successor(marks)
    found = other.get(place(other, "a"))
    assert found in ((first, second) if died else (second,))
    other.set(place(other, "a"), "third")
    assert other.get(place(other, "a")) == "third"
    other.close()
    marks.close()


@pytest.mark.parametrize("line", range(10))
def test_writer_that_dies_while_it_takes_a_place_harms_no_other(marks: Marks, line: int) -> None:
    """The place is taken or free, and has no cursor in any case."""
    marks.set(place(marks, "a"), 1)
    die_at(line, lambda: marks.take_place("b"), rig.marks)

    other = successor(marks)
    assert other.get(place(other, "b")) is None
    other.set(place(other, "c"), 3)
    assert [other.get(place(other, topic)) for topic in ("a", "b", "c")] == [1, None, 3]
    other.close()


WRITER = """
import sys
from rig.marks import Marks
marks = Marks.attach(int(sys.argv[1]))
places = [marks.take_place(str(topic)) for topic in range(8)]
number = 0
print("go", flush=True)
while True:
    number += 1
    for topic, place in enumerate(places):
        text = str(number).zfill(12) * (1 + number % 9)
        marks.set(place, text if topic % 2 else number if number % 7 else text)
"""


def test_killed_writer_leaves_whole_cursors() -> None:
    """`kill -9` at any instruction: of each topic a cursor that was written as a whole, none more than one step behind another."""
    chance = random.Random(7)
    for _ in range(5):
        marks = Marks.create(8, 1)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(marks.fd)], pass_fds=[marks.fd], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(chance.random() * 0.02)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        other = successor(marks)
        numbers = []
        for topic in range(8):
            found = other.get(place(other, str(topic)))
            if found is not None:
                number = found if isinstance(found, int) else int(found[:12])
                assert found in (number, str(number).zfill(12) * (1 + number % 9))
                numbers.append(number)
        assert max(numbers, default=0) - min(numbers, default=0) <= 1
        other.close()
        marks.close()
