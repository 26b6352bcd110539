"""
From frames to whole messages, in order, with everything that RFC 6455 asks of a receiver.

Frames come from the `FrameSplitter`: those that are usual as lists of messages, every other one by itself. What must stay
true:

- Messages are handed on in order, text and binary alike, and those before a fault or a CLOSE are handed on before it.
- A text message that is handed on is UTF-8: nobody behind the transport needs to look again.
- After a CLOSE or a fault nothing more is taken.

Source: RFC 6455 sections 5.4 (fragmentation), 5.5 (control frames), 7.1.7 (failing a connection), 7.4 (close codes) and
8.1 (invalid UTF-8).
"""

from codecs import getincrementaldecoder
from itertools import takewhile
from typing import Protocol

from picows import WSListener, WSTransport

from rig.transport.close_codes import CODE_MISSING, INVALID_TEXT, ON_THE_WIRE, PROTOCOL_ERROR, TOO_LARGE
from rig.transport.header import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

BATCH_FRAMES = 512
BATCH_BYTES = 256 * 1024
LARGEST_USUAL_BYTES = 0xFFFF  # what a frame holds whose length is written in 16 bits
# Beyond this multiple of the message limit a frame is not even read to its end: the connection is closed with 1009.
HARD_LIMIT_FACTOR = 16

_Utf8Decoder = getincrementaldecoder("utf-8")


class ReaderOwner(Protocol):
    """What a reader calls."""

    def opened(self, transport: WSTransport) -> None:
        """Take the transport of picows, before any message."""

    def batch_received(self, messages: list[bytes], *, binary: bool) -> None:
        """Take the next messages of one kind, at most 512 or 256 KiB of them."""

    def messages_rejected(self, count: int, reason: str) -> None:
        """Note messages that were dropped because of their size."""

    def ping_received(self, payload: bytes) -> None:
        """Answer a PING."""

    def writing_paused(self) -> None:
        """Note that the write buffer is full."""

    def writing_resumed(self) -> None:
        """Note that the write buffer has room again."""

    def close_received(self, code: int, reason: str) -> None:
        """Note the peer's CLOSE, with 1005 if it carried no code. Only `lost` comes after."""

    def violated(self, code: int, reason: str) -> None:
        """Note that the peer broke the protocol, and with which code to close. Only `lost` comes after."""

    def lost(self) -> None:
        """Note that the socket is gone."""


