"""
What the supervisor can say of a run: totals, rates and quantiles, read from the shared counters, and where it stands.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from rig.backoff import Cause
from rig.control import State
from rig.counters import IO_COUNTERS, WORKER_COUNTERS, Page, merge, quantile, seconds_in_states
from rig.supervisor.memory import SharedMemory

_WORST_FIRST = ("draining", "offline", "connecting", "degraded", "connected")
_ENDS_KEPT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """
    Counts since the start. `handled` events are done with and committed, those that were given up included; `late` ones came
    after the drain had begun, and nobody handles them; `pushes_unsent` are lost, because the server had not taken them at the end.
    `durable_stored` are the durable pushes of the handlers; those of `rig push --durable` count when they are acknowledged, or
    buried: with the dead letters.
    """

    batches: int
    received: int
    routed: int
    handled: int
    failed: int
    invalid: int
    quarantined: int
    redelivered: int
    retried: int
    malformed: int
    oversize: int
    unrouted: int
    late: int
    dropped: int
    reconnects: int
    pushes: int
    pushes_unsent: int
    recovered: int
    dropped_oldest: int
    dropped_newest: int
    dropped_latest: int
    dropped_large: int
    spilled: int
    spill_backlog: int
    duplicates: int
    gaps_nothing_missed: int
    gaps_replayed: int
    gaps_not_replayed: int
    durable_stored: int
    durable_refused: int
    durable_acknowledged: int
    durable_buried: int

    @property
    def unfinished(self) -> int:
        """Events that are in the rings, in spill.db or in hand."""
        dropped = self.dropped_oldest + self.dropped_newest + self.dropped_latest + self.dropped_large
        return max(self.routed - self.handled - dropped, 0)


_OF_IO = tuple(field.name for field in fields(Totals) if field.name in IO_COUNTERS)


@dataclass(frozen=True, slots=True)
class Interval:
    """
    What happened since the last look.

    Attributes:
        rate: Events handled per second.
        p50: Median of received → handler start, in seconds; None if there was no event.
        p99: Likewise.
        fill: How full the fullest events ring is, 0 to 1.
    """

    rate: float
    p50: float | None
    p99: float | None
    fill: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """
    The figures of one connection since the start.

    Attributes:
        seconds: State → how long it stood so.
        reconnects: What a connection was lost by → how often another came back after it; what never came about is left out.
        rtt: Seconds that the latest heartbeat took; None if there was none on this connection.
        rtt_p50: Median of all heartbeats, in seconds; None if there was none.
        rtt_p99: Likewise.
        heartbeats_missed: How many were not answered in time.
    """

    seconds: Mapping[str, float]
    reconnects: Mapping[str, int]
    rtt: float | None
    rtt_p50: float | None
    rtt_p99: float | None
    heartbeats_missed: int


class Status:
    """Reads the counters of a run."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._pages = [worker.page for worker in memory.workers]
        self._then = time.monotonic()
        self._handled = 0
        self._latency = self._histogram("latency")

    def totals(self) -> Totals:
        """Return the counts since the start."""
        of_io = {name: _sum(self._memory.io_pages, name) for name in _OF_IO}
        return Totals(**of_io, **{name: _sum(self._pages, name) for name in WORKER_COUNTERS})

    def interval(self) -> Interval:
        """Return what happened since the last call."""
        now, handled, latency = time.monotonic(), _sum(self._pages, "handled"), self._histogram("latency")
        recent = [new - old for new, old in zip(latency, self._latency, strict=True)]
        rate = (handled - self._handled) / max(now - self._then, 1e-9)
        self._then, self._handled, self._latency = now, handled, latency
        fill = max(worker.fill for worker in self._memory.workers)
        return Interval(rate, quantile(recent, 0.5), quantile(recent, 0.99), fill)

    def latency(self, fraction: float) -> float | None:
        """Return a quantile of received → handler start since the start, in seconds."""
        return quantile(self._histogram("latency"), fraction)

    def links(self) -> list[Link]:
        """Return the figures of each io process's connection."""
        return [_link(page) for page in self._memory.io_pages]

    def _histogram(self, name: str) -> list[int]:
        return merge(page.buckets(name) for page in self._pages)


def overall(states: Mapping[str, State]) -> State:
    """
    Return where a run stands: `connected` only if all its io processes are, else as the worst of them, with its reason.

    Args:
        states: By the names of the io processes, at least one. Where there are several the reason says whose it is.
    """
    worst = min(states, key=lambda name: _WORST_FIRST.index(states[name].state))
    state, reason = states[worst].state, states[worst].reason
    if reason and len(states) > 1:
        reason = f"{worst}: {reason}"
    disconnects = sorted((end for one in states.values() for end in one.disconnects), key=lambda end: end.at)
    return State(state, reason, sum(one.joined for one in states.values()), states[worst].since, tuple(disconnects[-_ENDS_KEPT:]))


def millis(seconds: float | None) -> float | None:
    """Return seconds as milliseconds, to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)


def _link(page: Page) -> Link:
    reconnects = {str(cause): page.get(f"reconnects_{cause}") for cause in Cause}
    beats = page.buckets("heartbeat_rtt")
    return Link(
        seconds=seconds_in_states(page, time.monotonic_ns()),
        reconnects={cause: count for cause, count in reconnects.items() if count},
        rtt=page.get("heartbeat_rtt_ns") / 1e9 or None,
        rtt_p50=quantile(beats, 0.5),
        rtt_p99=quantile(beats, 0.99),
        heartbeats_missed=page.get("heartbeats_missed"),
    )


def _sum(pages: Iterable[Page], name: str) -> int:
    return sum(page.get(name) for page in pages)
