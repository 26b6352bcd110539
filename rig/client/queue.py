"""Events of a client that wait for whoever iterates."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec


class ClientEvent(msgspec.Struct, gc=False):
    """
    One event.

    Attributes:
        topic: The topic it came on.
        event: Its name.
        payload: Plain objects, or bytes if the frame was binary.
        raw: The frame as it came.
    """

    topic: str
    event: str
    payload: Any
    raw: bytes


class EventQueue:
    """Events for one iteration; `None` ends it."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._events: deque[ClientEvent] = deque()
        self._changed = changed
        self._waiter = asyncio.Event()
        self._ended = False

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: ClientEvent) -> None:
        """Add an event."""
        self._events.append(event)
        self._waiter.set()

    def pour_into(self, other: "EventQueue") -> None:
        """Let what waits here wait there instead."""
        while self._events:
            other.put(self._events.popleft())

    def end(self) -> None:
        """End the iteration, once what waits is taken."""
        self._ended = True
        self._waiter.set()

    async def iterate(self) -> AsyncIterator[ClientEvent]:
        """Yield events as they come."""
        while True:
            while self._events:
                event = self._events.popleft()
                self._changed()
                yield event
            if self._ended:
                return
            self._waiter.clear()
            await self._waiter.wait()
