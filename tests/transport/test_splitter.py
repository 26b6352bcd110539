"""The fast lane takes every usual frame, gives picows every other one whole, and keeps the order, however the stream is cut."""

import struct
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from rig.transport.splitter import FrameSplitter
from tests.transport.raw_server import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame


class Parser:
    """Stands for picows: has a small buffer, and knows from a header where its frame ends."""

    def __init__(self, seen):
        self.seen, self.room, self.frame = seen, memoryview(bytearray(64)), b""

    def get_buffer(self, sizehint):
        return self.room

    def buffer_updated(self, nbytes):
        self.frame += bytes(self.room[:nbytes])
        if len(self.frame) == size_of(self.frame):
            self.seen.append(("parser", self.frame))
            self.frame = b""


def size_of(data):
    """Read the size of an unmasked frame, or 0 if its header is not complete."""
    length = data[1] if len(data) > 1 else 0
    if length == 126:
        return 4 + struct.unpack_from(">H", data, 2)[0] if len(data) >= 4 else 0
    return 10 + struct.unpack_from(">Q", data, 2)[0] if length == 127 and len(data) >= 10 else 2 + length if length < 126 else 0


def split(stream, cuts, *, buffer_bytes):
    """Send a stream through a splitter in pieces, and return what the reader and the parser got, in order."""
    seen = []
    reader = SimpleNamespace(
        messages_received=lambda messages, binary: seen.extend(("binary" if binary else "text", message) for message in messages),
        take_parser_tail_bytes=lambda: 0,
    )
    underlying = SimpleNamespace(get_protocol=lambda: Parser(seen))
    splitter = FrameSplitter(SimpleNamespace(underlying_transport=underlying, is_close_frame_sent=False), reader, buffer_bytes)
    start = 0
    for cut in [*sorted(cuts), len(stream)]:
        while start < cut:
            room = splitter.get_buffer(-1)
            assert len(room) > 0
            part = stream[start : min(cut, start + len(room))]
            room[: len(part)] = part
            splitter.buffer_updated(len(part))
            start += len(part)
    assert splitter.bytes_received == len(stream)
    return seen


sizes = st.sampled_from([0, 1, 2, 3, 10, 124, 125, 126, 127, 128, 300, 2000, 65535, 65536])
frames = st.lists(
    st.tuples(
        st.sampled_from([TEXT, TEXT, TEXT, BINARY, CONTINUATION, CLOSE, PING]), sizes, st.booleans(), st.sampled_from([0, 0, 0, 4])
    ),
    max_size=12,
)


@given(frames=frames, cuts=st.lists(st.integers(0, 5000)), buffer_bytes=st.sampled_from([300, 4096, 262144]))
def test_every_frame_arrives_once_whole_and_in_order(frames, cuts, buffer_bytes):
    """Whatever comes, in whatever pieces: no byte is lost, doubled or seen by the wrong one."""
    expected, stream = [], b""
    for number, (opcode, size, fin, rsv) in enumerate(frames):
        payload = bytes([number]) * (min(size, 125) if opcode in (CLOSE, PING) else size)
        encoded = frame(opcode, payload, fin=fin, rsv=rsv)
        stream += encoded
        expected.append((encoded, payload))
    seen = split(stream, [cut for cut in cuts if cut < len(stream)], buffer_bytes=buffer_bytes)

    assert len(seen) == len(expected)
    for (lane, got), (encoded, payload) in zip(seen, expected, strict=True):
        usual = encoded[0] in (0x80 | TEXT, 0x80 | BINARY)
        if lane == "parser":
            assert got == encoded
            assert not usual or len(encoded) < 4 or len(encoded) > min(buffer_bytes, 65535)
        else:
            assert (lane, got) == ("text" if encoded[0] == 0x81 else "binary", payload)
            assert usual


def test_usual_frames_do_not_cost_a_call_of_the_parser():
    """The fast lane is taken for all of a read but the odd one out."""
    stream = frame(TEXT, b"x" * 200) * 100 + frame(PING) + frame(TEXT, b"y" * 100) * 100

    seen = split(stream, [], buffer_bytes=262144)

    assert [lane for lane, _ in seen] == ["text"] * 100 + ["parser"] + ["text"] * 100


def test_a_length_that_is_not_written_the_shortest_way_is_left_to_the_parser():
    """The fast lane judges nothing: picows refuses such a frame."""
    assert split(b"\x81\x7e\x00\x05hello", [], buffer_bytes=262144) == [("parser", b"\x81\x7e\x00\x05hello")]
