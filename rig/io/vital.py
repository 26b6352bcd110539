"""Tasks that the io process is worth nothing without: an error in one ends the process, and a successor starts afresh."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_EXIT_CODE = 70
"""EX_SOFTWARE. Source: sysexits.h."""

log = structlog.get_logger()


def start(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Run it; what it raises ends the process, since what waits for it would wait for ever. A cancellation is no error."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_end_if_failed)
    return task


def _end_if_failed(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a part of the io process failed unexpectedly, so it ends", part=task.get_name(), error=repr(error))
        raise SystemExit(_EXIT_CODE)
