"""What the tests of the ring share: a small ring, and a way to die between any two lines of its code."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

import rig.ring
from rig.ring import Consumer, Producer, RingMemory

_SOURCE = str(Path(rig.ring.__file__).parent)

DieAt = Callable[[int, Callable[[], object]], bool]
"""Run something, but die before a line of `rig.ring` (counted from 0); True if it died, False if it came to its end."""


class Ring(NamedTuple):
    """Both ends of one ring in this process."""

    memory: RingMemory
    producer: Producer
    consumer: Consumer


class Killed(BaseException):
    """Stands for SIGKILL: nothing in `rig.ring` catches it or cleans up after it."""


@pytest.fixture
def memory() -> Iterator[RingMemory]:
    """Give the smallest ring, without progress."""
    memory = RingMemory.create(64 * 1024)
    yield memory
    memory.close()


@pytest.fixture
def ring(memory: RingMemory) -> Ring:
    """Give the smallest ring and both its ends."""
    return Ring(memory, Producer(memory), Consumer(memory))


@pytest.fixture(scope="session")
def die_at() -> DieAt:
    """Give the function that lets code die at a line."""
    return _die_at


def _die_at(line: int, action: Callable[[], object]) -> bool:
    remaining = line

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal remaining
        if not frame.f_code.co_filename.startswith(_SOURCE):
            return None
        if event == "line":
            remaining -= 1
            if remaining < 0:
                raise Killed
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except Killed:
        return True
    finally:
        sys.settrace(before)
    return False
