"""
A connection that was upgraded to a WebSocket: frames in, frames out, the idle time-out, close codes and back-pressure.

It takes the transport over from aiohttp after the upgrade, so that a pre-encoded frame (or a megabyte of them) is
written as it is. Whatever is written leaves in the order of the `write` calls.
Source: Bandit, `Bandit.WebSocket.Connection`; Thousand Island's 30 s send time-out.
"""

import asyncio
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from mock_server.connection import next_connection_id
from mock_server.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    CloseConnection,
    Frame,
    FrameParser,
    close_answer,
    encode_close,
    encode_frame,
    split_frames,
)

_WRITE_BUFFER_BYTES = 2 * 1024 * 1024
_DEFLATE_TAIL = b"\x00\x00\xff\xff"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one mount allows: idle and send time-outs in seconds, the longest frame in bytes, whether frames may be compressed."""

    idle_timeout: float
    send_timeout: float
    max_frame_bytes: int
    compression: bool = False


class WebSocket(asyncio.Protocol):
    """
    The `Connection` of a client that speaks WebSocket.

    Args:
        limits: The mount's limits.
        on_lost: Called once, when the connection is gone.
    """

    def __init__(self, limits: Limits, on_lost: Callable[["WebSocket"], None]) -> None:
        self.id = next_connection_id()
        self.transport = "websocket"
        self.connected_at = time.time()
        self.bytes_received = 0
        self.bytes_sent = 0
        self.on_message: Callable[[int, bytes], None] | None = None
        self.on_batch_end: Callable[[], None] | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._limits = limits
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = FrameParser(limits.max_frame_bytes, compression=limits.compression)
        self._transport: asyncio.Transport | None = None
        self._http: asyncio.Protocol | None = None
        self._closed = False
        self._told = False
        self._held: list[bytes] | None = None
        self._frozen: list[bytes] | None = None
        self._paused = False
        self._heard_at = self._loop.time()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._flushed_at_pause = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._deflate = zlib.compressobj(wbits=-15) if limits.compression else None
        self._inflate = zlib.decompressobj(wbits=-15) if limits.compression else None

    # taking over from HTTP

    def take_over(self, transport: asyncio.Transport, http: asyncio.Protocol) -> None:
        """Receive what the transport brings from now on; `http` only learns that the connection was lost."""
        self._transport, self._http = transport, http
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        transport.set_protocol(self)
        self._heard_at = self._loop.time()
        self._idle_timer = self._loop.call_later(self._limits.idle_timeout, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell HTTP, the socket and whoever waits."""
        self._closed = True
        for timer in (self._idle_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        self._writable.set()
        if self._http is not None:
            self._http.connection_lost(exc)
        self._tell()
        if not self.lost.done():
            self.lost.set_result(None)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._on_lost(self)

    # receiving

    def data_received(self, data: bytes) -> None:
        """Take one TCP read, which is one batch."""
        self.bytes_received += len(data)
        self._parser.feed(data)
        self._work()

    def _work(self) -> None:
        """Hand over each message that is there, then let the socket work through the whole batch."""
        try:
            while not self._closed and self._held is None:
                frame = self._parser.next_frame()
                if frame is None:
                    break
                self._heard_at = self._loop.time()
                self._handle(frame)
        except CloseConnection as refusal:
            self._end_batch()
            self.close(refusal.code)
        else:
            self._end_batch()

    def hold(self) -> None:
        """Stop everything in both directions, as a socket process that waits for something does."""
        self._held = []
        self._writable.clear()

    @property
    def held(self) -> bool:
        """Whether everything waits."""
        return self._held is not None

    def release(self, first: Callable[[], None]) -> None:
        """Do what was waited for, then send and receive what has gathered meanwhile."""
        frames, self._held = self._held or [], None
        if not self._paused:
            self._writable.set()
        if self._closed:
            return
        self._heard_at = self._loop.time()
        first()
        for frame in frames:
            self.write(frame)
        self._work()

    def _end_batch(self) -> None:
        if self.on_batch_end is not None:
            self.on_batch_end()

    def _handle(self, frame: Frame) -> None:
        if frame.opcode in (TEXT, BINARY):
            payload = self._inflated(frame) if frame.compressed else frame.payload
            if frame.opcode == TEXT:
                _require_utf8(payload)
            if self.on_message is not None:
                self.on_message(frame.opcode, payload)
        elif frame.opcode == PING:
            self.write(encode_frame(PONG, frame.payload))
        elif frame.opcode == CLOSE:
            self._end_batch()
            self.close(close_answer(frame.payload))

    def _inflated(self, frame: Frame) -> bytes:
        assert self._inflate is not None
        try:
            return self._inflate.decompress(frame.payload + _DEFLATE_TAIL)
        except zlib.error as exc:
            raise CloseConnection(1007) from exc

    def _check_idle(self) -> None:
        """Close after silence; what the server sends does not count."""
        due = self._heard_at + self._limits.idle_timeout
        if self._held is not None:
            due = self._loop.time() + self._limits.idle_timeout
        if self._loop.time() >= due:
            self.close(1002)
        else:
            self._idle_timer = self._loop.call_at(due, self._check_idle)

    # sending

    def write(self, frames: bytes) -> None:
        """Write one or many complete frames; nothing happens on a closed connection."""
        if self._closed or self._transport is None:
            return
        if self._held is not None:
            self._held.append(frames)
            return
        if self._deflate is not None:
            frames = self._deflated(frames)
        self.bytes_sent += len(frames)
        if self._frozen is not None:
            self._frozen.append(frames)
        else:
            self._transport.write(frames)

    def _deflated(self, frames: bytes) -> bytes:
        """Compress each text or binary frame of a run of server frames."""
        assert self._deflate is not None
        result = []
        for opcode, payload in split_frames(frames):
            if opcode in (TEXT, BINARY):
                packed = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
                result.append(encode_frame(opcode, packed.removesuffix(_DEFLATE_TAIL), compressed=True))
            else:
                result.append(encode_frame(opcode, payload))
        return b"".join(result)

    async def drained(self) -> None:
        """Wait until more may be written: the client has read enough, nothing holds the socket up. Or the client is gone."""
        await self._writable.wait()

    async def flushed(self) -> None:
        """Wait until everything written has been handed to the kernel, or the client is gone."""
        if self._closed or self._transport is None:
            return
        self._transport.set_write_buffer_limits(high=1, low=0)
        await self._writable.wait()
        if not self._closed:
            self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)

    def pause_writing(self) -> None:
        """Hold back floods, and cut a client that reads nothing for too long."""
        self._paused = True
        self._writable.clear()
        self._flushed_at_pause = self._flushed()
        self._send_timer = self._loop.call_later(self._limits.send_timeout, self._check_reader)

    def resume_writing(self) -> None:
        """Let floods go on."""
        self._paused = False
        if self._held is None:
            self._writable.set()
        if self._send_timer is not None:
            self._send_timer.cancel()

    def _flushed(self) -> int:
        return self.bytes_sent - (self._transport.get_write_buffer_size() if self._transport is not None else 0)

    def _check_reader(self) -> None:
        """Cut a stalled reader without a close frame: what was queued for it is gone."""
        flushed = self._flushed()
        if flushed == self._flushed_at_pause:
            self.drop()
            return
        self._flushed_at_pause = flushed
        self._send_timer = self._loop.call_later(self._limits.send_timeout, self._check_reader)

    # a link that is dead without a word

    def freeze(self) -> None:
        """Send and read nothing until `thaw`; what is written waits, as in the kernel's buffer."""
        if self._frozen is None and not self._closed and self._transport is not None and not self._transport.is_closing():
            self._frozen = []
            self._transport.pause_reading()

    def thaw(self) -> None:
        """Go on; a connection that the server has ended meanwhile ends now for its client too."""
        if self._frozen is None or self._transport is None:
            return
        frames, self._frozen = self._frozen, None
        if self._closed:
            self._transport.abort()
            return
        for frame in frames:
            self._transport.write(frame)
        self._transport.resume_reading()

    def _end_unseen(self) -> None:
        """End on the server's side only: nothing of it reaches the client of a frozen connection."""
        self._closed = True
        self._writable.set()
        self._tell()

    # ending

    @property
    def closed(self) -> bool:
        """Whether nothing more can be sent."""
        return self._closed

    def close(self, code: int) -> None:
        """Send a close frame with an empty reason, and end TCP right behind it without waiting for the answer."""
        if self._closed or self._transport is None:
            return
        if self._frozen is not None:
            self._end_unseen()
            return
        self._held = None
        self.write(encode_close(code))
        self._closed = True
        self._transport.close()

    def drop(self) -> None:
        """End TCP with no close frame."""
        if self._frozen is not None and not self._closed:
            self._end_unseen()
            return
        self._closed = True
        if self._transport is not None:
            self._transport.abort()


def _require_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as exc:
        raise CloseConnection(1007) from exc
