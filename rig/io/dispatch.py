"""
From the core's messages to the workers' rings: route, gather, publish, once per batch.

One record per worker per batch, then its doorbell. What happens when a ring is full is for `rig.io.overflow` to say.
"""

import time
from collections.abc import Sequence

from rig.counters import Page
from rig.io.outlet import Outlet
from rig.io.overflow import Overflow
from rig.io.router import Router, SlotByEvent
from rig.phoenix.message import AnyMessage


class Dispatch:
    """Takes batches of messages."""

    def __init__(self, router: Router, outlets: Sequence[Outlet], overflow: Overflow, *, page: Page) -> None:
        """
        Connect the router with the rings.

        Args:
            router: Knows the worker of each event.
            outlets: One per worker.
            overflow: Is told when something waits in an outlet.
            page: The io process's counters.
        """
        self._router, self._outlets, self._overflow, self._page = router, outlets, overflow, page
        self._batches, self._received, self._routed = (page.index[name] for name in ("batches", "received", "routed"))
        self._draining = False

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
        waits = False
        for outlet in outlets:
            if outlet.numbers:
                waits = outlet.publish(now, binary=binary) or waits
        words[self._routed] += count - unrouted
        if unrouted:
            self._page.add("unrouted", unrouted)
        if waits:
            self._overflow.judge()

    @property
    def settled(self) -> bool:
        """True if all that was taken is in the rings."""
        return not any(outlet.full for outlet in self._outlets)

    async def drain(self) -> None:
        """Take no more events, and return when what was taken is in the rings."""
        self._draining = True
        await self._overflow.drain()
