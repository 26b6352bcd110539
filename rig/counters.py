"""
Counters, gauges and histograms in shared memory: one writer per page, any number of readers, no lock.

    offset 0        one 8-byte word per counter or gauge, in the order of the names
    then            one block of BUCKETS words per histogram, in the order of the names

A writer adds to a word in place (`page.words[i] += n`); a reader may see it a moment late, never torn. The page outlives
its writer, so what a killed process had counted stays counted, and its successor goes on from there.

Where a connection stands is in the page too: the number of its state, since when, and the time spent in each before.

Histograms are log-linear: eight buckets for each power of two of microseconds, so a quantile is right to 6.25 %.
"""

import mmap
import os
from collections.abc import Iterable, Sequence

from rig.app import STATES
from rig.backoff import Cause

IO_COUNTERS = (
    "connected",
    "joined",
    "batches",
    "received",
    "received_bytes",
    "routed",
    "unrouted",
    "late",
    "dropped",
    "malformed",
    "oversize",
    "pauses",
    "reconnects",
    "heartbeat_rtt_ns",
    "heartbeats_missed",
    "pushes_replied",
    "pushes_timed_out",
    "pushes_failed",
    "pushes_unsent",
    "connect_ns",
    "duplicates",
    "gaps_nothing_missed",
    "gaps_replayed",
    "gaps_not_replayed",
    "recovered",
    "dropped_oldest",
    "dropped_newest",
    "dropped_latest",
    "dropped_large",
    "spilled",
    "spill_backlog",
    "state",
    "state_since_ns",
    *(f"{state}_ns" for state in STATES),
    *(f"reconnects_{cause}" for cause in Cause),
    "durable_stored",
    "durable_refused",
    "durable_sent",
    "durable_acknowledged",
    "durable_buried",
    "dead_letters",
    "outbox_rows",
)
"""
Of the io process. Events: received + recovered (of an earlier run) = routed + unrouted + late (after a drain) + duplicates (by
cursor); of those routed, the ones that a policy dropped, and those too large for a ring that no store took, are never handled.
`spill_backlog` is how many events in spill.db no worker is done with, `pushes_unsent` how many pushes were given up at the end
because the server had not taken them. `reconnects` are connections that came back after one was lost, by what it was lost by;
attempts that failed are none.
"""
IO_HISTOGRAMS = ("heartbeat_rtt",)
WORKER_COUNTERS = ("handled", "failed", "retried", "redelivered", "quarantined", "invalid", "pushes")
WORKER_HISTOGRAMS = ("latency", "duration")
"""Of a worker. `latency`: received by the io process → handler start; `duration`: decoding and handler."""

WORD = 8
SUB_BITS = 3
BUCKETS = 27 << SUB_BITS
"""Enough for 2^28 µs, four and a half minutes; what is longer is counted in the last."""


class Page:
    """
    The memory of one writer.

    Attributes:
        fd: The descriptor to hand to another process.
        words: All words, as unsigned 64-bit integers.
        index: Name → word, of counters and gauges.
    """

    def __init__(self, fd: int, counters: Sequence[str], histograms: Sequence[str]) -> None:
        """Map the page behind a descriptor, which goes no further; both sides name the same counters in the same order."""
        os.set_inheritable(fd, False)
        self.fd = fd
        self.index = {name: i for i, name in enumerate(counters)}
        self.histograms = {name: len(counters) + i * BUCKETS for i, name in enumerate(histograms)}
        self._map = mmap.mmap(fd, _size(counters, histograms))
        self.words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, counters: Sequence[str], histograms: Sequence[str] = ()) -> "Page":
        """Make a page of zeros in anonymous memory."""
        fd = os.memfd_create("rig-counters", os.MFD_CLOEXEC)
        os.ftruncate(fd, _size(counters, histograms))
        return cls(fd, counters, histograms)

    def close(self) -> None:
        """Unmap the page and close its descriptor."""
        self.words.release()
        self._map.close()
        os.close(self.fd)

    def add(self, name: str, amount: int = 1) -> None:
        """Count up."""
        self.words[self.index[name]] += amount

    def set(self, name: str, value: int) -> None:
        """Set a gauge."""
        self.words[self.index[name]] = value

    def get(self, name: str) -> int:
        """Read a counter or a gauge."""
        return int(self.words[self.index[name]])

    def observe(self, name: str, duration_ns: int, count: int = 1) -> None:
        """Count `count` durations of so many nanoseconds in a histogram."""
        self.words[self.histograms[name] + bucket(duration_ns)] += count

    def buckets(self, name: str) -> list[int]:
        """Return how many durations fell into each bucket."""
        start = self.histograms[name]
        return self.words[start : start + BUCKETS].tolist()


def enter_state(page: Page, state: str, now_ns: int) -> None:
    """
    Note that a connection stands so from now on, and count the time that it stood as it did before.

    Args:
        page: That of its io process, or of one that is dead, so that nobody else writes to it.
        state: One of `rig.app.STATES`.
        now_ns: Nanoseconds of the monotonic clock.
    """
    since_ns = page.get("state_since_ns")
    if since_ns:
        page.add(f"{STATES[page.get('state')]}_ns", max(now_ns - since_ns, 0))
    page.set("state", STATES.index(state))
    page.set("state_since_ns", now_ns)


def seconds_in_states(page: Page, now_ns: int) -> dict[str, float]:
    """Return how long a connection stood in each state, up to now."""
    since_ns, state = page.get("state_since_ns"), page.get("state")
    running = max(now_ns - since_ns, 0) if since_ns else 0
    return {name: (page.get(f"{name}_ns") + (running if index == state else 0)) / 1e9 for index, name in enumerate(STATES)}


def bucket(duration_ns: int) -> int:
    """Return the bucket of a duration: 0 to 7 are single microseconds, then eight to each power of two."""
    micros = duration_ns // 1000
    if micros < 1 << SUB_BITS:
        return max(micros, 0)
    exponent = micros.bit_length() - SUB_BITS - 1
    return min(((exponent + 1) << SUB_BITS) + ((micros >> exponent) & ((1 << SUB_BITS) - 1)), BUCKETS - 1)


def bucket_limits(index: int) -> tuple[int, int]:
    """Return the microseconds [from, to) that a bucket holds."""
    if index < 1 << SUB_BITS:
        return index, index + 1
    exponent, rest = (index >> SUB_BITS) - 1, index & ((1 << SUB_BITS) - 1)
    start = ((1 << SUB_BITS) + rest) << exponent
    return start, start + (1 << exponent)


def quantile(buckets: Sequence[int], fraction: float) -> float | None:
    """
    Return a quantile in seconds, the middle of its bucket; None if nothing was counted.

    Args:
        buckets: Counts per bucket, summed over as many pages as wanted.
        fraction: 0.5 for the median, 0.99 for p99.
    """
    total = sum(buckets)
    if total == 0:
        return None
    rank, seen = fraction * total, 0
    for index, count in enumerate(buckets):
        if count and seen + count >= rank:
            start, end = bucket_limits(index)
            return (start + end) / 2e6
        seen += count
    return bucket_limits(len(buckets) - 1)[1] / 1e6


def merge(parts: Iterable[Sequence[int]]) -> list[int]:
    """Return the sum of several histograms, bucket by bucket."""
    return [sum(column) for column in zip(*parts, strict=True)]


def _size(counters: Sequence[str], histograms: Sequence[str]) -> int:
    return max(WORD * (len(counters) + BUCKETS * len(histograms)), mmap.PAGESIZE)
