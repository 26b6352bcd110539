"""The application of the tests of cursors: it writes down each event's number, and each gap, in the order in which they come."""

import os

import msgspec
from ledger import gate, note

import rig

TOPICS = int(os.environ.get("LEDGER_TOPICS", "8"))

app = rig.App("resume")
app.join(*(f"history:{number}" for number in range(TOPICS)), "room:plain", payload={"mine": "kept"})


class Numbered(msgspec.Struct):
    """What the mock server makes of an event on `history:*`."""

    id: int


@app.on("history:*", "tick", cursor="payload.id")
async def tick(event: rig.Event[Numbered]) -> None:
    """Handle at once."""
    note("tick", event.topic, event.payload.id)


@app.on("history:*", "gated", cursor="payload.id")
async def gated(event: rig.Event[Numbered]) -> None:
    """Wait until the test opens the gate."""
    await gate()
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
