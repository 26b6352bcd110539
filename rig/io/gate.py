"""
Keeps the pushes of the outbox behind the live traffic.

They wait while the server has not taken what was sent before, or we do not read its answers. While events come so fast that they
need all that there is, of processor and server, few go beside them: a row costs as much as some thirty events, so a backlog would
halve their rate.
"""

import asyncio
import time
from collections.abc import Callable

_MOST_UNSENT_BYTES = 256 * 1024
"""Bytes that the server has not taken, at which no row is sent."""
_BUSY = 20_000.0
"""Events a second from which on rows are held back."""
_BESIDE_EVENTS = 2_500.0
"""Rows a second that are sent then."""
_SAMPLE = 0.05
"""Seconds over which the rate of events is taken."""
_LOOK_AGAIN = 0.005
"""Seconds after which a closed gate is looked at again."""


class Gate:
    """Open while rows may be sent."""

    def __init__(
        self,
        *,
        unsent_bytes: Callable[[], int],
        deaf: Callable[[], bool],
        overdue: Callable[[], bool],
        events: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Make a gate.

        Args:
            unsent_bytes: What the connection has not written yet.
            deaf: True while nothing is read.
            overdue: True while the database owes us too much.
            events: How many were ever received.
            clock: Monotonic seconds.
        """
        self._unsent_bytes, self._deaf, self._overdue, self._events, self._clock = unsent_bytes, deaf, overdue, events, clock
        self._sampled, self._seen = clock(), events()
        self._busy = False
        self._next = 0.0
        self._loop = asyncio.get_running_loop()
        self._looked = asyncio.Event()
        self._looking: asyncio.TimerHandle | None = None
        self._closed = False

    async def wait_open(self) -> None:
        """Return when it is our turn; what is sent then is told before anybody else is let through."""
        while self._closed or not self._open():
            if self._looking is None and not self._closed:
                self._looked.clear()
                self._looking = self._loop.call_later(_LOOK_AGAIN, self._look)
            await self._looked.wait()

    def sent(self, rows: int) -> None:
        """Count rows that were sent."""
        if self._busy:
            self._next = max(self._next, self._clock()) + rows / _BESIDE_EVENTS

    @property
    def busy(self) -> bool:
        """True while events come at full speed."""
        self._sample()
        return self._busy

    def close(self) -> None:
        """Let nothing more through."""
        self._closed = True
        self._looked.clear()
        if self._looking is not None:
            self._looking.cancel()

    def _open(self) -> bool:
        if self._unsent_bytes() > _MOST_UNSENT_BYTES or self._deaf() or self._overdue():
            return False
        now = self._sample()
        return not self._busy or now >= self._next

    def _sample(self) -> float:
        now = self._clock()
        if (passed := now - self._sampled) >= _SAMPLE:
            events = self._events()
            self._busy = events - self._seen > _BUSY * passed
            self._sampled, self._seen = now, events
        return now

    def _look(self) -> None:
        self._looking = None
        self._looked.set()
