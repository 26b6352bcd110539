"""
A proof: traffic flows, harm is done, and at the end everything is counted.

Events carry an `id`, contiguous per topic; the handlers write down what they handle and push `i = id - 1` durably to the
server, which counts by `i` and by idempotency key. Lost is a number that never came. A double is allowed where the promise is
"at least once"; each proof says how many it allows. Seeds are printed, and can be given: RIG_SEED.
"""

import asyncio
import json
import os
import random
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mock_server.server import MockServer
from tests.stage import Command, Ledger, Stage, until

HERE = Path(__file__).parent
LONG = os.environ.get("RIG_SOAK") == "long"
SETTLE = 60.0
"""Seconds after the last harm within which everything must have come."""


def scale(short: float, long: float) -> float:
    """Return how much of something this run does: `make soak` does the long one."""
    return long if LONG else short


@dataclass(slots=True)
class Figures:
    """
    What a proof counted.

    Attributes:
        name: Of the proof.
        seed: Repeats it.
        rounds: How often the harm was done.
        events: Published.
        lost: Events that no handler saw.
        repeated: Events that a handler saw more than once.
        reordered: Events that a handler saw for the first time after a later one of their topic.
        pushes_lost: Durable pushes that the server did not get.
        pushes_repeated: Those that it got again, under the same key.
        pushes_reordered: Those that it got after a later one of their topic.
        seconds: How long it took.
    """

    name: str
    seed: int
    rounds: int
    events: int
    lost: int
    repeated: int
    reordered: int
    pushes_lost: int
    pushes_repeated: int
    pushes_reordered: int
    seconds: float


class Traffic:
    """Events at a steady rate, round-robin over the topics, until told to stop; nobody need be listening."""

    def __init__(self, server: MockServer, topics: list[str], rate: float) -> None:
        self._server, self._topics, self._rate = server, topics, rate
        self.sent: dict[str, int] = dict.fromkeys(topics, 0)
        self._task: asyncio.Task[None] | None = None

    @property
    def total(self) -> int:
        """How many events were published."""
        return sum(self.sent.values())

    def start(self, server: MockServer | None = None) -> None:
        """Publish, on another server if one is given."""
        self._server = server or self._server
        self._task = asyncio.create_task(self._run(), name="traffic")

    async def stop(self) -> None:
        """Publish no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        started, count = time.monotonic(), 0
        while True:
            due = (time.monotonic() - started) * self._rate
            while count < due:
                topic = self._topics[count % len(self._topics)]
                self._server.publish(topic, "tick", {})
                self.sent[topic] += 1
                count += 1
            await asyncio.sleep(0.005)


class Proof:
    """One run of rig on a stage, with its traffic, its seed and its account."""

    def __init__(self, stage: Stage, name: str, *, topics: int = 8, rate: float = 1000.0) -> None:
        self.stage, self.name = stage, name
        self.seed = int(os.environ.get("RIG_SEED") or random.SystemRandom().randrange(1 << 32))
        print(f"{name}: RIG_SEED={self.seed}")  # noqa: T201 - pytest shows it when the test fails
        self.random = random.Random(self.seed)
        self.topics = [f"history:{number}" for number in range(topics)]
        self.traffic = Traffic(stage.server, self.topics, rate)
        self.rounds = 0
        self._started = time.monotonic()

    async def run(self, *options: str, workers: int = 2, url: str | None = None, **environment: str) -> Command:
        """Start rig, and return when all topics are joined."""
        rig = await self.stage.rig(
            *("run", "proof_app:app", "--app-dir", str(HERE), "--url", url or self.stage.server.url, "--workers", str(workers)),
            *("--log-format", "json", "--status-interval", "0", "--state-dir", str(self.stage.state), *options),
            LEDGER_TOPICS=str(len(self.topics)),
            **environment,
        )
        if url is None:
            await self.until_joined(rig)
        return rig

    async def until_joined(self, rig: Command, *, within: float = SETTLE) -> None:
        """Return when the server sees rig in all its topics."""
        wanted = set(self.topics)
        await until(lambda: self.stage.joined() >= wanted or rig.process.returncode is not None, within=within)
        assert rig.process.returncode is None, "\n".join(rig.err)

    async def pause(self, shortest: float, longest: float) -> None:
        """Let traffic flow for a random while."""
        await asyncio.sleep(self.random.uniform(shortest, longest))

    def kill(self, pid: int) -> None:
        """`kill -9`."""
        self.rounds += 1
        os.kill(pid, signal.SIGKILL)

    async def settle(self, *, within: float = SETTLE) -> None:
        """End the traffic, and wait until every event was handled and every push has come."""
        await self.traffic.stop()
        end = time.monotonic() + within
        while not self._complete():
            assert time.monotonic() < end, f"not everything has come: {self._count()}"
            await asyncio.sleep(0.1)

    def _complete(self) -> bool:
        received = self.stage.server.received
        if any(received.topic(f"ledger:{topic.partition(':')[2]}").unique < count for topic, count in self.traffic.sent.items()):
            return False
        handled = firsts(self.stage.ledger, self.topics)
        return all(len(handled[topic][0]) >= count for topic, count in self.traffic.sent.items())

    def account(self) -> Figures:
        """Count, write the figures down for the report, and return them."""
        figures = self._count()
        if (file := os.environ.get("RIG_RELIABILITY")) is not None:
            with Path(file).open("a", encoding="utf-8") as out:
                out.write(json.dumps(asdict(figures)) + "\n")
        print(figures)  # noqa: T201
        return figures

    def _count(self) -> Figures:
        handled = firsts(self.stage.ledger, self.topics)
        lost = sum(count - len(handled[topic][0]) for topic, count in self.traffic.sent.items())
        received = [self.stage.server.received.topic(f"ledger:{topic.partition(':')[2]}") for topic in self.topics]
        counts = list(self.traffic.sent.values())
        return Figures(
            self.name,
            self.seed,
            self.rounds,
            self.traffic.total,
            lost,
            sum(repeated for _, repeated, _ in handled.values()),
            sum(reordered for _, _, reordered in handled.values()),
            sum(count - tally.unique + tally.repeated for tally, count in zip(received, counts, strict=True)),
            sum(tally.duplicates for tally in received),
            sum(tally.reordered for tally in received),
            round(time.monotonic() - self._started, 1),
        )


def firsts(ledger: Ledger, topics: list[str]) -> dict[str, tuple[set[int], int, int]]:
    """Return for each topic the ids that were handled, how many lines repeat one, and how many came after a later one."""
    seen: dict[str, set[int]] = {topic: set() for topic in topics}
    latest = dict.fromkeys(topics, 0)
    repeated, reordered = dict.fromkeys(topics, 0), dict.fromkeys(topics, 0)
    for topic, number in ledger.all("tick"):
        if number in seen[topic]:
            repeated[topic] += 1
            continue
        seen[topic].add(number)
        reordered[topic] += number < latest[topic]
        latest[topic] = max(latest[topic], number)
    return {topic: (seen[topic], repeated[topic], reordered[topic]) for topic in topics}


def promised(figures: Figures, *, repeated: int = 0) -> dict[str, Any]:
    """Return what is not as promised: nothing lost or out of order; at most so many events repeated."""
    wrong = {
        name: value
        for name, value in asdict(figures).items()
        if name in ("lost", "reordered", "pushes_lost", "pushes_reordered") and value
    }
    return wrong | ({"repeated": figures.repeated} if figures.repeated > repeated else {})
