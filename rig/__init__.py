"""
rig: a dependable Python worker for Phoenix Channels.

What an application imports: `App` and `Event` for handlers, `connect` for a client, and the errors.
"""

from typing import TYPE_CHECKING, Any

from rig.app import App, Event
from rig.errors import (
    ConnectError,
    ConnectionLost,
    JoinRefused,
    JoinTimeout,
    PushRefused,
    PushTimeout,
    RigError,
)

if TYPE_CHECKING:
    from rig.client import connect

__version__ = "0.1.0"

__all__ = [
    "App",
    "ConnectError",
    "ConnectionLost",
    "Event",
    "JoinRefused",
    "JoinTimeout",
    "PushRefused",
    "PushTimeout",
    "RigError",
    "__version__",
    "connect",
]


def __getattr__(name: str) -> Any:
    """Import the client only for those who use it: a worker does not."""
    if name == "connect":
        from rig.client import connect

        return connect
    raise AttributeError(f"module 'rig' has no attribute {name!r}")
