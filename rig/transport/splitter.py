"""
The fast lane: cuts what a socket read brought into its frames, where they are usual ones.

picows calls Python for every frame, and asking that frame for its opcode, FIN, RSV bits and end of the read costs more
than parsing it. But nearly all frames are alike: a whole message, text or binary, not masked, shorter than 64 KiB. Their
first two bytes say so in one comparison, and then only the length is left to add. So this protocol stands between the
loop and picows, cuts the usual frames itself, and gives the bytes of every other frame to picows, one whole frame at a
time. What must stay true:

- picows sees each frame from its first byte to its last, or nothing of it.
- A read takes no more than the buffer's size, so that no more than that is handed on after `pause_reading`.
- Nothing is judged here: a frame that is not usual in every bit is left to picows and the `FrameReader`.

Source: RFC 6455 section 5.2 (base framing).
"""

import asyncio
import struct
from collections.abc import Callable
from typing import cast

from picows import WSTransport

from rig.transport.reader import BATCH_BYTES, FrameReader

_TEXT = 0x81  # FIN set, RSV clear
_BINARY = 0x82
_LENGTH_IN_16_BITS = 126
_LENGTH_IN_64_BITS = 127
_MASKED = 0x80
_MASK_BYTES = 4
_first_four_bytes = struct.Struct(">HH").unpack_from


class FrameSplitter(asyncio.BufferedProtocol):
    """
    The protocol that a loop's transport gets instead of that of picows.

    Args:
        transport: The transport of picows, just connected.
        reader: Takes the messages.
        buffer_bytes: Size of the read buffer, 256 KiB at most.

    Attributes:
        bytes_received: All bytes that went through here: not what came in one segment with the answer to the upgrade.
        lost_because: The reason that the loop gave for the end of the connection, if any.
    """

    def __init__(self, transport: WSTransport, reader: FrameReader, buffer_bytes: int) -> None:
        self.bytes_received = 0
        self.lost_because: Exception | None = None
        self._transport = transport
        self._reader = reader
        self._parser = cast(asyncio.BufferedProtocol, transport.underlying_transport.get_protocol())
        self._buffer = memoryview(bytearray(min(buffer_bytes, BATCH_BYTES)))
        self._kept_bytes = 0
        # How much of its frame picows still lacks. At first that is not known: it may hold the beginning of a frame that
        # came right behind the answer to the upgrade.
        self._parser_lacks: int | None = None
        self._first_room: memoryview

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the loop is to write the next bytes."""
        if self._parser_lacks is None and self._reader.take_parser_tail_bytes() == 0:
            self._parser_lacks = 0
        if self._parser_lacks == 0:
            return self._buffer[self._kept_bytes :]
        room = cast(memoryview, self._parser.get_buffer(sizehint))
        if self._parser_lacks is not None:
            return room[: self._parser_lacks]
        self._first_room = room[: len(room) * 3 // 4]  # picows doubles its buffer when a read has nearly filled it
        return self._first_room

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that the loop has written."""
        self.bytes_received += nbytes
        if self._parser_lacks is None:
            self._take_first(bytes(self._first_room[:nbytes]))
        elif self._parser_lacks:
            self._parser_lacks -= nbytes
            self._parser.buffer_updated(nbytes)
        elif not self._transport.is_close_frame_sent:  # picows sends one only where it cannot read on
            data = bytes(self._buffer[: self._kept_bytes + nbytes])
            kept = data[self._take(data) :]
            self._buffer[: len(kept)] = kept
            self._kept_bytes = len(kept)
        if self._transport.is_close_frame_sent:
            self._reader.parser_gave_up()

    def eof_received(self) -> bool | None:
        """Pass on the end of the stream."""
        return self._parser.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the end of the connection, and keep its reason, which picows drops."""
        self.lost_because = exc
        self._parser.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the write buffer is full."""
        self._parser.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the write buffer has room again."""
        self._parser.resume_writing()

    def _take_first(self, data: bytes) -> None:
        """Let picows read on after the upgrade, until it has come to the end of a frame and what it lacks is known."""
        self._parser.buffer_updated(len(data))
        behind = self._reader.take_parser_tail_bytes()
        if behind is not None:
            tail = data[len(data) - behind :]
            size = _frame_size(tail, 0) if tail else 0
            self._parser_lacks = None if size is None else size - len(tail)

    def _take(self, data: bytes) -> int:
        """Hand on all frames in `data`, and return where the first one begins that is not complete."""
        pos, end = 0, len(data)
        while pos < end and not self._transport.is_close_frame_sent:
            first = data[pos]
            if first in (_TEXT, _BINARY):
                messages: list[bytes] = []
                pos = _cut_usual_frames(data, pos, first << 8, messages.append)
                if messages:
                    self._reader.messages_received(messages, binary=first == _BINARY)
                    continue
            size = _frame_size(data, pos)
            if size is None or (first in (_TEXT, _BINARY) and end - pos < size <= len(self._buffer)):
                return pos
            self._give_to_parser(data[pos : pos + size], size)
            pos += size
        return min(pos, end)

    def _give_to_parser(self, data: bytes, size: int) -> None:
        self._parser_lacks = size - len(data)
        while data:
            room = cast(memoryview, self._parser.get_buffer(len(data)))
            part = data[: len(room)]
            room[: len(part)] = part
            self._parser.buffer_updated(len(part))
            data = data[len(part) :]


def _cut_usual_frames(data: bytes, pos: int, kind: int, append: Callable[[bytes], None]) -> int:
    """Cut off frames as long as they are complete, unmasked, and begin with `kind`: this loop runs once per event."""
    end = len(data)
    last = end - 4
    short_end = kind + _LENGTH_IN_16_BITS
    first_four_bytes = _first_four_bytes
    while pos <= last:
        head, length = first_four_bytes(data, pos)
        if head == short_end and length >= _LENGTH_IN_16_BITS:
            start = pos + 4
        elif kind <= head < short_end:
            start, length = pos + 2, head - kind
        else:
            return pos
        stop = start + length
        if stop > end:
            return pos
        append(data[start:stop])
        pos = stop
    return pos


def _frame_size(data: bytes, pos: int) -> int | None:
    """Read the size of the frame that begins at `pos`, header included, or None if its header is not complete."""
    header = data[pos : pos + 10]
    if len(header) < 2:
        return None
    length, mask = header[1] & ~_MASKED, _MASK_BYTES if header[1] & _MASKED else 0
    if length < _LENGTH_IN_16_BITS:
        return 2 + mask + length
    if length == _LENGTH_IN_16_BITS:
        return 4 + mask + int.from_bytes(header[2:4], "big") if len(header) >= 4 else None
    return 10 + mask + int.from_bytes(header[2:10], "big") if len(header) == 10 else None
