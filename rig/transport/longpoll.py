"""
A connection over plain HTTP, for where a WebSocket does not get through: it looks like one to everything above.

Two loops run side by side: one polls, one POSTs what is to be sent. What must stay true:

- However the session ends, its owner hears `transport_closed` exactly once, when everything is closed, and nothing after it.
- Frames go out in order: one POST is on its way at a time, and what is sent meanwhile goes with the next.
- Frames are handed on in order, and what came before the end is handed on before it, unless the owner cut the connection.
- Nothing is passed over in silence: a poll or a POST that fails in any way ends the session.

`pause_reading` stops handing on at once. Polling goes on, so that the server keeps the session, until 4 MiB are held. Beyond
that the server is not asked; it keeps what comes by itself, and ends a session that is not polled for 1.5 windows (15 s
unless set otherwise): then what it kept is lost, and the owner hears of the end (3410) behind what was held.

Heartbeats: phoenix.js sends none over long-poll. rig's core does, over any transport. They do no harm, Phoenix answers them, and
they find a link that swallows what is posted.

The server is never told of a close, since Phoenix has no request for it: to it the client stays for 1.5 windows more.

Source: phoenix.js `LongPoll`; Phoenix.Transports.LongPoll.
"""

import asyncio
import base64
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from rig.phoenix.message import BinaryFrame
from rig.transport.base import Closed, TransportOwner
from rig.transport.close_codes import ABNORMAL, INTERNAL_ERROR, check_close_code
from rig.transport.endpoint import Endpoint
from rig.transport.longpoll_http import JSON, NDJSON, LongPollSession
from rig.transport.longpoll_inbox import Inbox
from rig.transport.upgrade import MIB

_POST_FRAMES = 100  # Phoenix reads no more lines than this
_POST_BYTES = 512 * 1024  # Phoenix takes 8 MB; what stands before it often takes 1 MiB (nginx)
_HELD_BYTES = 4 * MIB
_EMPTY_POLL = 0.1  # a server that answers at once without messages is not asked more often, seconds
_OUR_FAULT = "an exception on our side, see the log"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """
    The body of one POST.

    Attributes:
        body: What is sent.
        content_type: `NDJSON`, or `JSON` for one frame alone.
        count: How many frames it holds.
    """

    body: bytes
    content_type: str
    count: int


def next_post(frames: Sequence[bytes]) -> Post:
    """
    Put as many of the first frames into a POST as it may hold.

    A line that begins with "[" is text to Phoenix, every other one base64. So a frame of V1, which begins with "{", and one
    with a line break in it, go alone.

    Args:
        frames: What waits, at least one.

    Source: Phoenix.Transports.LongPoll `publish`.
    """
    lines: list[bytes] = []
    size = 0
    for frame in islice(frames, _POST_FRAMES):
        line = _line(frame)
        size += 0 if line is None else len(line) + 1
        if line is None or (lines and size > _POST_BYTES):
            break
        lines.append(line)
    return Post(b"\n".join(lines), NDJSON, len(lines)) if lines else Post(bytes(frames[0]), JSON, 1)


async def dial_longpoll(
    endpoint: Endpoint,
    owner: TransportOwner,
    *,
    connect_timeout: float = 5.0,
    close_timeout: float = 2.0,
    answer_timeout: float = 20.0,
    max_frame_bytes: int = MIB,
) -> "LongPollTransport":
    """
    Open a long-poll session.

    Args:
        endpoint: Where to connect. Redirects are not followed.
        owner: Told what arrives, from the next turn of the loop after this returns.
        connect_timeout: Seconds for the name, TCP, TLS and the first answer together.
        close_timeout: Seconds for the POSTs that are still to be made after a close.
        answer_timeout: Seconds for one poll or POST, after which the session is given up.
        max_frame_bytes: Limit of one message. A larger one is dropped and reported.

    Raises:
        ConfigError: If a TLS file cannot be used, or the token cannot be in a header.
        ConnectFailed: If the host is not found, or the port cannot be reached.
        ConnectTimeout: If it is not done within `connect_timeout`.
        ProxyFailed: If the proxy does not let us through.
        TlsFailed: If the TLS handshake fails, most often because of the certificate.
        AuthenticationRefused: If the answer is 401 or 403, in HTTP or in the body.
        HandshakeRefused: If the answer is another HTTP status than 200, or an error in the body.
        NotLongPoll: If the answer is not one of Phoenix's.
    """
    session = LongPollSession(endpoint, answer_timeout=answer_timeout)
    try:
        await session.open(connect_timeout)
    except BaseException:
        await session.close()
        raise
    return LongPollTransport(owner, session, close_timeout=close_timeout, max_frame_bytes=max_frame_bytes)


