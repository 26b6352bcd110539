"""
Requests on their way into a ring: those of one turn of the loop travel as one record.

Must stay true: they leave in the order in which they came, and one that does not fit yet waits, with all that came after it.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from rig.errors import RingFull
from rig.records import Kind
from rig.ring import Doorbell, Producer, RingMemory

_LOOK_AGAIN = 0.001
"""Seconds after which a full ring is looked at again."""
_BATCH = 512
OVERHEAD = 64
"""Bytes that a request's numbers and lengths take, at most."""

R = TypeVar("R")


class Outgoing(Generic[R]):
    """
    The producer's end of a ring of requests.

    Attributes:
        limit: Bytes of a request, at most.
    """

    def __init__(
        self,
        memory: RingMemory,
        bell: Doorbell,
        *,
        kind: Kind,
        encode: Callable[[Sequence[R]], bytes],
        size: Callable[[R], int],
        placed: Callable[[Sequence[R], int], None] | None = None,
        patience: float = math.inf,
        refuse: Callable[[Sequence[R]], None] | None = None,
    ) -> None:
        """
        Take the ring.

        Args:
            memory: The ring.
            bell: The consumer's doorbell.
            kind: Of the records.
            encode: Requests → payload of a record.
            size: Bytes that a request takes in it, at most.
            placed: Told of requests that are in the ring, and where the ring ended then.
            patience: Seconds that the ring may be full before requests are refused.
            refuse: Told of requests that never were in the ring.
        """
        self._producer, self._bell = Producer(memory), bell
        self._kind, self._encode, self._size = kind, encode, size
        self._placed, self._patience, self._refuse = placed, patience, refuse
        self.limit = memory.max_payload - OVERHEAD
        self._loop = asyncio.get_running_loop()
        self._waiting: list[R] = []
        self._full_since = math.inf
        self._flushing: asyncio.Handle | None = None
        self._flushed = asyncio.Event()
        self._flushed.set()

    async def room(self) -> None:
        """Return when a further request may be added: not too many wait."""
        while len(self._waiting) >= _BATCH:
            await self._flushed.wait()

    def add(self, request: R) -> None:
        """Queue a request for the record of this turn."""
        self._waiting.append(request)
        self._flushed.clear()
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def put(self, record: bytes, kind: Kind, count: int) -> bool:
        """Put a record of another kind into the ring, before what waits, and return False if there is no room."""
        try:
            self._producer.put(record, kind=kind, count=count)
        except RingFull:
            return False
        self._bell.ring()
        return True

    async def wait_flushed(self) -> None:
        """Return when every request is in the ring, or refused."""
        await self._flushed.wait()

    def _flush(self) -> None:
        self._flushing = None
        while self._waiting:
            batch = self._take_batch()
            try:
                self._producer.put(self._encode(batch), kind=self._kind, count=len(batch))
            except RingFull:
                self._waiting[:0] = batch
                self._wait()
                break
            self._full_since = math.inf
            if self._placed is not None:
                self._placed(batch, self._producer.tail)
        if not self._waiting:
            self._flushed.set()
        self._bell.ring()

    def _wait(self) -> None:
        now = time.monotonic()
        self._full_since = min(self._full_since, now)
        if self._refuse is not None and now - self._full_since >= self._patience:
            refused, self._waiting = self._waiting, []
            self._refuse(refused)
        else:
            self._flushing = self._loop.call_later(_LOOK_AGAIN, self._flush)

    def _take_batch(self) -> list[R]:
        size = count = 0
        for request in self._waiting[:_BATCH]:
            size += self._size(request)
            if size > self.limit:
                break
            count += 1
        batch = self._waiting[:count]
        del self._waiting[:count]
        return batch
