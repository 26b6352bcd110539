"""What all of these tests need."""

import random
from pathlib import Path

import pytest

from tests.stage import Play, play_in


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the jitter out of the delays of clients in this process."""
    monkeypatch.setattr(random, "random", lambda: 0.01)


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run an async test with real processes."""
    return play_in(tmp_path)
