"""
What every transport offers and what it tells its owner.

A transport moves whole frames. It knows nothing of Phoenix: a text frame is `bytes`, a binary frame is `BinaryFrame`. What
its owner hears as text is valid UTF-8: a transport that gets anything else ends the connection. Everything is synchronous
and happens on the loop's thread; only dialling awaits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rig.phoenix.message import BinaryFrame

__all__ = ["BinaryFrame", "Closed", "Transport", "TransportOwner"]


@dataclass(frozen=True, slots=True)
class Closed:
    """
    How a connection ended.

    Attributes:
        code: The close code received (1000 to 4999), 1005 if the CLOSE frame carried none, 1006 if no CLOSE frame came.
        reason: The reason that came with it, often empty.
        by_us: True if `close` or `abort` was called first.
    """

    code: int
    reason: str = ""
    by_us: bool = False


class TransportOwner(Protocol):
    """What a transport calls. `transport_closed` comes exactly once, and is the last call."""

    def text_received(self, frames: list[bytes]) -> None:
        """Take the text frames of one socket read, in order, at most 512 or 256 KiB of them, never none, each valid UTF-8."""

    def binary_received(self, frames: list[bytes]) -> None:
        """Take consecutive binary frames of one socket read, in order relative to `text_received`."""

    def frames_rejected(self, count: int, reason: str) -> None:
        """Note frames that were dropped because they were larger than the limit."""

    def transport_closed(self, closed: Closed) -> None:
        """Note that the connection is gone."""


class Transport(Protocol):
    """An open connection."""

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue frames in order. After the close they are dropped: the owner learns of it by `transport_closed`."""

    def pause_reading(self) -> None:
        """Stop reading from the socket, so that TCP pushes back; what was read already is still handed on."""

    def resume_reading(self) -> None:
        """Read again."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake, and cut the connection if it is not over within the close time-out."""

    def abort(self) -> None:
        """Cut the connection now."""

    @property
    def bytes_received(self) -> int:
        """Bytes received since the connection opened, headers included: any growth is a sign of life."""

    @property
    def write_buffer_bytes(self) -> int:
        """Bytes that wait to be written."""
