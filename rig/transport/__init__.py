"""
Ways to move whole frames: a WebSocket, long-poll over plain HTTP, and a pair in memory for tests.

`dial` opens a WebSocket to an `Endpoint`, `longpoll.dial_longpoll` a long-poll session, and `TransportChoice` takes whichever
gets through; what they return and whom that tells is the contract in `rig.transport.base`.
"""

from rig.phoenix.message import BinaryFrame
from rig.transport.base import Closed, Transport, TransportOwner
from rig.transport.choice import TransportChoice
from rig.transport.endpoint import Endpoint
from rig.transport.upgrade import dial
from rig.transport.websocket import WebSocketTransport

__all__ = [
    "BinaryFrame",
    "Closed",
    "Endpoint",
    "Transport",
    "TransportChoice",
    "TransportOwner",
    "WebSocketTransport",
    "dial",
]
