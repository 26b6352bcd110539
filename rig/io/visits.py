"""
Topics that are joined only for rows of the outbox: a few at a time, the others in turn.

Phoenix lets a socket join 100 topics unless it is told otherwise, and those of the handlers come first. What must stay true: a
topic whose join is refused leaves its place to another and comes back later, and one that never runs dry gives way after a while.

Source: Phoenix.Socket, `:max_channels` ("too many channels joined").
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from rig.backoff import rejoin_delay

PLACES = 16
"""Topics that are joined for their rows at a time."""
IDLE = 30.0
"""Seconds without rows after which such a topic is left."""
SLICE = 5.0
"""Seconds after which a busy topic gives way to one that waits."""


@dataclass(slots=True)
class _Stay:
    """Since when a topic has its place, and since when it has no rows."""

    since: float
    idle_since: float | None = None


class Visits:
    """Decides which topics are joined."""

    def __init__(self, *, join: Callable[[str], None], leave: Callable[[str], None], give_way: Callable[[str], None]) -> None:
        """
        Start with no topic.

        Args:
            join: Joins one.
            leave: Leaves one.
            give_way: Asks a busy one to come to an end; `gave_way` follows.
        """
        self._join, self._leave, self._ask = join, leave, give_way
        self._loop = asyncio.get_running_loop()
        self._here: dict[str, _Stay] = {}
        self._queue: dict[str, None] = {}
        self._resting: dict[str, asyncio.TimerHandle] = {}
        self._refusals: dict[str, int] = {}

    def want(self, topic: str) -> None:
        """Join a topic as soon as there is a place: it has rows."""
        if topic in self._here:
            self._here[topic].idle_since = None
        elif topic not in self._resting:
            self._queue[topic] = None
            self._fill()

    def dry(self, topic: str) -> None:
        """Note that a topic has no more rows."""
        if topic in self._here:
            self._here[topic].idle_since = self._loop.time()
            self._fill()

    def joined(self, topic: str) -> None:
        """Note that a topic is joined."""
        self._refusals.pop(topic, None)

    def refused(self, topic: str, *, unauthorized: bool = False) -> None:
        """Give the place of a topic that could not be joined to another, and try it again later."""
        if topic not in self._here:
            return
        refusals = self._refusals.get(topic, 0)
        self._refusals[topic] = refusals + 1
        delay = rejoin_delay(refusals, random.random, unauthorized=(refusals + 1) * unauthorized)
        self._resting[topic] = self._loop.call_later(delay, self._rested, topic)
        self._end(topic)

    def gave_way(self, topic: str) -> None:
        """Give the place of a busy topic to the one that has waited longest."""
        if topic in self._here:
            self._queue[topic] = None
            self._end(topic)

    def look(self) -> None:
        """Leave what was idle for long, and let busy topics give way to those that wait."""
        now = self._loop.time()
        for topic, stay in list(self._here.items()):
            if stay.idle_since is not None and now - stay.idle_since >= IDLE:
                self._end(topic)
            elif stay.idle_since is None and self._queue and now - stay.since >= SLICE:
                stay.since = now
                self._ask(topic)

    def close(self) -> None:
        """Join nothing more."""
        self._queue.clear()
        for timer in self._resting.values():
            timer.cancel()

    def _rested(self, topic: str) -> None:
        del self._resting[topic]
        self.want(topic)

    def _end(self, topic: str) -> None:
        del self._here[topic]
        self._leave(topic)
        self._fill()

    def _fill(self) -> None:
        while self._queue:
            if len(self._here) >= PLACES and not self._make_room():
                return
            topic = next(iter(self._queue))
            del self._queue[topic]
            self._here[topic] = _Stay(self._loop.time())
            self._join(topic)

    def _make_room(self) -> bool:
        idle = next((topic for topic, stay in self._here.items() if stay.idle_since is not None), None)
        if idle is None:
            return False
        del self._here[idle]
        self._leave(idle)
        return True
