"""What the proofs need: a stage, for long enough, with a server that keeps what it has sent."""

from pathlib import Path
from typing import Any

import pytest

from mock_server.history import History
from tests.stage import Play, play_in

KEPT = 100_000
"""Events of a topic that the server can send again: a cursor resumes as long as they are there."""


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run an async test on a stage, for so many seconds at most."""
    play = play_in(tmp_path)

    def play_with_history(test: Any, *, seconds: float) -> None:
        play(test, seconds=seconds, history=History(keep=KEPT))

    return play_with_history
