"""
The application of the tests of cursors: it writes down the number of each event, and each gap, in the order in which they come.

Its lines are those of `ledger_app`, for the same reasons.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec

import rig

FOLDER = Path(os.environ["LEDGER"])
TOPICS = int(os.environ.get("LEDGER_TOPICS", "8"))

app = rig.App("resume")
app.join(*(f"history:{number}" for number in range(TOPICS)), "room:plain", payload={"mine": "kept"})
_fds: list[int] = []


class Numbered(msgspec.Struct):
    """What the mock server makes of an event on `history:*`."""

    id: int


def note(kind: str, topic: str, value: Any) -> None:
    """Write one line."""
    if not _fds:
        _fds.append(os.open(FOLDER / f"{time.monotonic_ns():020}-{os.getpid()}.life", os.O_CREAT | os.O_APPEND | os.O_WRONLY))
    os.write(_fds[0], msgspec.json.encode([kind, topic, value]) + b"\n")


@app.on("history:*", "tick", cursor="payload.id")
async def tick(event: rig.Event[Numbered]) -> None:
    """Handle at once."""
    note("tick", event.topic, event.payload.id)


@app.on("history:*", "gated", cursor="payload.id")
async def gated(event: rig.Event[Numbered]) -> None:
    """Wait until the test opens the gate."""
    while not (FOLDER / "gate").exists():  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.005)
    note("tick", event.topic, event.payload.id)


@app.on("room:*", "tick")
async def plain(event: rig.Event) -> None:
    """Handle an event that nobody can send again."""
    note("plain", event.topic, event.payload)


@app.on_gap
async def told(gap: rig.Gap) -> None:
    """Write the gap down, and ask the server something, as a handler would for the state."""
    note("gap", gap.topic, [gap.outcome, gap.since, gap.confirmed, gap.missed, gap.reason])


@app.on_gap
def told_too(gap: rig.Gap) -> None:
    """Write it down from a thread."""
    note("gap too", gap.topic, gap.outcome)
