"""
Named points in time, and which of them comes first.

Setting, cancelling and asking for the earliest are all cheap with a hundred thousand timers: a cancelled one stays in
the heap until it comes up or until the dead outnumber the living.
"""

import math
from collections.abc import Hashable
from heapq import heapify, heappop, heappush


class Timers:
    """A heap of (time, key) with lazy deletion. Times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self._set: dict[Hashable, int] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._set)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._set

    def set(self, key: Hashable, when: float) -> None:
        """Set the timer, in place of one with the same key."""
        self._sequence += 1
        self._set[key] = self._sequence
        heappush(self._heap, (when, self._sequence, key))
        if len(self._heap) > 2 * len(self._set) + 64:
            self._heap = [entry for entry in self._heap if self._set.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def cancel(self, key: Hashable) -> None:
        """Drop the timer if it is set."""
        self._set.pop(key, None)

    def due(self, now: float) -> list[Hashable]:
        """Return the keys whose time has come, and drop them: earliest first, and of those with one time the one set first."""
        keys = []
        while self._heap and self._heap[0][0] <= now:
            _, sequence, key = heappop(self._heap)
            if self._set.get(key) == sequence:
                del self._set[key]
                keys.append(key)
        return keys

    @property
    def deadline(self) -> float:
        """The earliest time, `math.inf` if none is set."""
        while self._heap:
            when, sequence, key = self._heap[0]
            if self._set.get(key) == sequence:
                return when
            heappop(self._heap)
        return math.inf
