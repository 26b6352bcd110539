"""Every frame is cut out whole and in order, however the stream is cut, and nothing is looked at too early."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.transport.splitter import FrameSplitter
from tests.transport.raw_server import BINARY, CLOSE, CONTINUATION, PING, TEXT, close, frame, text


class Reader:
    """Writes down which way a frame has come, and stops at a fault or a CLOSE."""

    def __init__(self):
        self.seen, self.faults, self.stopped, self.largest = [], [], False, 1 << 40

    def messages_received(self, messages, *, binary):
        self.seen.extend(("fast", BINARY if binary else TEXT, message, True) for message in messages)

    def frame_received(self, opcode, payload, *, fin):
        self.seen.append(("long", opcode, payload, fin))
        self.stopped = opcode == CLOSE

    def check_length(self, length):
        if length > self.largest:
            self.violate(1009, "too large")

    def violate(self, code, reason):
        self.faults.append((code, reason))
        self.stopped = True


def split(stream, cuts=(), *, buffer_bytes=262144, reader=None):
    """Send a stream through a splitter in pieces, and return what the reader got."""
    reader = reader or Reader()
    splitter = FrameSplitter(SimpleNamespace(), reader, buffer_bytes)
    start = 0
    for cut in [*sorted(cuts), len(stream)]:
        while start < cut:
            room = splitter.get_buffer(-1)
            assert 0 < len(room) <= buffer_bytes
            part = stream[start : min(cut, start + len(room))]
            room[: len(part)] = part
            splitter.buffer_updated(len(part))
            start += len(part)
    assert splitter.bytes_received == len(stream)
    return reader


sizes = st.sampled_from([0, 1, 2, 3, 10, 124, 125, 126, 127, 128, 300, 2000, 65535, 65536])
frames = st.lists(
    st.tuples(st.sampled_from([TEXT, TEXT, TEXT, BINARY, CONTINUATION, PING]), sizes, st.booleans()),
    max_size=12,
)


@settings(deadline=None)
@given(frames=frames, cuts=st.lists(st.integers(0, 5000)), buffer_bytes=st.sampled_from([300, 4096, 262144]))
def test_every_frame_arrives_once_whole_and_in_order(frames, cuts, buffer_bytes):
    """Whatever comes, in whatever pieces: no byte is lost or doubled, and no frame is changed."""
    expected, stream = [], b""
    for number, (opcode, size, fin) in enumerate(frames):
        fin = fin or opcode == PING
        payload = bytes([number]) * (min(size, 125) if opcode == PING else size)
        stream += frame(opcode, payload, fin=fin)
        expected.append((opcode, payload, fin))

    reader = split(stream, [cut for cut in cuts if cut < len(stream)], buffer_bytes=buffer_bytes)

    assert [seen[1:] for seen in reader.seen] == expected
    assert not reader.faults
    for way, opcode, payload, fin in reader.seen:
        assert way == "long" or (fin and opcode in (TEXT, BINARY) and len(payload) < 65536)


def test_usual_frames_take_the_fast_lane():
    """The fast lane is taken for all of a read but the odd one out."""
    stream = frame(TEXT, b"x" * 200) * 100 + frame(PING) + frame(TEXT, b"y" * 100) * 100

    reader = split(stream)

    assert [way for way, *_ in reader.seen] == ["fast"] * 100 + ["long"] + ["fast"] * 100


def test_what_stands_behind_a_close_is_not_looked_at():
    """A second CLOSE, a fault or a message behind a CLOSE is neither taken nor complained about."""
    for behind in (close(1001), frame(0x3), text(b"x" * 200), b"\xff" * 500, frame(TEXT, b"x" * 70_000)):
        reader = split(text(b"before") + close(1000) + behind, buffer_bytes=400)

        assert [opcode for _, opcode, *_ in reader.seen] == [TEXT, CLOSE]
        assert not reader.faults


def test_what_stands_behind_a_fault_is_not_looked_at():
    """The first fault is the one that is told, once, and what stood before it is taken."""
    reader = split(text(b"before") + frame(0x3) + close(1000) + frame(0xB))

    assert [opcode for _, opcode, *_ in reader.seen] == [TEXT]
    assert reader.faults == [(1002, "a frame has the opcode 3, which has no meaning")]


@pytest.mark.parametrize("size", [2, 10])
def test_a_header_is_judged_before_its_payload_has_come(size):
    """Nobody makes us wait for a payload that may not come."""
    bad = frame(0x3, b"x" * 70_000) if size == 2 else b"\x82\x7f" + (1 << 63).to_bytes(8, "big")

    assert split(bad[: size - 1]).faults == []
    assert [code for code, _ in split(bad[:size]).faults] == [1002]


def test_a_frame_that_is_too_large_is_refused_by_its_header():
    """A length alone does not make us set memory aside."""
    reader = Reader()
    reader.largest = 100_000

    split(frame(BINARY, b"x" * 100_000) + b"\x82\x7f" + (1 << 62).to_bytes(8, "big"), buffer_bytes=4096, reader=reader)

    assert [len(payload) for _, _, payload, _ in reader.seen] == [100_000]
    assert reader.faults == [(1009, "too large")]
