"""The parser and the builder of WebSocket frames."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_server.frames import BINARY, TEXT, CloseConnection, FrameParser, close_answer, encode_frame
from mock_server.frames import Frame as ServerFrame


@settings(deadline=None)
@given(payloads=st.lists(st.binary(max_size=300), max_size=8), step=st.integers(1, 50))
def test_frames_survive_any_split_of_the_stream(payloads: list[bytes], step: int) -> None:
    """It does not matter how TCP cuts the bytes of a client."""
    stream = b"".join(masked(TEXT, payload) for payload in payloads)
    parser = FrameParser(1_000)
    came = []
    for start in range(0, len(stream), step):
        parser.feed(stream[start : start + step])
        while (frame := parser.next_frame()) is not None:
            came.append(frame.payload)
    assert came == payloads


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_server_frame_is_readable_at_every_width_of_length(size: int) -> None:
    """The three ways to write a length meet at their borders."""
    frame = encode_frame(BINARY, b"x" * size)
    widths = {True: (2, 0)}.get(size < 126) or ((4, 126) if size < 65_536 else (10, 127))
    assert len(frame) == size + widths[0]
    assert frame[1] == (widths[1] or size)


def test_too_long_frame_is_refused_by_its_header() -> None:
    """A server does not wait for gigabytes before it says no."""
    parser = FrameParser(100)
    parser.feed(masked(TEXT, b"x" * 101)[:8])
    with pytest.raises(CloseConnection) as refusal:
        parser.next_frame()
    assert refusal.value.code == 1009


def test_empty_fragment_in_the_middle_is_a_violation() -> None:
    """Endless empty continuations would keep a server busy for nothing."""
    parser = FrameParser(100)
    parser.feed(masked(TEXT, b"a", fin=False) + masked(0, b"", fin=False))
    with pytest.raises(CloseConnection) as refusal:
        parser.next_frame()
    assert refusal.value.code == 1008


def test_fragments_become_one_message() -> None:
    """A message may come in pieces."""
    parser = FrameParser(100)
    parser.feed(masked(TEXT, b"a", fin=False) + masked(0, b"b", fin=False) + masked(0, b"c"))
    assert parser.next_frame() == ServerFrame(TEXT, b"abc")
    assert parser.next_frame() is None


@pytest.mark.parametrize(("code", "answer"), [(1000, 1000), (1003, 1000), (1004, 1002), (1006, 1002), (1012, 1002), (3000, 1000)])
def test_close_is_answered_by_its_kind(code: int, answer: int) -> None:
    """The server does not echo the client's code."""
    assert close_answer(code.to_bytes(2, "big")) == answer


def masked(opcode: int, payload: bytes, **options: Any) -> bytes:
    first = (0x80 if options.get("fin", True) else 0) | opcode
    length = len(payload)
    header = bytes((first, 0x80 | length)) if length < 126 else bytes((first, 0x80 | 126)) + length.to_bytes(2, "big")
    mask = b"\x11\x22\x33\x44"
    return header + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
