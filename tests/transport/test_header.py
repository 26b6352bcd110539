"""The header of a frame: every length that may be written, and every bit that may not be set."""

import pytest

from rig.errors import RemoteProtocolError
from rig.transport.header import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Header, read_header
from tests.transport.raw_server import frame


@pytest.mark.parametrize(("length", "size"), [(0, 2), (125, 2), (126, 4), (127, 4), (65535, 4), (65536, 10)])
@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
def test_every_length_is_read_once_its_header_is_whole(opcode, fin, length, size):
    """The three ways to write a length, each at its borders, behind other bytes."""
    data = b"zzz" + frame(opcode, b"x" * length, fin=fin)

    assert read_header(data, 3) == Header(opcode, fin, size, length)
    assert [read_header(data[: 3 + cut], 3) for cut in range(size)] == [None] * size


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_control_frame_holds_up_to_125_bytes(opcode):
    """A control frame has a short header, and is never a fragment."""
    assert read_header(frame(opcode, b"x" * 125), 0) == Header(opcode, True, 2, 125)
    for bad in (frame(opcode, b"x" * 126), frame(opcode, b"x" * 70_000), frame(opcode, fin=False)):
        with pytest.raises(RemoteProtocolError, match="control frame"):
            read_header(bad[:2], 0)


@pytest.mark.parametrize("opcode", [*range(0x3, 0x8), *range(0xB, 0x10)])
def test_an_opcode_without_meaning_is_refused(opcode):
    """Only six of the sixteen opcodes are defined."""
    with pytest.raises(RemoteProtocolError, match=f"opcode {opcode},"):
        read_header(frame(opcode), 0)


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
def test_a_reserved_bit_is_refused(opcode, rsv):
    """We offer no extension, so none of the three bits has a meaning."""
    with pytest.raises(RemoteProtocolError, match="reserved bits"):
        read_header(frame(opcode, rsv=rsv), 0)


@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
def test_a_masked_frame_is_refused(opcode):
    """Only a client masks."""
    with pytest.raises(RemoteProtocolError, match="masked"):
        read_header(frame(opcode, b"x", masked=True), 0)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"\x81\x7e" + (125).to_bytes(2, "big"), "shortest"),
        (b"\x81\x7f" + (125).to_bytes(8, "big"), "shortest"),
        (b"\x81\x7f" + (65535).to_bytes(8, "big"), "shortest"),
        (b"\x81\x7f" + (1 << 63).to_bytes(8, "big"), "highest bit"),
    ],
)
def test_a_length_is_written_the_shortest_way_and_in_63_bits(header, why):
    """There is one way to write a length."""
    with pytest.raises(RemoteProtocolError, match=why):
        read_header(header, 0)
    assert read_header(b"\x81\x7f" + ((1 << 63) - 1).to_bytes(8, "big"), 0) == Header(TEXT, True, 10, (1 << 63) - 1)
