"""
What long-poll has received and its owner has not been told yet: batches in order, and behind them the end.

A poll takes messages off the server at once and in any number, so that "stop reading" needs a place where they wait. It is
bounded: beyond the limit nothing more is asked for.
"""

import asyncio
from collections import deque
from collections.abc import Iterator

from rig.transport.base import Closed
from rig.transport.reader import BATCH_BYTES, BATCH_FRAMES


class Inbox:
    """
    Filled by the polls, emptied by whoever tells the owner.

    Args:
        limit_bytes: Beyond it there is no room for another poll. One answer may go past it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._batches: deque[list[bytes]] = deque()
        self._bytes = 0
        self._end: Closed | None = None
        self._paused = False
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def ended(self) -> bool:
        """True once an end was added, whether it was taken or not."""
        return self._end is not None

    def put(self, frames: list[bytes]) -> None:
        """Add what one poll has brought."""
        self._batches.extend(batches(frames))
        self._bytes += sum(map(len, frames))
        self._changed()

    def end(self, closed: Closed) -> None:
        """Add the end; the first one counts."""
        self._end = self._end or closed
        self._changed()

    def cut(self, closed: Closed) -> None:
        """Forget everything, so that this end comes next, paused or not."""
        self._batches.clear()
        self._bytes = 0
        self._paused = False
        self._end = closed
        self._changed()

    def pause(self) -> None:
        """Give nothing out."""
        self._paused = True
        self._changed()

    def resume(self) -> None:
        """Give out again."""
        self._paused = False
        self._changed()

    async def take(self) -> list[bytes] | Closed:
        """Wait for the next batch, or the end if there is none left, and return it."""
        while True:
            await self._ready.wait()
            if self._batches:
                batch = self._batches.popleft()
                self._bytes -= sum(map(len, batch))
                self._changed()
                return batch
            if self._end is not None:
                return self._end

    async def wait_for_room(self) -> None:
        """Wait until less than the limit is held."""
        await self._room.wait()

    def _changed(self) -> None:
        _set(self._ready, not self._paused and (bool(self._batches) or self._end is not None))
        _set(self._room, self._bytes < self._limit_bytes)


def batches(frames: list[bytes]) -> Iterator[list[bytes]]:
    """Cut frames into batches of one kind, at most 512 or 256 KiB each; a larger frame is a batch of its own."""
    batch: list[bytes] = []
    size = 0
    for frame in frames:
        full = len(batch) == BATCH_FRAMES or size + len(frame) > BATCH_BYTES
        if batch and (full or type(frame) is not type(batch[0])):
            yield batch
            batch, size = [], 0
        batch.append(frame)
        size += len(frame)
    if batch:
        yield batch


def _set(event: asyncio.Event, condition: bool) -> None:
    if condition:
        event.set()
    else:
        event.clear()
