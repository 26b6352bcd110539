"""
rig: a dependable Python worker for Phoenix Channels.

What an application imports: `App`, `Event` and `State` for handlers and callbacks, `connect` and `Presence` for a client, and the
errors.
"""

from typing import TYPE_CHECKING, Any

from rig.app import App, Event, State
from rig.errors import (
    ConnectError,
    ConnectionLost,
    JoinRefused,
    JoinTimeout,
    PingTimeout,
    PushRefused,
    PushTimeout,
    RigError,
)

if TYPE_CHECKING:
    from rig.client.connect import connect
    from rig.client.presence import Presence

__version__ = "0.1.0"

__all__ = [
    "App",
    "ConnectError",
    "ConnectionLost",
    "Event",
    "JoinRefused",
    "JoinTimeout",
    "PingTimeout",
    "Presence",
    "PushRefused",
    "PushTimeout",
    "RigError",
    "State",
    "__version__",
    "connect",
]


def __getattr__(name: str) -> Any:
    """Import the client only for those who use it: a worker does not."""
    if name in ("connect", "Presence"):
        import rig.client

        return getattr(rig.client, name)
    raise AttributeError(f"module 'rig' has no attribute {name!r}")
