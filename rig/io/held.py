"""
The events of one worker that may be dropped, while they wait for room: a bounded queue in memory.

What must stay true: they leave in the order of their numbers; an event never overtakes another of its key; the queue is bounded,
whatever the server sends, and holds on to nothing but its own payloads.
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import msgspec

from rig.io.router import Slot

MOST_EVENTS = 10_000
MOST_BYTES = 512 * 1024
"""Of payloads, in one queue. Beyond either the oldest event is dropped, so long as it is not the only one."""


class HeldEvent(NamedTuple):
    """
    One event.

    Attributes:
        number: Its place among all that its outlet was given.
        slot: Its topic, name and policy.
        payload: As the core gave it, but in memory of its own.
        binary: True if it came in a binary frame.
        time_ns: When it was received.
    """

    number: int
    slot: Slot
    payload: Any
    binary: bool
    time_ns: int


class Held:
    """A queue of events, of which some may be replaced by newer ones of their key."""

    def __init__(self) -> None:
        self._events: dict[Hashable, HeldEvent] = {}
        self._newest: dict[bytes, int] = {}
        """For each key that has an event of the policy `latest` here, the number of the newest."""
        self._other = 0
        """The newest number of any event that `latest` must not overtake: those whose key nobody has looked at."""
        self.size_bytes = 0
        self.dropped: Counter[str] = Counter()
        """By policy, since somebody last took them from here."""

    def __len__(self) -> int:
        return len(self._events)

    @property
    def first(self) -> int | None:
        """The smallest number, None if there is no event."""
        return next(iter(self._events.values())).number if self._events else None

    def __iter__(self) -> Iterator[HeldEvent]:
        return iter(self._events.values())

    def note_other(self, number: int) -> None:
        """Note that something with this number waits outside, which newer events must not overtake."""
        self._other = number

    def add(self, event: HeldEvent) -> bool:
        """Hold an event, and drop another where that is needed; False if it took the place, and the number, of an older one."""
        if isinstance(event.payload, msgspec.Raw):
            event = event._replace(payload=event.payload.copy())  # else a small event would keep the whole batch that it came in
        fresh = self._put(event)
        while len(self._events) > 1 and (len(self._events) > MOST_EVENTS or self.size_bytes > MOST_BYTES):
            self.dropped[self.pop().slot.overflow] += 1
        return fresh

    def pop(self) -> HeldEvent:
        """Take the first event out."""
        return self._remove(next(iter(self._events)))

    def clear(self) -> None:
        """Drop all."""
        while self._events:
            self.dropped[self.pop().slot.overflow] += 1

    def _put(self, event: HeldEvent) -> bool:
        if event.slot.overflow != "latest":
            self._other = event.number
            self._append(event.number, event)
            return True
        key = event.slot.key(event.payload)
        name = (event.slot.route, key)
        older = self._events.get(name)
        if older is not None:
            self.dropped["latest"] += 1
            if self._newest.get(key) == older.number > self._other:
                self._events[name] = event._replace(number=older.number)
                self.size_bytes += len(event.payload) - len(older.payload)
                return False
            self._remove(name)
        self._newest[key] = event.number
        self._append(name, event)
        return True

    def _append(self, name: Hashable, event: HeldEvent) -> None:
        self._events[name] = event
        self.size_bytes += len(event.payload)

    def _remove(self, name: Hashable) -> HeldEvent:
        event = self._events.pop(name)
        self.size_bytes -= len(event.payload)
        if isinstance(name, tuple) and self._newest.get(name[1]) == event.number:
            del self._newest[name[1]]
        return event
