"""
From messages to masked frames, and on to the socket.

picows takes its masking keys from `rand()`, which is never seeded: every process sends the same keys in the same order.
Here each frame gets four bytes of the system's randomness, so that nobody who chooses a payload can choose what is on the
wire, as RFC 6455 asks. What must stay true:

- The frames of one call are written in one piece, in order, and behind everything that waits already.
- After the transport has begun to close nothing is written: its descriptor may soon be another one's.

Source: RFC 6455 sections 5.1, 5.2, 5.3 (masking) and 10.3 (attacks on infrastructure).
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress

from rig.transport.header import FIN, LENGTH_IN_16_BITS, LENGTH_IN_64_BITS

_MASKED = 0x80
_KEY_BYTES = 4
_BLOCK_BYTES = 4096


class FrameWriter:
    """
    Writes frames to one connection.

    Args:
        transport: The loop's transport, after the upgrade.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._fd: int | None = None
        if transport.get_extra_info("ssl_object") is None:
            self._fd = transport.get_extra_info("socket").fileno()

    def write(self, frames: Sequence[tuple[int, bytes]]) -> None:
        """
        Send frames, each a whole message or a control frame, given as opcode and payload.

        Where nothing waits they go to the kernel at once: the loop would do it only at the end of its turn.
        """
        if self._transport.is_closing():
            return
        data = encode_frames(frames)
        if self._fd is not None and not self._transport.get_write_buffer_size():
            with suppress(OSError):  # the kernel's buffer is full, or the connection broken: the loop waits, or tells
                data = data[os.write(self._fd, data) :]
        if data:
            self._transport.write(data)


def encode_frames(frames: Sequence[tuple[int, bytes]]) -> bytes:
    """
    Return frames as a client sends them, each with a fresh key.

    Source: RFC 6455 sections 5.2 and 5.3.
    """
    keys = os.urandom(_KEY_BYTES * len(frames))
    pieces = []
    for number, (opcode, payload) in enumerate(frames):
        key = keys[_KEY_BYTES * number : _KEY_BYTES * (number + 1)]
        pieces.append(_header(opcode, len(payload)) + key)
        pieces.append(_masked(payload, key))
    return b"".join(pieces)


def _header(opcode: int, length: int) -> bytes:
    if length < LENGTH_IN_16_BITS:
        return bytes((FIN | opcode, _MASKED | length))
    if length < 1 << 16:
        return bytes((FIN | opcode, _MASKED | LENGTH_IN_16_BITS)) + length.to_bytes(2, "big")
    return bytes((FIN | opcode, _MASKED | LENGTH_IN_64_BITS)) + length.to_bytes(8, "big")


def _masked(payload: bytes, key: bytes) -> bytes:
    # As large numbers: the only way to XOR in Python that does not go byte by byte. In blocks, because a number that does
    # not fit into the processor's cache takes more than twice the time.
    if len(payload) <= _BLOCK_BYTES:
        return _xor(payload, (key * (len(payload) // _KEY_BYTES + 1))[: len(payload)])
    stream = key * (_BLOCK_BYTES // _KEY_BYTES)
    blocks = (payload[start : start + _BLOCK_BYTES] for start in range(0, len(payload), _BLOCK_BYTES))
    return b"".join(_xor(block, stream[: len(block)]) for block in blocks)


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")
