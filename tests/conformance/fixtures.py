"""Byte-level clients for the tests of the mock server and of the recordings, and a loop to run them on."""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from tests.conformance.raw_client import Dialler


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on uvloop."""
    return uvloop.run


@pytest.fixture
def dial() -> Iterator[Dialler]:
    """Connect byte-level clients."""
    with Dialler() as dialler:
        yield dialler
