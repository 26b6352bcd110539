"""
From frames to batches of whole messages, in order, with everything that RFC 6455 asks of a receiver.

Messages come in two ways: by lists from the `FrameSplitter`, which takes all that is usual, and one by one from picows,
which parses the rest: fragments, control frames, frames above 64 KiB. What must stay true:

- Messages are handed on in order, text and binary alike, and those before a fault or a CLOSE are handed on before it.
- A batch is handed on at the end of every socket read, and earlier when it is full: never by a timer.
- A payload is copied before the callback returns, because picows reuses its buffer.

Source: RFC 6455 sections 5.2 (RSV bits), 5.4 (fragmentation), 5.5 (control frames), 7.4 (close codes).
"""

from typing import Protocol

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from rig.transport.close_codes import CODE_MISSING, FIRST_TOO_LARGE, NEVER_SENT, PROTOCOL_ERROR

BATCH_FRAMES = 512
BATCH_BYTES = 256 * 1024
LARGEST_USUAL_BYTES = 0xFFFF  # what a frame holds whose length is written in 16 bits


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

    def close_received(self, code: int, reason: str) -> None:
        """Note the peer's CLOSE, with 1005 if it carried no code. Only `lost` comes after."""

    def violated(self, code: int, reason: str) -> None:
        """Note that the peer broke the protocol, and with which code to close. Only `close_received` and `lost` come after."""

    def parser_gave_up(self) -> None:
        """Note that picows has sent a CLOSE, because it cannot read on. Only `lost` comes after."""

    def lost(self) -> None:
        """Note that the socket is gone."""


class FrameReader(WSListener):
    """
    The listener of one connection.

    Args:
        owner: Told what arrives.
        max_message_bytes: Limit of one message, all its fragments together; what is larger is dropped and reported.
    """

    def __init__(self, owner: ReaderOwner, max_message_bytes: int) -> None:
        super().__init__()
        self._parser_tail_bytes: int | None = None
        self._owner = owner
        self._max_message_bytes = max_message_bytes
        self._draining = False
        self._stopped = False
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._batch_is_binary = False
        self._message: bytearray | None = None
        self._message_bytes = 0
        self._message_is_binary = False

    def stop(self) -> None:
        """Ignore everything from now on."""
        self._stopped = self._draining = True

    def drain(self) -> None:
        """Ignore everything from now on, but for the peer's CLOSE."""
        self._draining = True

    def take_parser_tail_bytes(self) -> int | None:
        """Return how much picows had behind the last frame that it has parsed, or None if there was none since the last call."""
        tail_bytes, self._parser_tail_bytes = self._parser_tail_bytes, None
        return tail_bytes

    def parser_gave_up(self) -> None:
        """Stop, because picows has found a fault and ends the connection; it may be told more than once."""
        if not self._stopped:
            self.stop()
            self._owner.parser_gave_up()

    def messages_received(self, messages: list[bytes], *, binary: bool) -> None:
        """
        Take messages that came in one frame each.

        Args:
            messages: Of one kind, in order, 256 KiB at most, none above 64 KiB.
            binary: True if they came with the binary opcode.
        """
        if self._message is not None:
            self._violate("a message began before the one before it had ended")
        if self._max_message_bytes < LARGEST_USUAL_BYTES:
            messages = self._without_too_large(messages)
        for first in range(0, len(messages), BATCH_FRAMES):
            if self._draining:  # the owner may end the connection from within a batch
                return
            self._owner.batch_received(messages[first : first + BATCH_FRAMES], binary=binary)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Pass on the transport: the handshake is done."""
        self._owner.opened(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame that picows has parsed."""
        self._parser_tail_bytes = frame.tail_size
        if self._stopped:
            return
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._take_close(frame)
        elif self._draining:
            return
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._violate("a frame has reserved bits set, but no extension was agreed on")
        elif kind == WSMsgType.PING:
            self._owner.ping_received(frame.get_payload_as_bytes())
        elif kind != WSMsgType.PONG:
            self._take_data(frame, kind)
        if frame.last_in_buffer:
            self._hand_on()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Pass on that the socket is gone; the beginning of an unfinished message is dropped with it."""
        self.stop()
        self._owner.lost()

    def pause_writing(self) -> None:
        """Do nothing: whoever sends watches `write_buffer_bytes`."""

    def resume_writing(self) -> None:
        """Do nothing, see `pause_writing`."""

    def _take_data(self, frame: WSFrame, kind: WSMsgType) -> None:
        continues = kind == WSMsgType.CONTINUATION
        if continues and self._message is None:
            self._violate("a continuation came without a message to continue")
        elif not continues and self._message is not None:
            self._violate("a message began before the one before it had ended")
        elif not continues and frame.fin:
            self._add_to_batch(frame.get_payload_as_bytes(), binary=kind == WSMsgType.BINARY)
        else:
            self._take_fragment(frame, kind)

    def _take_fragment(self, frame: WSFrame, kind: WSMsgType) -> None:
        if self._message is None:
            self._message, self._message_bytes, self._message_is_binary = bytearray(), 0, kind == WSMsgType.BINARY
        self._message_bytes += frame.payload_size
        too_large = self._message_bytes > self._max_message_bytes
        if too_large:
            self._message.clear()
        else:
            self._message += frame.get_payload_as_memoryview()
        if not frame.fin:
            return
        message, self._message = bytes(self._message), None
        if too_large:
            self._hand_on()
            self._reject(1, self._message_bytes)
        else:
            self._add_to_batch(message, binary=self._message_is_binary)

    def _take_close(self, frame: WSFrame) -> None:
        self._hand_on()
        self.stop()
        payload = frame.get_payload_as_bytes()
        code = int.from_bytes(payload[:2], "big") if payload else CODE_MISSING
        # picows has refused the other forbidden codes, and reasons that are not UTF-8.
        if payload and (code in NEVER_SENT or code >= FIRST_TOO_LARGE):
            self._owner.violated(PROTOCOL_ERROR, f"the close code {code} is not allowed on the wire")
        else:
            self._owner.close_received(code, payload[2:].decode())

    def _add_to_batch(self, message: bytes, *, binary: bool) -> None:
        full = self._batch_bytes + len(message) > BATCH_BYTES or len(self._batch) >= BATCH_FRAMES
        if full or binary is not self._batch_is_binary:
            self._hand_on()
        self._batch.append(message)
        self._batch_bytes += len(message)
        self._batch_is_binary = binary

    def _hand_on(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch and not self._draining:
            batch = self._without_too_large(batch)
        if batch and not self._draining:
            self._owner.batch_received(batch, binary=self._batch_is_binary)

    def _without_too_large(self, messages: list[bytes]) -> list[bytes]:
        largest = max(map(len, messages))
        if largest <= self._max_message_bytes:
            return messages
        kept = [message for message in messages if len(message) <= self._max_message_bytes]
        self._reject(len(messages) - len(kept), largest)
        return kept

    def _reject(self, count: int, largest: int) -> None:
        self._owner.messages_rejected(count, f"{largest} bytes are more than the limit of {self._max_message_bytes} bytes")

    def _violate(self, reason: str) -> None:
        self._hand_on()
        self.drain()
        self._owner.violated(PROTOCOL_ERROR, reason)
