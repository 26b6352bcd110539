"""
Ways to move whole frames: a WebSocket, and a pair in memory for tests.

`dial` opens a WebSocket to an `Endpoint`; what it returns and whom it tells is the contract in `rig.transport.base`.
"""

from rig.phoenix.message import BinaryFrame
from rig.transport.base import Closed, Transport, TransportOwner
from rig.transport.endpoint import Endpoint
from rig.transport.upgrade import dial
from rig.transport.websocket import WebSocketTransport

__all__ = ["BinaryFrame", "Closed", "Endpoint", "Transport", "TransportOwner", "WebSocketTransport", "dial"]
