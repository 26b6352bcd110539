"""What the user's application consists of, found out in a short-lived child: the supervisor never imports it."""

import asyncio
import contextlib

import msgspec

from rig.config import Settings
from rig.control import Described, DescribeSpec, Failed
from rig.errors import AppError
from rig.supervisor.child import spawn
from rig.worker.describe import Description

_LEAVING = 2.0
"""Seconds that the child has to end after its last word; threads that the application started may keep it."""


async def describe(settings: Settings) -> Description:
    """
    Return the application's handlers and topics.

    Raises:
        AppError: If it cannot be imported, or does not fit.
    """
    process, control = await spawn("rig.worker", ())
    try:
        control.send(DescribeSpec(settings))
        answer = await control.receive()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVING):
                await process.wait()
    finally:
        control.close()
        code = await _end(process)
    match answer:
        case Described(description=description):
            return msgspec.json.decode(description, type=Description)
        case Failed(reason=reason):
            raise AppError(reason)
        case _:
            raise AppError(f"importing {settings.target} ended its process with exit code {code}: see what it printed above")


async def _end(process: asyncio.subprocess.Process) -> int:
    """Kill a process that is still there, and return its exit code."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return await process.wait()
