"""What all of the client's tests need."""

import random

import pytest


@pytest.fixture(autouse=True)
def _reconnect_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the jitter out of the delays."""
    monkeypatch.setattr(random, "random", lambda: 0.01)
