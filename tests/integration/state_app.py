"""The application of `ledger_app`, which also writes down what it is told of its connection."""

import os

from ledger import note
from ledger_app import app

import rig

__all__ = ["app"]
if extra := os.environ.get("EXTRA_TOPIC"):
    app.join(extra)


@app.on_state
async def changed(state: rig.State) -> None:
    """Write it down."""
    note("state", state.connection, [state.state, state.previous, state.reason, state.topics])


@app.on_state
def broken(state: rig.State) -> None:
    """Raise, which must harm nobody."""
    raise RuntimeError("the pager is broken")
