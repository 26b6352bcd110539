"""A mock server that does its worst, by chance and again the same way for the same seed."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from mock_server.server import MockServer

CODES = (0, 1000, 1001, 1002, 1003, 1007, 1009, 1011, 1012, 1014, 3000, 4000, 4999)
"""Close codes; those that ask for a long wait would make a short test of it."""
STATUSES = (400, 404, 500, 502, 504)
"""Answers to an upgrade, likewise."""
_SILENCE = 2.0
"""Seconds; longer than the join time-out of its clients."""


class HostileServer:
    """
    Does harm to the clients of a server.

    Attributes:
        done: How often each harm was done.
        sent: The next number for each topic's events.
    """

    def __init__(self, server: MockServer, topics: list[str], seed: int, *, stops: bool) -> None:
        """
        Do nothing yet.

        Args:
            server: Whose clients they are.
            topics: Theirs.
            seed: What happens when.
            stops: True also ends channels in peace, which a client takes for their end.
        """
        self._server, self._topics = server, topics
        self._chance = random.Random(seed)
        self._undo: list[asyncio.TimerHandle] = []
        self._harms: list[Callable[[], None]] = [
            self._kick,
            self._drain,
            self._refuse_joins,
            self._crash,
            self._garble,
            self._repeat,
        ]
        self._harms += [self._delay, self._ignore, self._refuse_connections, *([self._stop] if stops else [])]
        self.done: Counter[str] = Counter()
        self.sent = dict.fromkeys(topics, 0)

    @property
    def complete(self) -> bool:
        """True if each harm was done at least once."""
        return len(self.done) == len(self._harms)

    async def rage(self, seconds: float, *, pause: float = 0.25) -> None:
        """
        Do harm for so long, one thing after the other with a short pause between them, and send events meanwhile; then be kind.

        The last is always the same: channels crash, and no rejoin is answered in time for a while. No reconnect helps then.
        """
        end = asyncio.get_running_loop().time() + seconds
        talking = asyncio.create_task(self._talk())
        try:
            while asyncio.get_running_loop().time() < end:
                harm = self._chance.choice(self._harms)
                harm()
                self.done[harm.__name__.removeprefix("_")] += 1
                await asyncio.sleep(self._chance.uniform(0.0, 2 * pause))
            self._end_in_silence()
            await asyncio.sleep(_SILENCE)
        finally:
            talking.cancel()
            self._server.faults.reset()

    def say(self, topic: str) -> None:
        """Send the next event of a topic."""
        self._server.publish(topic, "tick", {"i": self.sent[topic]})
        self.sent[topic] += 1

    async def _talk(self) -> None:
        """Send events and questions, a few hundred a second."""
        while True:
            topic = self._chance.choice(self._topics)
            self.say(topic)
            if self._chance.random() < 0.1:
                self._server.publish(topic, "ask", {"event": "echo", "payload": {"n": self.sent[topic]}})
            await asyncio.sleep(0.002)

    def _end_in_silence(self) -> None:
        for timer in self._undo:
            timer.cancel()
        self._server.faults.reset()
        self._server.faults.change({"reply_delay": _SILENCE})
        self._crash()

    def _kick(self) -> None:
        self._server.close_where(self._chance.choice(CODES))

    def _drain(self) -> None:
        self._server.drain()

    def _crash(self) -> None:
        for topic in self._chance.sample(self._topics, k=len(self._topics) // 3):
            self._server.kill_channels(topic)

    def _stop(self) -> None:
        for channel in self._server.hub.subscribers(self._chance.choice(self._topics)):
            channel.end("normal")

    def _refuse_joins(self) -> None:
        self._for_a_while(0.5, refuse_joins=self._chance.choice([True, "*1", "*[02468]"]))
        self._crash()

    def _garble(self) -> None:
        self._for_a_while(0.2, garble_replies=True)

    def _repeat(self) -> None:
        self._for_a_while(1.0, duplicate_replies=True)

    def _delay(self) -> None:
        self._for_a_while(0.5, reply_delay=self._chance.uniform(0.01, 0.4))

    def _ignore(self) -> None:
        self._for_a_while(1.5, ignore_heartbeats=True)

    def _refuse_connections(self) -> None:
        self._for_a_while(0.3, refuse_connections=self._chance.choice(STATUSES))
        self._kick()

    def _for_a_while(self, seconds: float, **faults: Any) -> None:
        """Switch faults on, and off again after a while."""
        kind = {name: getattr(type(self._server.faults)(), name) for name in faults}
        self._server.faults.change(faults)
        self._undo.append(asyncio.get_running_loop().call_later(seconds, self._server.faults.change, kind))
