"""
Two transports that are connected to each other in memory: no sockets, no loop, no time.

What one side sends waits in the other side until `deliver` is called, so that a test decides when something arrives, and
what happens first. Everything else is as with a WebSocket: order, batches, pausing, one `transport_closed` for each side.
"""

from collections.abc import Sequence

from rig.phoenix.message import BinaryFrame
from rig.transport.base import Closed, TransportOwner
from rig.transport.close_codes import ABNORMAL, check_close_code
from rig.transport.reader import BATCH_BYTES, BATCH_FRAMES


class MemoryTransport:
    """
    One end of a pair, see `rig.transport.base.Transport`. Made by `pair`.

    Args:
        owner: Told what arrives; it may be replaced until the first frame is delivered.

    Attributes:
        sent: Every frame sent so far, in order.
        paused: True between `pause_reading` and `resume_reading`.
    """

    def __init__(self, owner: TransportOwner) -> None:
        self.owner = owner
        self.sent: list[bytes] = []
        self.paused = False
        self.peer: MemoryTransport
        self._arrived: list[bytes] = []
        self._arrived_close: Closed | None = None
        self._closing = False
        self._over = False
        self._bytes_received = 0

    @property
    def bytes_received(self) -> int:
        """Payload bytes handed to the owner so far."""
        return self._bytes_received

    @property
    def write_buffer_bytes(self) -> int:
        """Bytes sent that the peer has not been given yet."""
        return sum(map(len, self.peer._arrived))

    @property
    def is_open(self) -> bool:
        """True until either side has begun to close."""
        return not self._closing and not self._over

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue frames for the peer; after the close they are dropped."""
        if self.is_open:
            self.sent.extend(frames)
            self.peer._arrived.extend(frames)

    def pause_reading(self) -> None:
        """Leave what arrives where it is: `deliver` does nothing until reading is resumed."""
        self.paused = True

    def resume_reading(self) -> None:
        """Let `deliver` hand on again."""
        self.paused = False

    def close(self, code: int = 1000, reason: str = "") -> None:
        """
        Start the closing handshake: the peer learns of it behind all frames sent before, and answers with the same code.

        Raises:
            LocalProtocolError: If an endpoint may not send this code.
        """
        check_close_code(code)
        if self.is_open:
            self._closing = True
            self.peer._arrived_close = Closed(code, reason)

    def abort(self) -> None:
        """End the connection now: what is under way is lost on both sides, and both are told before this returns."""
        self._closing = True
        self._end(Closed(ABNORMAL, by_us=True))
        self.peer._end(Closed(ABNORMAL, by_us=self.peer._closing))

    def deliver(self) -> bool:
        """
        Hand on what has arrived, in batches of one kind, and then the peer's close: one socket read.

        While reading is paused nothing is read; if the owner pauses from within a batch, the rest of this read still
        comes, as it does with a WebSocket.

        Returns:
            True if the owner was told anything.
        """
        if self._over or self.paused:
            return False
        frames, self._arrived = self._arrived, []
        close, self._arrived_close = self._arrived_close, None
        told = bool(frames or close)
        while frames and not self._over:
            batch = _first_batch(frames)
            del frames[: len(batch)]
            self._hand_on(batch)
        if close is not None and not self._over:
            self._answer(close)
        return told

    def _hand_on(self, batch: list[bytes]) -> None:
        self._bytes_received += sum(map(len, batch))
        if isinstance(batch[0], BinaryFrame):
            self.owner.binary_received([bytes(frame) for frame in batch])
        else:
            self.owner.text_received(batch)

    def _answer(self, close: Closed) -> None:
        by_us = self._closing
        if not by_us:
            self._closing = True
            self.peer._arrived_close = Closed(close.code)
        self._end(Closed(close.code, close.reason, by_us))

    def _end(self, closed: Closed) -> None:
        if not self._over:
            self._over = True
            self.owner.transport_closed(closed)


def pair(a_owner: TransportOwner, b_owner: TransportOwner) -> tuple[MemoryTransport, MemoryTransport]:
    """
    Connect two owners, and return the transport of each.

    Args:
        a_owner: Told what the second transport sends.
        b_owner: Told what the first transport sends.
    """
    a, b = MemoryTransport(a_owner), MemoryTransport(b_owner)
    a.peer, b.peer = b, a
    return a, b


def deliver_all(*transports: MemoryTransport) -> None:
    """Deliver on all transports in turn until nothing is under way: owners may answer what they are told."""
    while any(transport.deliver() for transport in transports):
        pass


def _first_batch(frames: list[bytes]) -> list[bytes]:
    binary = isinstance(frames[0], BinaryFrame)
    size = 0
    for count, frame in enumerate(frames):
        size += len(frame)
        if count and (count == BATCH_FRAMES or size > BATCH_BYTES or isinstance(frame, BinaryFrame) is not binary):
            return frames[:count]
    return frames[:]
