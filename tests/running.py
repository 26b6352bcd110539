"""An async test on a loop of its own, and ways to wait in it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

PATIENCE = 10.0
"""Seconds after which a test has failed."""


def run(
    test: Callable[[], Awaitable[None]],
    *,
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    complaint: type[Exception] | None = None,
    patience: float = PATIENCE,
) -> None:
    """Run a test; it fails if a task is left, or the loop has more to complain of than one expected error, or it takes too long."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        await asyncio.wait_for(test(), patience)
        for _ in range(3):  # the loop closes generators in turns of its own
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    assert [type(context.get("exception")) for context in complaints] == ([] if complaint is None else [complaint]), complaints


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so that no event tells of."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.001)
