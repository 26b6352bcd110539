"""What the tests of the ring share: a small ring, and a way to die between any two lines of its code."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from rig.ring import Consumer, Producer, RingMemory, consumer, doorbell, layout, producer, progress
from tests import dying

_MODULES = (consumer, doorbell, layout, producer, progress)

DieAt = Callable[[int, Callable[[], object]], bool]
"""Run something, but die before a line of `rig.ring` (counted from 0); True if it died, False if it came to its end."""


class Ring(NamedTuple):
    """Both ends of one ring in this process."""

    memory: RingMemory
    producer: Producer
    consumer: Consumer


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
    return lambda line, action: dying.die_at(line, action, *_MODULES)
