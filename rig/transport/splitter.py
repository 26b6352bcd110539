"""
Cuts what a socket read brought into its frames: the usual ones in a fast lane, every other one by itself.

picows calls Python for every frame, and asking that frame for its opcode, FIN, RSV bits and end of the read costs more
than parsing it. But nearly all frames are alike: a whole message, text or binary, not masked, shorter than 64 KiB. Their
first two bytes say so in one comparison, and then only the length is left to add. So this protocol takes the place of
picows once the upgrade is done. It reads the unusual frames as well, for the reason that `rig.transport.gate` gives. What
must stay true:

- Nothing is looked at before the reader has taken what came before it, and nothing after the reader has stopped.
- A read takes no more than the buffer's size, so that no more than that is handed on after `pause_reading`.
- The fast lane judges nothing: a frame that is not usual in every bit goes the long way.

Source: RFC 6455 section 5.2 (base framing).
"""

import asyncio
import struct
from collections.abc import Callable
from typing import cast

from rig.errors import RemoteProtocolError
from rig.transport.close_codes import PROTOCOL_ERROR
from rig.transport.header import BINARY, FIN, LENGTH_IN_16_BITS, TEXT, Header, read_header
from rig.transport.reader import BATCH_BYTES, FrameReader

_TEXT = FIN | TEXT
_BINARY = FIN | BINARY
_first_four_bytes = struct.Struct(">HH").unpack_from


class FrameSplitter(asyncio.BufferedProtocol):
    """
    The protocol that a loop's transport gets once the upgrade is done.

    Args:
        before: The protocol until then, which is told of everything but data.
        reader: Takes the messages.
        buffer_bytes: Size of the read buffer, 256 KiB at most.

    Attributes:
        bytes_received: All bytes that the server has sent since its answer to the upgrade.
        lost_because: The reason that the loop gave for the end of the connection, if any.
    """

    def __init__(self, before: asyncio.BaseProtocol, reader: FrameReader, buffer_bytes: int) -> None:
        self.bytes_received = 0
        self.lost_because: Exception | None = None
        self._before = cast(asyncio.BufferedProtocol, before)
        self._reader = reader
        self._buffer = memoryview(bytearray(min(buffer_bytes, BATCH_BYTES)))
        self._kept_bytes = 0
        self._large: _LargeFrame | None = None
        self._early = b""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the loop is to write the next bytes."""
        if self._reader.stopped:
            return self._buffer
        return self._buffer[self._kept_bytes :] if self._large is None else self._large.room(len(self._buffer))

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that the loop has written."""
        self.bytes_received += nbytes
        if self._reader.stopped:
            return
        if self._large is not None:
            self._fill_large(self._large, nbytes)
            return
        data = bytes(self._buffer[: self._kept_bytes + nbytes])
        kept = data[self._take(data) :]
        self._buffer[: len(kept)] = kept
        self._kept_bytes = len(kept)

    def keep_early(self, data: bytes) -> None:
        """Keep what came in one segment with the answer to the upgrade, since nobody may hear of it yet."""
        self._early = data

    def take_early(self) -> None:
        """Take what was kept, as if it came now."""
        data, self._early = self._early, b""
        while data:
            room = self.get_buffer(len(data))
            part = data[: len(room)]
            room[: len(part)] = part
            self.buffer_updated(len(part))
            data = data[len(part) :]

    def eof_received(self) -> bool | None:
        """Pass on the end of the stream."""
        return self._before.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the end of the connection, and keep its reason, which picows drops."""
        self.lost_because = exc
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the write buffer is full."""
        self._before.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the write buffer has room again."""
        self._before.resume_writing()

    def _take(self, data: bytes) -> int:
        """Hand on all frames in `data`, and return where the first one begins that is not complete."""
        pos, end, reader = 0, len(data), self._reader
        while pos < end and not reader.stopped:
            first = data[pos]
            if first in (_TEXT, _BINARY):
                messages: list[bytes] = []
                pos = _cut_usual_frames(data, pos, first << 8, messages.append)
                if messages:
                    reader.messages_received(messages, binary=first == _BINARY)
                    continue
            try:
                header = read_header(data, pos)
            except RemoteProtocolError as exc:
                reader.violate(PROTOCOL_ERROR, str(exc))
                return end
            if header is None:
                return pos
            start = pos + header.size
            stop = start + header.length
            if stop <= end:
                reader.frame_received(header.opcode, data[start:stop], fin=header.fin)
                pos = stop
            elif stop - pos <= len(self._buffer):
                return pos
            else:
                self._begin_large(header, data[start:])
                return end
        return pos

    def _begin_large(self, header: Header, payload: bytes) -> None:
        self._reader.check_length(header.length)
        if not self._reader.stopped:
            self._large = _LargeFrame(header, payload)

    def _fill_large(self, large: "_LargeFrame", nbytes: int) -> None:
        large.have += nbytes
        if large.have == large.header.length:
            self._large = None
            self._reader.frame_received(large.header.opcode, bytes(large.payload), fin=large.header.fin)


class _LargeFrame:
    """A frame that does not fit into the read buffer: the loop writes right into its payload."""

    def __init__(self, header: Header, payload: bytes) -> None:
        self.header = header
        self.payload = bytearray(header.length)
        self.payload[: len(payload)] = payload
        self.have = len(payload)

    def room(self, limit: int) -> memoryview:
        return memoryview(self.payload)[self.have : self.have + limit]


def _cut_usual_frames(data: bytes, pos: int, kind: int, append: Callable[[bytes], None]) -> int:
    """Cut off frames as long as they are complete, unmasked, and begin with `kind`: this loop runs once per event."""
    end = len(data)
    last = end - 4
    short_end = kind + LENGTH_IN_16_BITS
    first_four_bytes = _first_four_bytes
    while pos <= last:
        head, length = first_four_bytes(data, pos)
        if head == short_end and length >= LENGTH_IN_16_BITS:
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
