"""What the tests of the io process share: rings, a page of counters, and a loop to run on."""

from collections.abc import Iterator

import pytest

from rig.counters import IO_COUNTERS, IO_HISTOGRAMS, Page


@pytest.fixture
def page() -> Iterator[Page]:
    """Give the io process's counters, all zero."""
    page = Page.create(IO_COUNTERS, IO_HISTOGRAMS)
    yield page
    page.close()
