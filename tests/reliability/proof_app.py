"""
The application of the proofs: what it handles it writes down, and tells the server by a push that must not be lost.

So each event is counted twice over: by the lines of the ledger (event → handler), and by what the server has received (event →
handler → outbox → server).
"""

import asyncio
import os
import time
from pathlib import Path

import msgspec

import rig

FOLDER = Path(os.environ["LEDGER"])
GATE = FOLDER / "gate"
TOPICS = int(os.environ.get("LEDGER_TOPICS", "8"))
WORK = float(os.environ.get("PROOF_WORK", "0"))
"""Seconds that an event takes."""
GATED = bool(os.environ.get("PROOF_GATED"))
"""Whether handlers wait for the gate."""

app = rig.App("proof")
app.join("room:live", *(f"history:{number}" for number in range(TOPICS)))
_fds: list[int] = []


class Tick(msgspec.Struct):
    """What is published."""

    id: int


def note(kind: str, topic: str, value: object) -> None:
    """Write one line, at once."""
    if not _fds:
        _fds.append(os.open(FOLDER / f"{time.monotonic_ns():020}-{os.getpid()}.life", os.O_CREAT | os.O_APPEND | os.O_WRONLY))
    os.write(_fds[0], msgspec.json.encode([kind, topic, value]) + b"\n")


@app.on("history:*", "tick", cursor="payload.id")
async def tick(event: rig.Event[Tick]) -> None:
    """Write it down, then tell the server; what is repeated has the same key."""
    while GATED and not GATE.exists():  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.005)
    if WORK:
        await asyncio.sleep(WORK)
    number, topic = event.payload.id, event.topic.partition(":")[2]
    note("tick", event.topic, number)
    while True:
        try:
            await rig.enqueue(f"ledger:{topic}", "seen", {"i": number - 1}, key=f"{topic}-{number}")
            return
        except rig.StoreFailed as exc:  # the disk is full: whoever must not lose anything waits
            note("refused", event.topic, str(exc))
            await asyncio.sleep(0.05)


@app.on("room:live", "live")
async def live(event: rig.Event) -> None:
    """Write down what is only counted."""
    note("live", event.topic, event.payload["i"])


@app.on_gap
async def gap(found: rig.Gap) -> None:
    """Write down what the server says of what was missed."""
    note("gap", found.topic, found.outcome)
