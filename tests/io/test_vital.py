"""Tasks that the io process is worth nothing without."""

import asyncio

import pytest
import structlog
import uvloop

from rig.io import vital


async def fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("a bug")


def test_an_error_ends_the_process() -> None:
    """The log says which part it was; the supervisor starts a successor."""

    async def main() -> None:
        vital.start(fail(), "storing")
        await asyncio.sleep(5)

    with structlog.testing.capture_logs() as logs, pytest.raises(SystemExit) as ended:
        uvloop.run(main())

    assert ended.value.code == 70
    assert [(entry["part"], entry["error"]) for entry in logs] == [("storing", "ValueError('a bug')")]


def test_the_end_and_a_cancellation_are_no_errors() -> None:
    """As at the end of every run."""

    async def main() -> str:
        done = vital.start(asyncio.sleep(0), "done")
        cancelled = vital.start(asyncio.sleep(60), "cancelled")
        await done
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        return "alive"

    assert uvloop.run(main()) == "alive"
