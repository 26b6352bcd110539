"""
Which worker takes an event: found once for each (topic, event), then looked up.
"""

from collections.abc import Sequence
from typing import Any

from rig.control import RouteSpec
from rig.keys import KeyOf, payload_key
from rig.routing import Pattern, shard

UNROUTED = -1
BY_EVENT = -2
MEMO_LIMIT = 100_000
"""Names of events that are remembered; a server that makes up more starts the memory over."""


class Slot:
    """
    What (topic, event) means to the io process.

    Attributes:
        topic: The topic.
        event: The event's name.
        worker: Which worker takes it; `UNROUTED` if no handler wants it, `BY_EVENT` if that depends on the event.
        names: The names that it was last entered into.
        number: Its number among them.
    """

    __slots__ = ("event", "names", "number", "topic", "worker")

    def __init__(self, topic: str, event: str, worker: int) -> None:
        self.topic, self.event, self.worker = topic, event, worker
        self.names: object = None
        self.number = 0


class SlotByEvent(Slot):
    """A slot whose events go to different workers, by a field of the payload, or in turn where order does not matter."""

    __slots__ = ("_key", "_next", "_slots")

    def __init__(self, topic: str, event: str, workers: int, key: KeyOf | None) -> None:
        super().__init__(topic, event, BY_EVENT)
        self._slots = [Slot(topic, event, worker) for worker in range(workers)]
        self._key, self._next = key, 0

    def choose(self, payload: Any) -> Slot:
        """Return the slot of one event."""
        if self._key is None:
            self._next = (self._next + 1) % len(self._slots)
            return self._slots[self._next]
        key = self._key(payload)
        return self._slots[shard(self.topic.encode() if key is None else key, len(self._slots))]


class Router:
    """The routes of the application, with a memory of what was asked."""

    def __init__(self, routes: Sequence[RouteSpec], workers: int) -> None:
        self._routes = [(Pattern(route.topic, route.event), route.key) for route in routes]
        self._keys = {key: payload_key(key) for _, key in self._routes if key is not None and key != "topic"}
        self._workers = workers
        self._remembered = 0
        self.memo: dict[str, dict[str, Slot]] = {}
        """Topic → event → slot."""

    def find(self, topic: str, event: str) -> Slot:
        """Return the slot of (topic, event), and remember it. The first route that matches gives the ordering key."""
        self._remembered += 1
        if self._remembered > MEMO_LIMIT:
            self.memo.clear()
            self._remembered = 1
        slot = self.memo.setdefault(topic, {})[event] = self._make(topic, event)
        return slot

    def _make(self, topic: str, event: str) -> Slot:
        key = next((key for pattern, key in self._routes if pattern.match(topic, event) is not None), "")
        if key == "":
            return Slot(topic, event, UNROUTED)
        if key == "topic" or self._workers == 1:
            return Slot(topic, event, shard(topic.encode(), self._workers))
        return SlotByEvent(topic, event, self._workers, None if key is None else self._keys[key])
