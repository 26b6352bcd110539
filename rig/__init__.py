"""
rig: a dependable Python worker for Phoenix Channels.

What an application imports: `App`, `Event`, `Gap` and `State` for handlers and callbacks, `enqueue` for pushes that must not be
lost, `connect` and `Presence` for a client, and the errors.
"""

from typing import TYPE_CHECKING, Any

from rig.app import App, Event, State
from rig.errors import (
    ConnectError,
    ConnectionLost,
    JoinRefused,
    JoinTimeout,
    LocalProtocolError,
    OutboxFull,
    PingTimeout,
    PushRefused,
    PushTimeout,
    RigError,
    StoreFailed,
)
from rig.gap import Gap

if TYPE_CHECKING:
    from rig.client.connect import connect
    from rig.client.presence import Presence
    from rig.durable import enqueue

__version__ = "0.1.0"

__all__ = [
    "App",
    "ConnectError",
    "ConnectionLost",
    "Event",
    "Gap",
    "JoinRefused",
    "JoinTimeout",
    "LocalProtocolError",
    "OutboxFull",
    "PingTimeout",
    "Presence",
    "PushRefused",
    "PushTimeout",
    "RigError",
    "State",
    "StoreFailed",
    "__version__",
    "connect",
    "enqueue",
]


def __getattr__(name: str) -> Any:
    """Import the client, and the loop, only for those who use them: a command that prints its help does not."""
    if name in ("connect", "Presence"):
        import rig.client

        return getattr(rig.client, name)
    if name == "enqueue":
        from rig.durable import enqueue

        return enqueue
    raise AttributeError(f"module 'rig' has no attribute {name!r}")
