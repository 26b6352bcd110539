"""What the replays share: a way to connect clients and to run a coroutine."""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from tests.conformance.raw_client import Dialler

pytest.register_assert_rewrite("tests.conformance.replay", "tests.conformance.js_replay")


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on uvloop."""
    return uvloop.run


@pytest.fixture
def dial() -> Iterator[Dialler]:
    """Connect byte-level clients."""
    with Dialler() as dialler:
        yield dialler
