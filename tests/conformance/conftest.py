"""What the replays share: a way to connect clients and to run a coroutine."""

import pytest

from tests.conformance.fixtures import dial, run

__all__ = ["dial", "run"]

pytest.register_assert_rewrite("tests.conformance.replay", "tests.conformance.js_replay")
