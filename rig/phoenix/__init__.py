"""The Phoenix protocol without I/O: `Socket` and what it says."""

from rig.phoenix.channel import ChannelState
from rig.phoenix.link import SocketState
from rig.phoenix.push import Push
from rig.phoenix.socket import Socket

__all__ = ["ChannelState", "Push", "Socket", "SocketState"]
