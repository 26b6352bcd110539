"""
A WebSocket connection on picows and uvloop.

What must stay true:

- However a connection ends, its owner hears `transport_closed` exactly once, and nothing after it.
- The owner is not called before `dial` has returned; what comes earlier is kept until then.
- No peer can make us wait: every way to the end has the close time-out behind it, after which the socket is cut.
- No peer can make the write buffer grow: of the PINGs of one that does not read, only the latest is answered.
- An exception of the owner is logged, and ends this connection with 1011: nothing that it has not seen is passed over in silence.

picows makes the upgrade (`rig.transport.gate`); after it, frames are cut by `rig.transport.splitter`, judged by
`rig.transport.reader` and written by `rig.transport.writer`.

Source: RFC 6455 sections 5.5 (of PINGs 5.5.3), 7.1 and 7.4.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from picows import WSTransport

from rig.phoenix.message import BinaryFrame
from rig.transport.base import Closed, TransportOwner
from rig.transport.close_codes import ABNORMAL, CODE_MISSING, INTERNAL_ERROR, check_close_code
from rig.transport.header import BINARY, CLOSE, PONG, TEXT
from rig.transport.reader import FrameReader
from rig.transport.splitter import FrameSplitter
from rig.transport.writer import FrameWriter

_MAX_REASON_BYTES = 123

_log = logging.getLogger(__name__)


class WebSocketTransport:
    """
    An open connection, see `rig.transport.base.Transport`. Made by `rig.transport.dial`.

    Args:
        owner: Told what arrives.
        close_timeout: Seconds for the closing handshake.
        max_frame_bytes: Limit of one message.
        read_buffer_bytes: What one read takes at most.

    Attributes:
        is_open: True once the handshake is done, and ever after.
    """

    def __init__(self, owner: TransportOwner, *, close_timeout: float, max_frame_bytes: int, read_buffer_bytes: int) -> None:
        self.reader = FrameReader(self, max_frame_bytes)
        self.is_open = False
        self._owner = owner
        self._close_timeout = close_timeout
        self._read_buffer_bytes = read_buffer_bytes
        self._loop = asyncio.get_running_loop()
        self._released = False
        self._closing = False
        self._by_us = False
        self._paused = False
        self._congested = False
        self._unanswered_ping: bytes | None = None
        self._received_close: Closed | None = None
        self._lost = False
        self._failure = ""
        self._timer: asyncio.TimerHandle | None = None
        self._ws: WSTransport
        self._splitter: FrameSplitter
        self._writer: FrameWriter

    @property
    def bytes_received(self) -> int:
        """Bytes received since the upgrade, headers and unfinished frames included."""
        return self._splitter.bytes_received

    @property
    def over(self) -> bool:
        """True once the connection is gone."""
        return self._lost

    @property
    def write_buffer_bytes(self) -> int:
        """Bytes that wait for the peer to read."""
        return 0 if self._ws.is_disconnected else self._ws.underlying_transport.get_write_buffer_size()

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue frames in order; after the close they are dropped."""
        if not self._closing:
            self._answer_ping()
            self._writer.write([(BINARY if type(frame) is BinaryFrame else TEXT, frame) for frame in frames])

    def pause_reading(self) -> None:
        """
        Stop reading from the socket; the rest of what is in the read buffer is still handed on.

        While reading is paused the end of the connection is not noticed either, unless something is sent.
        """
        self._paused = True
        self._apply_pause()

    def resume_reading(self) -> None:
        """Read again."""
        self._paused = False
        self._apply_pause()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """
        Start the closing handshake. What arrives before the peer's CLOSE is still handed on.

        While reading is paused the peer's CLOSE is not seen, and the close time-out ends the connection.

        Args:
            code: 1000 to 1014 without those reserved, or 3000 to 4999.
            reason: Cut off after 123 bytes.

        Raises:
            LocalProtocolError: If an endpoint may not send this code.

        Source: RFC 6455 sections 7.1.2 and 7.4.
        """
        check_close_code(code)
        if not self._closing:
            self._by_us = True
            self._send_close(code, reason)

    def abort(self) -> None:
        """Cut the connection now. The owner hears of it in the next turn of the loop, and of nothing else."""
        self._by_us = self._by_us or not self._closing
        self._closing = True
        self.reader.stop()
        self._cut()

    # What the reader calls.

    def opened(self, transport: WSTransport) -> None:
        """Take the transport of picows, put the splitter in the place of its parser, and read on when the owner may hear of it."""
        self._ws = transport
        underlying = transport.underlying_transport
        self._splitter = FrameSplitter(underlying.get_protocol(), self.reader, self._read_buffer_bytes)
        self._writer = FrameWriter(underlying)
        underlying.set_protocol(self._splitter)
        self._apply_pause()
        self.is_open = True

    def batch_received(self, messages: list[bytes], *, binary: bool) -> None:
        """Hand a batch to the owner."""
        self._tell(self._owner.binary_received if binary else self._owner.text_received, messages)

    def messages_rejected(self, count: int, reason: str) -> None:
        """Tell the owner of messages that were too large."""
        self._tell(self._owner.frames_rejected, count, reason)

    def ping_received(self, payload: bytes) -> None:
        """
        Answer with a PONG at once; while the write buffer is full, answer only the latest PING, with what is sent next.

        Source: RFC 6455 section 5.5.3.
        """
        self._unanswered_ping = payload
        if not self._congested:
            self._answer_ping()

    def writing_paused(self) -> None:
        """Note that the write buffer is full."""
        self._congested = True

    def writing_resumed(self) -> None:
        """Note that the write buffer has room again, and answer the PING that waited for it."""
        self._congested = False
        self._answer_ping()

    def close_received(self, code: int, reason: str) -> None:
        """
        Answer with the same code if we have not closed ourselves, and let the server hang up.

        Source: RFC 6455 sections 5.5.1 and 7.1.1.
        """
        self._received_close = Closed(code, reason, self._by_us)
        if not self._closing:
            self._send_close(None if code == CODE_MISSING else code)
        self._apply_pause()

    def violated(self, code: int, reason: str) -> None:
        """
        Close with the code that names the peer's fault, and let the server hang up.

        Source: RFC 6455 section 7.1.7.
        """
        self._fail(code, why=reason, reason=reason)

    def lost(self) -> None:
        """Tell the owner that it is over, once it may hear of anything."""
        self._closing = self._lost = True
        if self._released:
            self._finish()

    # What dial and this class call.

    def release(self) -> None:
        """Let the owner hear what came with the upgrade, and from now on everything at once."""
        self._splitter.take_early()
        self._released = True
        self._apply_pause()
        if self._lost:
            self._finish()

    def _finish(self) -> None:
        self.reader.end()
        if self._timer is not None:
            self._timer.cancel()
        if self._splitter.lost_because is not None:
            self._failure = self._failure or str(self._splitter.lost_because)
        try:
            self._owner.transport_closed(self._received_close or Closed(ABNORMAL, self._failure, self._by_us))
        except Exception:
            _log.exception("the owner of a connection raised")

    def _answer_ping(self) -> None:
        payload, self._unanswered_ping = self._unanswered_ping, None
        if payload is not None and not self._closing:
            self._writer.write([(PONG, payload)])

    def _apply_pause(self) -> None:
        """
        Read unless the owner has paused, or may not hear of anything yet: `release` must not undo the owner's pause.

        Once the reader has stopped, only the end of the stream is waited for, and a pause must not hide it.
        """
        if self._gone:
            return
        transport = self._ws.underlying_transport
        if not self._released or (self._paused and not self.reader.stopped):
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _tell(self, call: Callable[..., None], *news: object) -> None:
        try:
            call(*news)
        except Exception:
            _log.exception("the owner of a connection raised")
            self._fail(INTERNAL_ERROR, why="an exception on our side, see the log")

    def _fail(self, code: int, *, why: str, reason: str = "") -> None:
        self._failure = self._failure or why
        self.reader.stop()
        if not self._closing:
            self._send_close(code, reason)
        self._apply_pause()

    def _send_close(self, code: int | None, reason: str = "") -> None:
        text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
        self._writer.write([(CLOSE, b"" if code is None else code.to_bytes(2, "big") + text)])
        self._end_soon()

    def _end_soon(self) -> None:
        self._closing = True
        if self._timer is None:
            self._timer = self._loop.call_later(self._close_timeout, self._cut)

    def _cut(self) -> None:
        self._ws.disconnect(graceful=False)

    @property
    def _gone(self) -> bool:
        return self._ws.is_disconnected or self._ws.underlying_transport.is_closing()
