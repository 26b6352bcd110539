"""What tests of several packages need."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop


@pytest.fixture
def run() -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Give a function that runs a coroutine function on the loop that rig's processes use, for at most ten seconds."""

    def run(main: Callable[[], Awaitable[None]]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(10):
                await main()

        uvloop.run(limited())

    return run
