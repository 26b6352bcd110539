"""What the tests of the io process share: rings, a page of counters, and a loop to run on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvloop

from rig.counters import IO_COUNTERS, Page


@pytest.fixture
def page() -> Iterator[Page]:
    """Give the io process's counters, all zero."""
    page = Page.create(IO_COUNTERS)
    yield page
    page.close()


@pytest.fixture
def run() -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Give a function that runs a coroutine function on the loop that the io process uses, for at most ten seconds."""

    def run(main: Callable[[], Awaitable[None]]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(10):
                await main()

        uvloop.run(limited())

    return run
