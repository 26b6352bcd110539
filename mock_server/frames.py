"""
WebSocket frames as bytes: what the server writes, and a parser for what a client sends.

The parser decides like Bandit, the server Phoenix uses: which mistakes close with 1002, which with 1007, 1008 or 1009.
Source: RFC 6455 section 5; Bandit, `Bandit.WebSocket.Frame`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

_KNOWN_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_COMPRESSED = 0x40
_FRAGMENTED_MESSAGE_BYTES = 8_000_000
_CONTROL_PAYLOAD_BYTES = 125


class CloseConnection(Exception):
    """What the client sent ends the connection; `code` is the close code of the answer."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"the connection closes with code {code}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message (fragments joined) or one control frame, unmasked."""

    opcode: int
    payload: bytes
    compressed: bool = False


def encode_frame(opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """Build a complete unmasked server frame."""
    first = 0x80 | opcode | (_COMPRESSED if compressed else 0)
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65_536:
        return bytes((first, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


def encode_close(code: int) -> bytes:
    """Build a close frame; Phoenix never gives a reason."""
    return encode_frame(CLOSE, code.to_bytes(2, "big"))


def split_frames(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and payload of each frame in a run of complete server frames, none of them compressed."""
    start = 0
    while start < len(frames):
        opcode, length, header = frames[start] & 0x0F, frames[start + 1], 2
        if length >= 126:
            header += 2 if length == 126 else 8
            length = int.from_bytes(frames[start + 2 : start + header], "big")
        payload_start = start + header
        start = payload_start + length
        yield opcode, frames[payload_start:start]


def close_answer(payload: bytes) -> int:
    """Return the code that answers a client's close frame, which is not the client's own."""
    if not payload:
        return 1000
    if len(payload) == 1:
        return 1002
    code = int.from_bytes(payload[:2], "big")
    accepted = 1000 <= code <= 1003 or 1007 <= code <= 1011 or code > 2999
    return 1000 if accepted else 1002


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR `payload` with the repeated four-byte `mask`."""
    length = len(payload)
    repeated = mask * (length // 4 + 1)
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated[:length], "little")).to_bytes(length, "little")


class FrameParser:
    """
    Turns the bytes of one connection into frames.

    Args:
        max_frame_bytes: A longer frame closes with 1009. Fragmented messages have a limit of their own, 8 MB.
        compression: Whether permessage-deflate was agreed, so that RSV1 is allowed.
    """

    def __init__(self, max_frame_bytes: int, *, compression: bool = False) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._compression = compression
        self._buffer = bytearray()
        self._needed = 2
        self._fragments = bytearray()
        self._fragments_opcode: int | None = None
        self._fragments_compressed = False

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """
        Return the next complete frame, or None until more bytes come.

        Raises:
            CloseConnection: If the client broke the protocol.
        """
        while len(self._buffer) >= self._needed:
            frame = self._parse()
            if frame is not None:
                return frame
        return None

    def _parse(self) -> Frame | None:
        """Parse one frame if it is complete; otherwise note how many bytes it needs."""
        buffer = self._buffer
        first, second = buffer[0], buffer[1]
        self._check_header(first, second)
        length, start = second & 0x7F, 2
        if length >= 126:
            width = 2 if length == 126 else 8
            start += width
            if len(buffer) < start:
                self._needed = start
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if length > self._max_frame_bytes:
            raise CloseConnection(1009)
        end = start + 4 + length
        if len(buffer) < end:
            self._needed = end
            return None
        payload = unmask(bytes(buffer[start + 4 : end]), bytes(buffer[start : start + 4]))
        del buffer[:end]
        self._needed = 2
        return self._assemble(first, payload)

    def _check_header(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        reserved = first & 0x70
        masked = second & 0x80
        control_broken = opcode >= CLOSE and (not first & 0x80 or second & 0x7F > _CONTROL_PAYLOAD_BYTES)
        reserved_broken = reserved and not (self._compression and reserved == _COMPRESSED and opcode in (TEXT, BINARY))
        if not masked or opcode not in _KNOWN_OPCODES or control_broken or reserved_broken:
            raise CloseConnection(1002)

    def _assemble(self, first: int, payload: bytes) -> Frame | None:
        """Join fragments; control frames may come between them."""
        opcode, final, compressed = first & 0x0F, bool(first & 0x80), bool(first & _COMPRESSED)
        if opcode >= CLOSE:
            return Frame(opcode, payload)
        if (opcode == CONTINUATION) != (self._fragments_opcode is not None):
            raise CloseConnection(1002)
        if opcode != CONTINUATION and final:
            return Frame(opcode, payload, compressed)
        if opcode == CONTINUATION and not final and not payload:
            raise CloseConnection(1008)
        return self._add_fragment(opcode, payload, final=final, compressed=compressed)

    def _add_fragment(self, opcode: int, payload: bytes, *, final: bool, compressed: bool) -> Frame | None:
        if opcode != CONTINUATION:
            self._fragments_opcode, self._fragments_compressed = opcode, compressed
        self._fragments += payload
        if len(self._fragments) > _FRAGMENTED_MESSAGE_BYTES:
            raise CloseConnection(1009)
        if not final:
            return None
        assert self._fragments_opcode is not None
        frame = Frame(self._fragments_opcode, bytes(self._fragments), self._fragments_compressed)
        self._fragments, self._fragments_opcode = bytearray(), None
        return frame
