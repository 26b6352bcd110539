"""What every Python contender does with its events, and how it says what it saw."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import uvloop

from rig.benchmark.app import TOPICS
from rig.benchmark.measure import quantiles
from rig.benchmark.tally import Tally

_PATIENCE = 4
"""Looks without progress, after everything was sent, that prove a loss."""
_LOOK = 0.25
_MASK = 255


class Meter:
    """
    Counts events, checks their numbers, and times them.

    Attributes:
        mode: The name of the events: "flood" or "pace".
        count: Events so far.
    """

    def __init__(self, mode: str, expected: int, topics: Sequence[str] = TOPICS) -> None:
        """
        Start at nothing.

        Args:
            mode: "flood", or "pace" if the latency of each event is to be taken.
            expected: How many events come.
            topics: Where they come.
        """
        self.mode, self.topics, self._expected = mode, topics, expected
        self.count = 0
        self._timed = mode == "pace"
        self._tally = Tally(topics)
        self._latency_ns: list[int] = []
        self._first_ns = self._last_ns = 0
        self._done = asyncio.Event()

    def note(self, topic: str, number: int, sent_ns: int) -> None:
        """Count one event that was decoded."""
        if self._timed:
            self._latency_ns.append(time.monotonic_ns() - sent_ns)
        self._tally.note(topic, number)
        self.note_frame()

    def note_frame(self, sent_ns: int = 0) -> None:
        """Count one frame, whatever is in it."""
        count = self.count = self.count + 1
        if not count & _MASK or count == 1 or count == self._expected:
            self._look_at_clock()
        if sent_ns:
            self._latency_ns.append(time.monotonic_ns() - sent_ns)

    def _look_at_clock(self) -> None:
        self._last_ns = time.monotonic_ns()
        if self.count == 1:
            self._first_ns = self._last_ns
        if self.count >= self._expected:
            self._done.set()

    async def measure(self) -> None:
        """Say that we are ready, wait until all has come or nothing more does, and print what was seen."""
        cpu = time.process_time()
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        seen, looks = -1, 0
        while not self._done.is_set() and looks < _PATIENCE:
            looks = looks + 1 if self.count == seen else 0
            seen = self.count
            await asyncio.sleep(_LOOK)
        account = self._tally.account()
        result = {
            "count": self.count,
            "first_ns": self._first_ns,
            "last_ns": self._last_ns,
            "seconds": (self._last_ns - self._first_ns) / 1e9,
            "cpu_seconds": time.process_time() - cpu,
            "reordered": account.reordered,
            "duplicated": account.duplicated,
            "latency_ms": msgspec.to_builtins(quantiles(self._latency_ns)) if self._latency_ns else None,
        }
        print(json.dumps(result), flush=True)


def joins(topics: Sequence[str]) -> list[str]:
    """Return the frames (V2) that join the topics."""
    return [json.dumps([str(n), str(n), topic, "phx_join", {}]) for n, topic in enumerate(topics, 1)]


def run(main: Callable[[str, Meter], Awaitable[None]], topics: Sequence[str] = TOPICS) -> None:
    """Run a contender on uvloop, with what its command line says."""
    url, mode, count = sys.argv[1:]

    async def start() -> None:
        await main(url, Meter(mode, int(count), topics))

    uvloop.run(start())
