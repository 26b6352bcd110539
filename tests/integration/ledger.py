"""
What the applications of these tests write: what they handle, in a file for each life of a worker.

Each line is one `os.write` to a file opened for appending, so that it is there as soon as it is written, even if the process
is killed in the next moment. The names of the files sort by when the life began. `tests.stage.Ledger` reads them.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(os.environ["LEDGER"])
GATE = FOLDER / "gate"
_fds: list[int] = []


def note(kind: str, topic: str, value: Any) -> None:
    """Write one line."""
    if not _fds:
        _fds.append(os.open(FOLDER / f"{time.monotonic_ns():020}-{os.getpid()}.life", os.O_CREAT | os.O_APPEND | os.O_WRONLY))
    os.write(_fds[0], msgspec.json.encode([kind, topic, value]) + b"\n")


async def gate() -> None:
    """Wait until the test opens it."""
    while not GATE.exists():  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.005)
