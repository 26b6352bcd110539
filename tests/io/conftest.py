"""What the tests of the io process share: a page of counters, and what was logged."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from rig.counters import IO_COUNTERS, IO_HISTOGRAMS, Page


@pytest.fixture
def page() -> Iterator[Page]:
    """Give the io process's counters, all zero."""
    page = Page.create(IO_COUNTERS, IO_HISTOGRAMS)
    yield page
    page.close()


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """Give the log lines."""
    with structlog.testing.capture_logs() as lines:
        yield lines