class LongPollTransport:
    """
    An open session, see `rig.transport.base.Transport`. Made by `dial_longpoll`.

    Args:
        owner: Told what arrives.
        session: Open; it is closed with the transport.
        close_timeout: Seconds for what is still to be sent at a close.
        max_frame_bytes: Limit of one message.
    """

    def __init__(self, owner: TransportOwner, session: LongPollSession, *, close_timeout: float, max_frame_bytes: int) -> None:
        self._owner, self._session = owner, session
        self._close_timeout, self._max_frame_bytes = close_timeout, max_frame_bytes
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(_HELD_BYTES)
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._to_do = asyncio.Event()
        self._closing = False
        self._by_us = False
        self._aborted = False
        self._farewell: Closed | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task = self._loop.create_task(self._live(), name="longpoll")

    @property
    def bytes_received(self) -> int:
        """Bytes of answers since the session opened, headers included."""
        return self._session.bytes_received

    @property
    def write_buffer_bytes(self) -> int:
        """Bytes that wait to be sent, or for the server to say that it has them."""
        return self._outbox_bytes

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue frames in order; after the close they are dropped."""
        if self._closing or self._inbox.ended:
            return
        self._outbox.extend(frames)
        self._outbox_bytes += sum(map(len, frames))
        self._to_do.set()

    def pause_reading(self) -> None:
        """Hand nothing on; see this module's docstring for what happens to the session meanwhile."""
        self._inbox.pause()

    def resume_reading(self) -> None:
        """Hand on again, beginning with what was held."""
        self._inbox.resume()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """
        Send what was queued, then end. What arrives meanwhile is still handed on.

        While reading is paused, the end waits for what is held, and the close time-out drops that.

        Args:
            code: What the owner hears; nothing is sent of it. 1000 to 1014 without those reserved, or 3000 to 4999.
            reason: Likewise.

        Raises:
            LocalProtocolError: If an endpoint may not send this code.
        """
        check_close_code(code)
        if self._closing:
            return
        self._closing = self._by_us = True
        self._farewell = Closed(code, reason)
        self._timer = self._loop.call_later(self._close_timeout, self._cut, "the close took too long")
        self._to_do.set()

    def abort(self) -> None:
        """End now. The owner hears of it once the connections are closed, in a few turns of the loop, and of nothing else."""
        self._by_us = self._aborted = True
        self._cut("")

    async def _live(self) -> None:
        loops = [self._loop.create_task(self._watch(loop), name="longpoll") for loop in (self._poll, self._post)]
        try:
            closed = await self._hand_on()
        finally:
            self._closing = True
            if self._timer is not None:
                self._timer.cancel()
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await self._session.close()
        self._tell(partial(self._owner.transport_closed, replace(closed, by_us=self._by_us)))

    async def _watch(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except Exception:
            _log.exception("a loop of long-poll ended")
            self._inbox.end(Closed(INTERNAL_ERROR, _OUR_FAULT))

    async def _poll(self) -> None:
        while True:
            asked_at = self._loop.time()
            answer = await self._session.poll()
            if isinstance(answer, Closed):
                self._inbox.end(answer)
                return
            if answer:
                self._inbox.put(answer)
                await self._inbox.wait_for_room()
            else:
                await asyncio.sleep(asked_at + _EMPTY_POLL - self._loop.time())

    async def _post(self) -> None:
        while True:
            await self._to_do.wait()
            while self._outbox:
                post = next_post(self._outbox)
                closed = await self._session.post(post.body, post.content_type)
                if closed is not None:
                    self._inbox.end(closed)
                    return
                self._outbox_bytes -= sum(len(self._outbox.popleft()) for _ in range(post.count))
            self._to_do.clear()
            if self._farewell is not None:
                self._inbox.end(self._farewell)
                return

    async def _hand_on(self) -> Closed:
        while True:
            received = await self._inbox.take()
            if isinstance(received, Closed):
                return received
            self._tell_batch(received)
            await asyncio.sleep(0)  # an answer can hold thousands of batches; heartbeats must not wait for them all

    def _tell_batch(self, batch: list[bytes]) -> None:
        binary = isinstance(batch[0], BinaryFrame)
        largest = max(map(len, batch))
        if largest > self._max_frame_bytes:
            kept = [frame for frame in batch if len(frame) <= self._max_frame_bytes]
            reason = f"{largest} bytes are more than the limit of {self._max_frame_bytes} bytes"
            self._tell(partial(self._owner.frames_rejected, len(batch) - len(kept), reason))
            batch = kept
        if batch and not self._aborted:
            self._tell(partial(self._owner.binary_received if binary else self._owner.text_received, batch))

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            _log.exception("the owner of a connection raised")
            self._aborted = True
            self._inbox.cut(Closed(INTERNAL_ERROR, _OUR_FAULT))

    def _cut(self, reason: str) -> None:
        self._closing = True
        self._inbox.cut(Closed(ABNORMAL, reason))


def _line(frame: bytes) -> bytes | None:
    if isinstance(frame, BinaryFrame):
        return base64.b64encode(frame)
    return frame if frame.startswith(b"[") and b"\n" not in frame else None
