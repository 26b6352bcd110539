"""What the tests of the supervisor share: the shared memory of a small run."""

from collections.abc import Iterator

import pytest

from rig.config import Settings
from rig.supervisor.memory import SharedMemory


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """Give the memory of a run with two io processes, and two workers of three lanes."""
    memory = SharedMemory(Settings(ring_bytes=512 * 1024, concurrency=3, io_processes=2), 2)
    yield memory
    memory.close()
