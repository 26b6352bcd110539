"""What the proofs need: a stage, for long enough."""

from pathlib import Path

import pytest

from tests.stage import Play, play_in


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run an async test on a stage, for so many seconds at most."""
    return play_in(tmp_path)
