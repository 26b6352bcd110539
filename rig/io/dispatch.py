"""
From the core's messages to the workers' rings: route, gather, publish, once per batch.

One record per worker per batch, then its doorbell. What happens when a ring is full is for `rig.io.overflow` to say.
"""

import time
from collections.abc import Sequence

from rig.counters import Page
from rig.io.outlet import Outlet
from rig.io.overflow import Overflow
from rig.io.router import BY_EVENT, UNROUTED, Router
from rig.phoenix.message import AnyMessage
from rig.records import Kind
from rig.routing import shard


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
        self._again: list[int] = []

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
        left_out = {UNROUTED: 0, BY_EVENT: 0}
        for message in messages:
            try:
                slot = memo[message.topic][message.event]
            except KeyError:
                slot = find(message.topic, message.event)
            if slot.worker < 0:
                chosen = slot.choose(message.payload, message.join_ref is not None)
                if chosen is None:
                    left_out[slot.worker] += 1
                    continue
                slot = chosen
            outlet = outlets[slot.worker]
            if slot.names is not outlet.names:
                outlet.names.enter(slot)
            outlet.numbers.append(slot.number)
            outlet.payloads.append(message.payload)
        waits = self._publish(now, binary=binary)
        unrouted, duplicates = left_out[UNROUTED], left_out[BY_EVENT]
        words[self._routed] += count - unrouted - duplicates
        if unrouted or duplicates:
            self._page.add("unrouted", unrouted)
            self._page.add("duplicates", duplicates)
        if waits:
            self._overflow.judge()

    def redeliver(self, messages: Sequence[AnyMessage], *, binary: bool) -> None:
        """Publish events that were received before and are to be tried again, whatever their cursors and policies are."""
        routed = 0
        for message in messages:
            slot = self._router.slot(message.topic, message.event, message.payload)
            if slot.worker >= 0:
                outlet = self._outlets[slot.worker]
                outlet.numbers.append(outlet.number(slot))
                outlet.payloads.append(message.payload)
                routed += 1
        self._page.add("received", routed)
        self._page.add("routed", routed)
        if self._publish(time.monotonic_ns(), binary=binary, keep=True):
            self._overflow.judge()
        self._again = [outlet.queued for outlet in self._outlets]

    @property
    def settled(self) -> bool:
        """True if all that was to be tried again, or announced, is in the rings, or stored."""
        return all(outlet.safe >= given for outlet, given in zip(self._outlets, self._again, strict=False))

    def announce(self, topic: str, record: bytes, kind: Kind) -> None:
        """Put a record that holds no event behind the events of a topic that were received before."""
        if self._draining:
            return
        outlet = self._outlets[shard(topic.encode(), len(self._outlets))]
        if outlet.send(record, kind, time_ns=time.monotonic_ns()):
            self._overflow.judge()
        self._again = [outlet.queued for outlet in self._outlets]

    def stop(self) -> None:
        """Take no more events."""
        self._draining = True

    async def drain(self) -> None:
        """Take no more events, and return when what was taken is in the rings."""
        self.stop()
        await self._overflow.drain()

    def _publish(self, now_ns: int, *, binary: bool, keep: bool = False) -> bool:
        """Make records of what was gathered, and say whether something waits for room."""
        waits = False
        for outlet in self._outlets:
            if outlet.numbers:
                waits = outlet.publish(now_ns, binary=binary, keep=keep) or waits
        return waits
