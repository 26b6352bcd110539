"""
Which worker takes an event: found once for each (topic, event), then looked up.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rig.control import RouteSpec
from rig.cursors import CursorOf, cursor_reader
from rig.io.track import Track
from rig.keys import KeyOf, payload_key
from rig.routing import Overflow, Pattern, shard

DROPPING = frozenset(("drop_oldest", "drop_newest", "latest"))
"""The policies that lose events on purpose."""
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
        route: The number of the first route that matches.
        overflow: What happens to its events when the worker cannot keep up.
        names: The names that it was last entered into.
        number: Its number among them.
    """

    __slots__ = ("_key", "event", "names", "number", "overflow", "route", "topic", "worker")

    def __init__(
        self, topic: str, event: str, worker: int, *, route: int = -1, overflow: Overflow = "block", key: KeyOf | None = None
    ) -> None:
        self.topic, self.event, self.worker, self.route, self.overflow = topic, event, worker, route, overflow
        self._key = key
        self.names: object = None
        self.number = 0

    def choose(self, payload: Any, pushed: bool = False) -> "Slot | None":
        """
        Return the slot of one event, None if it is not to be handled; asked where `worker` does not say.

        Args:
            payload: As it came.
            pushed: True if the channel sent it to us alone, False if it may be a broadcast.
        """
        return None if self.worker == UNROUTED else self

    def key(self, payload: Any) -> bytes:
        """Return what an event is ordered by; the topic where order does not matter."""
        found = None if self._key is None else self._key(payload)
        return self.topic.encode() if found is None else found


class SlotByEvent(Slot):
    """A slot whose events go to different workers, by a field of the payload, or in turn where order does not matter."""

    __slots__ = ("_next", "_slots")

    def __init__(self, topic: str, event: str, workers: int, *, route: int, overflow: Overflow, key: KeyOf | None) -> None:
        super().__init__(topic, event, BY_EVENT, route=route, overflow=overflow, key=key)
        self._slots = [Slot(topic, event, worker, route=route, overflow=overflow, key=key) for worker in range(workers)]
        self._next = 0

    def choose(self, payload: Any, pushed: bool = False) -> Slot | None:
        """Return the slot of one event."""
        if self._key is None:
            self._next = (self._next + 1) % len(self._slots)
            return self._slots[self._next]
        return self._slots[shard(self.key(payload), len(self._slots))]


class SlotByCursor(SlotByEvent):
    """
    A slot whose events have a cursor: those that were received before are not handled again.

    Attributes:
        inner: What it would be without a cursor.
        read: Payload → cursor, None if it has none.
        track: Of the topic.
    """

    __slots__ = ("inner", "read", "track")

    def __init__(self, slot: Slot, read: CursorOf, track: Track) -> None:
        super().__init__(slot.topic, slot.event, 0, route=slot.route, overflow=slot.overflow, key=None)
        self.inner, self.read, self.track = slot, read, track

    def choose(self, payload: Any, pushed: bool = False) -> Slot | None:
        """Return the slot of one event, None if it was received before."""
        cursor = self.read(payload)
        if cursor is not None and not self.track.admit(cursor, pushed):
            return None
        return self.inner if self.inner.worker >= 0 else self.inner.choose(payload)


class Router:
    """The routes of the application, with a memory of what was asked."""

    def __init__(
        self,
        routes: Sequence[RouteSpec],
        workers: int,
        *,
        overflow: Overflow = "spill",
        tracks: Callable[[str], Track] | None = None,
    ) -> None:
        """
        Compile the routes.

        Args:
            routes: In the order of declaration.
            workers: How many there are.
            overflow: For routes that do not say.
            tracks: Returns the track of a topic; None passes over cursors.
        """
        self._routes = [(Pattern(route.topic, route.event), route) for route in routes]
        self._keys = {route.key: payload_key(route.key) for route in routes if route.key is not None and route.key != "topic"}
        self._cursors = [(pattern, route.cursor, route.key) for pattern, route in self._routes if route.cursor]
        self._readers = {path: cursor_reader(path) for _, path, _ in self._cursors if path is not None}
        self._workers, self._overflow, self._tracks = workers, overflow, tracks
        self._remembered = 0
        self._muted: set[str] = set()
        self._beneath: dict[tuple[str, str], Slot] = {}
        """What events of muted topics would be, for those that came before."""
        self.memo: dict[str, dict[str, Slot]] = {}
        """Topic → event → slot."""

    def known(self, topic: str, event: str) -> Slot:
        """Return the slot of (topic, event)."""
        found = self.memo.get(topic, {}).get(event)
        return self.find(topic, event) if found is None else found

    def slot(self, topic: str, event: str, payload: Any) -> Slot:
        """Return the slot of one event that came before, whatever its cursor is, and whether its topic is muted now."""
        known = self._known_beneath(topic, event) if topic in self._muted else self.known(topic, event)
        slot = known.inner if isinstance(known, SlotByCursor) else known
        return slot.choose(payload) or slot

    def has_cursor(self, topic: str) -> bool:
        """Return True if events of the topic may have a cursor."""
        return any(pattern.covers(topic) for pattern, _, _ in self._cursors)

    def goes_to_one_worker(self, topic: str) -> bool:
        """Return True if all events of the topic that may have a cursor go to the same worker."""
        return self._workers == 1 or all(key == "topic" for pattern, _, key in self._cursors if pattern.covers(topic))

    def find(self, topic: str, event: str) -> Slot:
        """Return the slot of (topic, event), and remember it. The first route that matches gives ordering key and policy."""
        self._remembered += 1
        if self._remembered > MEMO_LIMIT:
            self.memo.clear()
            self._remembered = 1
        slot = self.memo.setdefault(topic, {})[event] = self._make(topic, event)
        return slot

    def mute(self, topic: str) -> None:
        """Route nothing of this topic: it is joined only to push to it."""
        self._muted.add(topic)
        self.memo.pop(topic, None)

    def unmute(self, topic: str) -> None:
        """Route it as the application wants."""
        self._muted.discard(topic)
        self._beneath.clear()
        self.memo.pop(topic, None)

    def _known_beneath(self, topic: str, event: str) -> Slot:
        if len(self._beneath) > MEMO_LIMIT:
            self._beneath.clear()
        found = self._beneath.get((topic, event))
        if found is None:
            found = self._beneath[topic, event] = self._by_key(topic, event)
        return found

    def _make(self, topic: str, event: str) -> Slot:
        if topic in self._muted:
            return Slot(topic, event, UNROUTED)
        slot = self._by_key(topic, event)
        if self._tracks is None or slot.worker == UNROUTED:
            return slot
        path = next((path for pattern, path, _ in self._cursors if path and pattern.match(topic, event) is not None), None)
        return slot if path is None else SlotByCursor(slot, self._readers[path], self._tracks(topic))

    def _by_key(self, topic: str, event: str) -> Slot:
        number = next((number for number, (pattern, _) in enumerate(self._routes) if pattern.match(topic, event) is not None), None)
        if number is None:
            return Slot(topic, event, UNROUTED)
        route = self._routes[number][1]
        overflow, key = route.overflow or self._overflow, self._keys.get(route.key or "")
        if route.key == "topic" or self._workers == 1:
            worker = shard(topic.encode(), self._workers)
            return Slot(topic, event, worker, route=number, overflow=overflow, key=key)
        return SlotByEvent(topic, event, self._workers, route=number, overflow=overflow, key=key)
