"""
From the core's messages to the workers' rings: route, gather, publish, once per batch.

One record per worker per batch, then its doorbell. When a ring is full, what belongs in it waits here, reading from the
socket pauses, and goes on when every ring is at most half full: nothing is dropped, and order holds.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from rig.counters import Page
from rig.errors import RingFull
from rig.io.router import Router, Slot, SlotByEvent
from rig.phoenix.message import AnyMessage
from rig.records import Kind, encode_events, encode_names
from rig.ring import Doorbell, Producer, RingMemory

_LOOK_AGAIN = 0.001
"""Seconds after which a full ring is looked at again."""
_NAMES_KEPT = 512
"""Pairs of topic and event in the names of a record, beyond which they start over."""


class Names:
    """The pairs of topic and event that the records to one worker refer to by number, kept while they are few."""

    __slots__ = ("_all", "_names", "_one")

    def __init__(self) -> None:
        self._names: list[str] = []
        self._all: bytes | None = None
        self._one: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._names) // 2

    def enter(self, slot: Slot) -> None:
        """Give the slot a number."""
        slot.names, slot.number = self, len(self)
        self._names += (slot.topic, slot.event)
        self._all = None

    def encode(self, numbers: list[int]) -> tuple[bytes, list[int]]:
        """
        Return the names for a record of events with these numbers, encoded, and the numbers that the events have there.

        All pairs if the record is as long as they are many: the same bytes for as long as none is added. Else only its own.
        """
        if len(numbers) >= len(self):
            if self._all is None:
                self._all = encode_names(self._names)
            return self._all, numbers
        if len(numbers) == 1:
            number = numbers[0]
            one = self._one.get(number)
            if one is None:
                one = self._one[number] = encode_names(self._names[2 * number : 2 * number + 2])
            return one, [0]
        order = {number: index for index, number in enumerate(dict.fromkeys(numbers))}
        names = [name for number in order for name in self._names[2 * number : 2 * number + 2]]
        return encode_names(names), [order[number] for number in numbers]


class Outlet:
    """The way to one worker: its ring, its doorbell, and what waits for room."""

    def __init__(self, memory: RingMemory, bell: Doorbell) -> None:
        self._producer, self._bell = Producer(memory), bell
        self._half = memory.capacity // 2
        self._largest = memory.max_payload
        self._waiting: deque[tuple[bytes, int, Kind, int]] = deque()
        self.names = Names()
        self.numbers: list[int] = []
        """For each event gathered for the next record, the number of its names."""
        self.payloads: list[Any] = []
        """For each, its payload."""
        bell.ring()  # for what a predecessor published and died before it rang

    def publish(self, time_ns: int, *, binary: bool) -> int:
        """Make records of what was gathered, ring the doorbell, and return how many events are too large for the ring."""
        numbers, self.numbers = self.numbers, []
        payloads, self.payloads = self.payloads, []
        too_large = self._add(numbers, payloads, Kind.EVENTS_BINARY if binary else Kind.EVENTS, time_ns)
        if len(self.names) > _NAMES_KEPT:
            self.names = Names()
        self.flush()
        return too_large

    def flush(self) -> None:
        """Put what waits into the ring, as far as there is room, and ring the doorbell."""
        waiting = self._waiting
        try:
            while waiting:
                payload, count, kind, time_ns = waiting[0]
                self._producer.put(payload, kind=kind, count=count, time_ns=time_ns)
                waiting.popleft()
        except RingFull:
            pass
        self._bell.ring()

    @property
    def full(self) -> bool:
        """True if something waits for room."""
        return bool(self._waiting)

    @property
    def roomy(self) -> bool:
        """True if nothing waits, and the ring is at most half full."""
        return not self._waiting and self._producer.used_bytes <= self._half

    def _add(self, numbers: list[int], payloads: list[Any], kind: Kind, time_ns: int) -> int:
        """Queue events as records that fit the ring: cut them in halves while they do not."""
        names, own = self.names.encode(numbers)
        record = encode_events(names, own, payloads, binary=kind is Kind.EVENTS_BINARY)
        if len(record) <= self._largest:
            self._waiting.append((record, len(numbers), kind, time_ns))
            return 0
        if len(numbers) == 1:
            return 1
        half = len(numbers) // 2
        return self._add(numbers[:half], payloads[:half], kind, time_ns) + self._add(numbers[half:], payloads[half:], kind, time_ns)


class Dispatch:
    """Takes batches of messages; pauses and resumes reading by the two callables."""

    def __init__(
        self,
        router: Router,
        outlets: Sequence[Outlet],
        *,
        page: Page,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        """
        Connect the router with the rings.

        Args:
            router: Knows the worker of each event.
            outlets: One per worker.
            page: The io process's counters.
            pause: Called when a ring is full.
            resume: Called when all have room again.
        """
        self._router, self._outlets = router, outlets
        self._page, self._pause, self._resume = page, pause, resume
        self._batches, self._received, self._routed = (page.index[name] for name in ("batches", "received", "routed"))
        self._paused = False
        self._draining = False
        self._drained = asyncio.Event()

    def dispatch(self, messages: Sequence[AnyMessage], *, binary: bool) -> None:
        """Publish a batch of events, all of one kind of frame."""
        words, count = self._page.words, len(messages)
        words[self._batches] += 1
        words[self._received] += count
        if self._draining:
            self._page.add("late", count)
            return
        now = time.monotonic_ns()
        memo, find = self._router.memo, self._router.find
        outlets = self._outlets
        unrouted = 0
        for message in messages:
            try:
                slot = memo[message.topic][message.event]
            except KeyError:
                slot = find(message.topic, message.event)
            if slot.worker < 0:
                if not isinstance(slot, SlotByEvent):
                    unrouted += 1
                    continue
                slot = slot.choose(message.payload)
            outlet = outlets[slot.worker]
            if slot.names is not outlet.names:
                outlet.names.enter(slot)
            outlet.numbers.append(slot.number)
            outlet.payloads.append(message.payload)
        too_large, full = 0, False
        for outlet in outlets:
            if outlet.numbers:
                too_large += outlet.publish(now, binary=binary)
                full = full or outlet.full
        words[self._routed] += count - unrouted - too_large
        if unrouted or too_large:
            self._page.add("unrouted", unrouted)
            self._page.add("oversize", too_large)
        if full and not self._paused:
            self._hold()

    async def drain(self) -> None:
        """Take no more events, and return when what was taken is in the rings."""
        self._draining = True
        if self._paused:
            await self._drained.wait()

    def _hold(self) -> None:
        self._paused = True
        self._drained.clear()
        self._page.add("pauses")
        self._pause()
        asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        for outlet in self._outlets:
            outlet.flush()
        empty = not any(outlet.full for outlet in self._outlets)
        if empty and (self._draining or all(outlet.roomy for outlet in self._outlets)):
            self._paused = False
            self._drained.set()
            self._resume()
        else:
            asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)
