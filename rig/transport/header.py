"""
The header of a frame from the server: what it says, and what it may not say.

A header is judged as soon as its bytes are there: a frame that may not be there is refused before its payload has come.

Source: RFC 6455 sections 5.1 (masking), 5.2 (base framing) and 5.5 (control frames).
"""

from typing import NamedTuple

from rig.errors import RemoteProtocolError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
LENGTH_IN_16_BITS = 126
LENGTH_IN_64_BITS = 127

_RESERVED = 0x70
_OPCODE = 0x0F
_MASKED = 0x80
_CONTROL = 0x8
_OPCODES = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_LARGEST_CONTROL_BYTES = 125
_LARGEST_IN_16_BITS = 0xFFFF
_LARGEST_IN_63_BITS = (1 << 63) - 1


class Header(NamedTuple):
    """
    What stands before a payload.

    Attributes:
        opcode: One of the six that RFC 6455 defines.
        fin: True if the frame is the last one of its message.
        size: Bytes of the header itself.
        length: Bytes of the payload.
    """

    opcode: int
    fin: bool
    size: int
    length: int


def read_header(data: bytes, pos: int) -> Header | None:
    """
    Read the header that begins at `pos`, or return None if its end has not come yet.

    Raises:
        RemoteProtocolError: If no server may send it.

    Source: RFC 6455 section 5.2.
    """
    header = data[pos : pos + 10]
    if len(header) < 2:
        return None
    opcode, fin, length = header[0] & _OPCODE, header[0] >= FIN, header[1]
    _check_kind(header[0])
    if length & _MASKED:
        raise RemoteProtocolError("a frame is masked, which only a client does")
    if opcode & _CONTROL and length > _LARGEST_CONTROL_BYTES:
        raise RemoteProtocolError("a control frame is larger than 125 bytes")
    if length < LENGTH_IN_16_BITS:
        return Header(opcode, fin, 2, length)
    size, shorter = (4, LENGTH_IN_16_BITS - 1) if length == LENGTH_IN_16_BITS else (10, _LARGEST_IN_16_BITS)
    if len(header) < size:
        return None
    length = int.from_bytes(header[2:size], "big")
    if length <= shorter:
        raise RemoteProtocolError("a frame's length is not written the shortest way")
    if length > _LARGEST_IN_63_BITS:
        raise RemoteProtocolError("a frame's length has its highest bit set")
    return Header(opcode, fin, size, length)


def _check_kind(first: int) -> None:
    if first & _RESERVED:
        raise RemoteProtocolError("a frame has reserved bits set, but no extension was agreed on")
    if first & _OPCODE not in _OPCODES:
        raise RemoteProtocolError(f"a frame has the opcode {first & _OPCODE}, which has no meaning")
    if first & _CONTROL and not first & FIN:
        raise RemoteProtocolError("a fragmented control frame")