class FrameReader(WSListener):
    """
    The listener of one connection.

    Args:
        owner: Told what arrives.
        max_message_bytes: Limit of one message, all its fragments together; what is larger is dropped and reported.

    Attributes:
        stopped: True once nothing more is taken.
    """

    def __init__(self, owner: ReaderOwner, max_message_bytes: int) -> None:
        super().__init__()
        self.stopped = False
        self._owner = owner
        self._max_message_bytes = max_message_bytes
        self._message: _Fragments | None = None

    def stop(self) -> None:
        """Ignore everything from now on."""
        self.stopped = True

    def end(self) -> None:
        """
        Ignore everything for good, and let go of the owner.

        The two would hold each other, and with them the buffers of a connection that is gone, until the garbage collector runs.
        """
        self.stopped = True
        del self._owner

    def messages_received(self, messages: list[bytes], *, binary: bool) -> None:
        """
        Take messages that came in one frame each.

        Args:
            messages: Of one kind, in order, 256 KiB at most, none above 64 KiB.
            binary: True if they came with the binary opcode.
        """
        if self._message is not None:
            self.violate(PROTOCOL_ERROR, "a message began before the one before it had ended")
            return
        if self._max_message_bytes < LARGEST_USUAL_BYTES and max(map(len, messages)) > self._max_message_bytes:
            for message in messages:
                self._take_whole(message, binary=binary)
            return
        valid = messages if binary else _valid_first(messages)
        for first in range(0, len(valid), BATCH_FRAMES):
            if self.stopped:  # the owner may end the connection from within a batch
                return
            batch = valid if len(valid) <= BATCH_FRAMES else valid[first : first + BATCH_FRAMES]
            self._owner.batch_received(batch, binary=binary)
        if len(valid) < len(messages):
            self.violate(INVALID_TEXT, "a text message is not UTF-8")

    def frame_received(self, opcode: int, payload: bytes, *, fin: bool) -> None:
        """
        Take one frame, whatever its kind.

        Args:
            opcode: One that has a meaning.
            payload: Whole, but for control frames without a limit.
            fin: True if it is the last frame of its message.

        Source: RFC 6455 section 5.4.
        """
        if opcode == PONG:
            return
        if opcode == PING:
            self._owner.ping_received(payload)
        elif opcode == CLOSE:
            self._take_close(payload)
        elif opcode == CONTINUATION and self._message is None:
            self.violate(PROTOCOL_ERROR, "a continuation came without a message to continue")
        elif opcode != CONTINUATION and fin:
            self._take_whole(payload, binary=opcode == BINARY)
        elif opcode != CONTINUATION and self._message is not None:
            self.violate(PROTOCOL_ERROR, "a message began before the one before it had ended")
        else:
            self._take_fragment(opcode, payload, fin=fin)

    def check_length(self, length: int) -> None:
        """
        End the connection if a frame is announced that is too large even to be skipped.

        Args:
            length: Of the payload of a frame that does not fit into the read buffer.
        """
        limit = self._max_message_bytes * HARD_LIMIT_FACTOR
        if length > limit:
            self.violate(TOO_LARGE, f"a frame of {length} bytes is not read: the limit is {limit} bytes")

    def violate(self, code: int, reason: str) -> None:
        """
        Fail the connection, and take nothing more, not even the peer's CLOSE.

        Source: RFC 6455 section 7.1.7.
        """
        if not self.stopped:
            self.stop()
            self._owner.violated(code, reason)

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Pass on the transport: the handshake is done."""
        self._owner.opened(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Pass on that the socket is gone; the beginning of an unfinished message is dropped with it."""
        self._owner.lost()

    def pause_writing(self) -> None:
        """Pass on that the write buffer is full."""
        self._owner.writing_paused()

    def resume_writing(self) -> None:
        """Pass on that the write buffer has room again."""
        self._owner.writing_resumed()

    def _take_whole(self, message: bytes, *, binary: bool) -> None:
        if self.stopped:
            return
        if self._message is None and len(message) > self._max_message_bytes:
            self._reject(len(message))
        else:
            self.messages_received([message], binary=binary)

    def _take_fragment(self, opcode: int, payload: bytes, *, fin: bool) -> None:
        if self._message is None:
            self._message = _Fragments(opcode, self._max_message_bytes)
        message = self._message
        try:
            message.add(payload, fin=fin)
        except UnicodeDecodeError:
            self.violate(INVALID_TEXT, "a text message is not UTF-8")
            return
        if not fin:
            return
        self._message = None
        if message.too_large:
            self._reject(message.size)
        else:
            self._owner.batch_received([bytes(message.data)], binary=message.opcode == BINARY)

    def _take_close(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else CODE_MISSING
        if len(payload) == 1:
            self.violate(PROTOCOL_ERROR, "a CLOSE holds half a close code")
        elif payload and code not in ON_THE_WIRE:
            self.violate(PROTOCOL_ERROR, f"the close code {code} is not allowed on the wire")
        else:
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                self.violate(INVALID_TEXT, "the reason of a CLOSE is not UTF-8")
                return
            self.stop()
            self._owner.close_received(code, reason)

    def _reject(self, size: int) -> None:
        self._owner.messages_rejected(1, f"{size} bytes are more than the limit of {self._max_message_bytes} bytes")


class _Fragments:
    """A message that comes in several frames; a text is judged as it comes, and what is too large is only counted."""

    def __init__(self, opcode: int, max_bytes: int) -> None:
        self.opcode = opcode
        self.data = bytearray()
        self.size = 0
        self._max_bytes = max_bytes
        self._decode = _Utf8Decoder().decode if opcode == TEXT else None

    @property
    def too_large(self) -> bool:
        return self.size > self._max_bytes

    def add(self, payload: bytes, *, fin: bool) -> None:
        self.size += len(payload)
        if self.too_large:
            self.data.clear()
            return
        if self._decode is not None:
            self._decode(payload, fin)
        self.data += payload


def _valid_first(messages: list[bytes]) -> list[bytes]:
    """
    Return the messages up to the first one that is not UTF-8: this runs once a batch.

    They are judged in one piece, and mostly are ASCII. A line feed between two of them stands in no character, so that a
    character that is cut in two by the border of two messages is found invalid, as it is in both.

    Source: RFC 6455 section 8.1; RFC 3629 section 3.
    """
    joined = b"\n".join(messages)
    if joined.isascii() or _is_utf8(joined):
        return messages
    return list(takewhile(_is_utf8, messages))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
