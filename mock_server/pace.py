"""
A steady stream of broadcasts, for measuring latency without coordinated omission.

Every event carries in `t` the monotonic time in ns at which it was meant to be sent. A tick that comes late catches up,
and its lateness counts as latency.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from mock_server.flood import EventTemplate, FloodResult, group_subscribers, sized_payload
from mock_server.hub import Hub
from mock_server.socket import Socket
from mock_server.ticker import Ticker

_SHORTEST_TICK_NS = 1_000_000
_LEAD_NS = 2_000_000


class PaceRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """
    What `POST /control/pace` takes.

    Args:
        topics: Where to, round-robin.
        rate: Events per second over all topics.
        seconds: For how long.
        event: Their name.
        size: Bytes of each frame's payload.
    """

    topics: list[str]
    rate: float
    seconds: float
    event: str = "tick"
    size: int = 200


class Pace:
    """
    A stream that is ready to start. Who has joined what is settled at the start, but on topics of `history:*`: there whoever has
    joined in the moment gets it.

    Args:
        request: What to send.
        hub: Where the subscribers are.

    Raises:
        SizeTooSmall: If the size leaves no room for an event's fields.
    """

    def __init__(self, request: PaceRequest, hub: Hub) -> None:
        topics = request.topics
        self._request, self._hub = request, hub
        self._kept = frozenset(index for index, topic in enumerate(topics) if hub.history.keeps(topic))
        self._total = round(request.rate * request.seconds)
        self._topic_count = len(topics)
        self._starts = [hub.ledger.next_sequence(topic) for topic in topics]
        self._groups = group_subscribers(hub, topics)
        versions = {"2.0.0"} | {version for version, _ in self._groups}
        self._templates = {
            version: [EventTemplate(version, topic, request.event, size=request.size) for topic in topics] for version in versions
        }
        self._tick_ns = max(_SHORTEST_TICK_NS, round(1e9 / request.rate))
        self._events_per_tick = request.rate * self._tick_ns / 1e9
        self._sent = self._ticks = self._deliveries = 0
        for index, (topic, start) in enumerate(zip(topics, self._starts, strict=True)):
            hub.ledger.advance(topic, start=start, number=len(range(index, self._total, len(topics))))

    async def run(self) -> FloodResult:
        """Send everything at its time."""
        started = time.perf_counter()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        start_ns = time.monotonic_ns() + _LEAD_NS

        def tick() -> None:
            while not done.done() and start_ns + self._ticks * self._tick_ns <= time.monotonic_ns():
                self._send_tick(start_ns + self._ticks * self._tick_ns)
                if self._sent == self._total:
                    done.set_result(None)

        ticker = Ticker(start_ns, self._tick_ns, tick)
        try:
            await done
        finally:
            ticker.close()
        return FloodResult(self._sent, self._deliveries, time.perf_counter() - started)

    def _send_tick(self, intended_ns: int) -> None:
        """Send the events of one tick, in one write to each connection."""
        self._ticks += 1
        due = min(self._total, round(self._ticks * self._events_per_tick)) - self._sent
        moment = b"%d" % intended_ns
        for (version, indexes), sockets in self._groups.items():
            others = frozenset(indexes) - self._kept
            self._send_to_group(self._templates[version], others, sockets, due=due, moment=moment)
        if self._kept:
            self._send_kept(due, intended_ns)
        self._sent += due

    def _send_kept(self, due: int, intended_ns: int) -> None:
        for number in range(self._sent, self._sent + due):
            sequence, index = divmod(number, self._topic_count)
            if index in self._kept:
                payload = sized_payload(self._request.size, i=self._starts[index] + sequence, t=intended_ns)
                self._deliveries += self._hub.fan_out(self._request.topics[index], self._request.event, payload)

    def _send_to_group(
        self, templates: Sequence[EventTemplate], indexes: frozenset[int], sockets: Sequence[Socket], *, due: int, moment: bytes
    ) -> None:
        frames = []
        for number in range(self._sent, self._sent + due):
            sequence, index = divmod(number, self._topic_count)
            if index in indexes:
                frames.append(templates[index].render(b"%d" % (self._starts[index] + sequence), moment))
        if frames:
            block = b"".join(frames)
            for socket in sockets:
                socket.deliver(block)
            self._deliveries += len(frames) * len(sockets)
