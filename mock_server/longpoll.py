"""
A long-poll session: the connection of a client that has no WebSocket, kept alive by its polls.

What the server sends waits in a buffer until a poll takes it. A session that ends tells nobody: polls run into their
window, and whoever comes later finds that it does not answer.
Source: Phoenix.Transports.LongPoll.Server.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from aiohttp import web

from mock_server.connection import next_connection_id
from mock_server.frames import split_frames

_WINDOWS_WITHOUT_POLL = 1.5


class Session:
    """
    The `Connection` of a client that polls.

    Args:
        window: Seconds that a poll waits; one and a half without a poll, noticed at most as long after, end the session.
        on_lost: Called once, when the session has ended.
    """

    def __init__(self, window: float, on_lost: Callable[["Session"], None]) -> None:
        self.id = next_connection_id()
        self.transport = "longpoll"
        self.connected_at = time.time()
        self.bytes_received = 0
        self.bytes_sent = 0
        self.on_message: Callable[[int, bytes], None] | None = None
        self.on_batch_end: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._window = window
        self._on_lost = on_lost
        self._buffer: list[tuple[int, bytes]] = []
        self._mailbox: deque[tuple[int, bytes, asyncio.Future[None]]] = deque()
        self._unacknowledged: asyncio.Future[None] | None = None
        self._held: list[bytes] | None = None
        self._responsive = asyncio.Event()
        self._responsive.set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._collected = asyncio.Event()
        self._collected.set()
        self._parked: asyncio.Future[None] | None = None
        self._polled_at = self._loop.time()
        self._inactivity_timer = self._check_later()

    # what requests do

    async def responds(self, seconds: float) -> bool:
        """Say whether the session answers within `seconds`: it is alive, and no slow join holds it up for longer."""
        try:
            async with asyncio.timeout(seconds):
                await self._responsive.wait()
        except TimeoutError:
            return False
        return True

    async def poll(self) -> list[tuple[int, bytes]]:
        """
        Wait for messages (opcode and payload) for a window, and take them all.

        Of two polls at once only the later one is told of messages.
        """
        self._polled_at = self._loop.time()
        while not self._buffer:
            parked = self._parked = self._loop.create_future()
            await asyncio.wait([parked], timeout=self._window)
            if not parked.done():
                if self._parked is parked:
                    self._parked = None
                return []
        messages, self._buffer = self._buffer, []
        self._parked = None
        self._collected.set()
        return messages

    def end_poll(self) -> None:
        """Let the poll that waits end now, and every later one at once."""
        self._window = 0.0
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    async def dispatch(self, opcode: int, payload: bytes) -> bool:
        """
        Hand a client's message to the socket; says whether it was taken within a window.

        One that waits behind a slow join is still taken later. One that the serializer cannot read never is.
        """
        taken = self._loop.create_future()
        self._mailbox.append((opcode, payload, taken))
        self._work()
        done, _ = await asyncio.wait([taken], timeout=self._window)
        return bool(done)

    def _work(self) -> None:
        """Hand over message by message, until one is held up."""
        while self._mailbox and not self.held and not self.closed:
            self._hand_over(*self._mailbox.popleft())

    def _hand_over(self, opcode: int, payload: bytes, taken: asyncio.Future[None]) -> None:
        self.bytes_received += len(payload)
        if self.on_message is not None:
            self.on_message(opcode, payload)
        if self.held:
            self._unacknowledged = taken
        elif not self.closed:
            taken.set_result(None)
        if self.on_batch_end is not None:
            self.on_batch_end()

    # what the socket does

    def hold(self) -> None:
        """Stop everything: requests, too, get no answer."""
        self._held = []
        self._responsive.clear()

    @property
    def held(self) -> bool:
        """Whether everything waits."""
        return self._held is not None

    def release(self, first: Callable[[], None]) -> None:
        """Do what was waited for, then send and receive what has gathered meanwhile."""
        frames, self._held = self._held or [], None
        if self.closed:
            return
        self._responsive.set()
        if self._unacknowledged is not None:
            self._unacknowledged.set_result(None)
            self._unacknowledged = None
        first()
        for run in frames:
            self.write(run)
        if self.on_batch_end is not None:
            self.on_batch_end()
        self._work()

    def write(self, frames: bytes) -> None:
        """Put messages into the buffer, and wake the poll that waits."""
        if self.closed:
            return
        if self._held is not None:
            self._held.append(frames)
            return
        for opcode, payload in split_frames(frames):
            self._buffer.append((opcode, payload))
            self.bytes_sent += len(payload)
        self._collected.clear()
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    async def drained(self) -> None:
        """Return at once: the buffer has no limit."""

    async def flushed(self) -> None:
        """Wait until a poll has taken everything, or the session has ended."""
        await self._collected.wait()

    def freeze(self) -> None:
        """Let no request be answered, and no message be taken, until `thaw`."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Answer again."""
        self._thawed.set()

    async def wait_thawed(self) -> None:
        """Return when requests may be answered."""
        await self._thawed.wait()

    # ending

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self.lost.done()

    def close(self, code: int) -> None:
        """End the session; the close code reaches nobody."""
        self.drop()

    def drop(self) -> None:
        """End the session; what is in the buffer is gone."""
        if self.closed:
            return
        self.lost.set_result(None)
        self._inactivity_timer.cancel()
        self._buffer.clear()
        self._mailbox.clear()
        self._responsive.clear()
        self._collected.set()
        self._on_lost(self)

    def _check_later(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._window * _WINDOWS_WITHOUT_POLL, self._check_activity)

    def _check_activity(self) -> None:
        """End after too long without a poll; while held up, the session does not even look."""
        if self._held is None and self._loop.time() - self._polled_at > self._window * _WINDOWS_WITHOUT_POLL:
            self.drop()
        else:
            self._inactivity_timer = self._check_later()


class Sessions:
    """The sessions of one server by token, and the polls that are being answered."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._polls: dict[asyncio.Future[None], tuple[web.Request, Session]] = {}

    def add(self, token: str, session: Session) -> None:
        """Remember a session until it ends."""
        self._sessions[token] = session
        session.lost.add_done_callback(lambda _: self._sessions.pop(token, None))

    def get(self, token: str) -> Session | None:
        """Return a session that has not ended."""
        return self._sessions.get(token)

    async def poll(self, session: Session, request: web.Request) -> list[tuple[int, bytes]]:
        """Poll a session for the client that made `request`."""
        finished = asyncio.get_running_loop().create_future()
        self._polls[finished] = (request, session)
        try:
            return await session.poll()
        finally:
            del self._polls[finished]
            finished.set_result(None)

    async def answered(self, timeout: float) -> None:
        """Wait for at most `timeout` seconds until every poll whose client is still there is over."""
        waiting = [finished for finished, (request, _) in self._polls.items() if request.transport is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=timeout)

    async def abandon(self, timeout: float) -> None:
        """End the polls that are left, for which nobody waits any more; `timeout` seconds are enough for the earlier of two."""
        for _, session in list(self._polls.values()):
            session.end_poll()
        if self._polls:
            await asyncio.wait(list(self._polls), timeout=timeout)
