"""What all of these tests need."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stage import Play, play_in
from tests.stage import until as until_


@pytest.fixture
def until() -> Callable[..., Awaitable[Any]]:
    """Wait until something is so."""
    return until_


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run an async test on a stage, for so many seconds at most."""
    return play_in(tmp_path)
