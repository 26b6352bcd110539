"""
A planned hand-over: a second connection takes the place of the first, and is there before the first is given up.

    joining     the new connection joins every topic that the old one has; the old one alone speaks, the new one is passed over
    leaving     all are joined: the new connection is the one from now on, and topic by topic leaves the old one (`Departure`)

Nothing leaves the old connection before everything is joined on the new one: until then the hand-over can be called off at any
time, and nothing has happened. Topic by topic, an end of the new connection in between would have taken along those that had moved
already, and a server that refuses one topic would have split the topics between two connections.

The two may be of different kinds. A WebSocket is not given up for a long-poll to the same endpoint, though: it works, and would be
back only at the next dial.

What must stay true: if the new connection fails before all are joined, the old one stays as it is; a hand-over ends, once.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rig.connection import Connection
from rig.dialling import Dialler
from rig.errors import HandOverFailed
from rig.io.departure import Departure, Received
from rig.phoenix import ChannelState, Push, events

_JOINED_WITHIN = 120.0
"""Seconds after which a hand-over is called off whose topics are not all joined."""


@dataclass(eq=False, slots=True)
class Leg:
    """One of the two connections, and how it was dialled."""

    dialler: Dialler
    connection: Connection


@dataclass(frozen=True, slots=True)
class HandedOver:
    """
    What a hand-over has come to.

    Attributes:
        endpoint: Where the connection is now, with secrets masked.
        topics: How many were taken along.
        seconds: From its beginning until the old connection had nothing more to say.
    """

    endpoint: str
    topics: int
    seconds: float


class HandOver:
    """
    One hand-over. All methods are called on the loop's thread.

    Attributes:
        result: What it has come to; `HandOverFailed` if the old connection stays.
    """

    def __init__(
        self, old: Leg, new: Leg, wanted: Mapping[str, Any], *, take: Callable[[], None], hold: Callable[[bool], None]
    ) -> None:
        """
        Prepare; nothing happens before `start`.

        Args:
            old: The connection that there is.
            new: One that was not started.
            wanted: All topics with their join payloads.
            take: Called when the new connection is the one.
            hold: As in `Departure`.
        """
        self.old, self.new = old, new
        self._wanted, self._take, self._hold = wanted, take, hold
        self._missing: set[str] = set()
        self._opened = False
        self._departure: Departure | None = None
        self._started = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self.result: asyncio.Future[HandedOver] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Dial, and join there what is joined here."""
        for topic in self._wanted:
            if self.old.connection.channel_state(topic) is ChannelState.JOINED:
                self._join(topic)
        self._timer = asyncio.get_running_loop().call_later(
            _JOINED_WITHIN, self.fail, f"not all topics were joined within {_JOINED_WITHIN:g} s"
        )
        self.new.connection.start()

    def push(self, pushes: Sequence[Push]) -> None:
        """Send pushes on the connection that speaks for their topics."""
        if self._departure is None:
            self.old.connection.push(pushes)
        else:
            self._departure.push(pushes)

    def forget(self, topic: str) -> None:
        """Let go of a topic that nobody wants any more."""
        if self._departure is None:
            self._drop(topic)
            self._look()
        else:
            self._departure.forget(topic)

    def fail(self, reason: str) -> None:
        """Call it off, if it can still be: the old connection stays."""
        if self._departure is None and not self.result.done():
            self._end()
            self.result.set_exception(HandOverFailed(reason))

    def stop(self) -> None:
        """End it in whatever state it is, because both connections are about to be closed."""
        self.fail("the connection is closed")
        if self._departure is not None:
            self._departure.end()

    def hear(self, leg: Leg, received: Received) -> Received:
        """Return what the owner is to hear of what one of the two connections says."""
        if self._departure is not None:
            return self._departure.from_old(received) if leg is self.old else self._departure.from_new(received)
        if leg is self.old:
            self._follow(received)
            return received
        self._judge(received)
        return []

    # Steps of the above.

    def _follow(self, received: Received) -> None:
        """Join and leave on the new connection what the old one joins and loses."""
        for event in received:
            match event:
                case events.SocketClosed():
                    self.fail("the old connection was lost meanwhile")
                case events.Joined(topic=topic) if topic in self._wanted:
                    self._join(topic)
                case events.ChannelErrored(topic=topic) | events.ChannelClosed(topic=topic):
                    self._drop(topic)
        self._look()

    def _judge(self, received: Received) -> None:
        for event in received:
            match event:
                case events.SocketOpened():
                    self._opened = True
                    self._weigh()
                case events.SocketClosed(cause=cause, reason=reason):
                    self.fail(reason or str(cause))
                case events.JoinRejected(topic=topic, response=response):
                    self.fail(f"the server refused to join {topic!r} with {response!r}")
                case events.JoinTimedOut(topic=topic):
                    self.fail(f"the join of {topic!r} was not answered")
                case events.Joined(topic=topic):
                    self._missing.discard(topic)
                case events.ChannelErrored(topic=topic) | events.ChannelClosed(topic=topic, left=False):
                    self._missing.add(topic)
        self._look()

    def _weigh(self) -> None:
        """Call it off where it would lead to the same endpoint by a transport that is only a makeshift."""
        old, new = self.old.dialler, self.new.dialler
        if new.fallback and not old.fallback and new.at is old.at:
            self.fail(f"it would be {new.fallback}")

    def _join(self, topic: str) -> None:
        self._missing.add(topic)
        self.new.connection.join(topic, self._wanted[topic], lasting=True)

    def _drop(self, topic: str) -> None:
        self._missing.discard(topic)
        self.new.connection.leave(topic)

    def _look(self) -> None:
        """Begin the second half, if everything is joined."""
        if self._missing or not self._opened or self._departure is not None or self.result.done():
            return
        self._take()
        self._departure = Departure(self.old.connection, self.new.connection, self._wanted, hold=self._hold, done=self._finish)
        self._departure.start()

    def _finish(self) -> None:
        self._end()
        endpoint = self.new.dialler.endpoint.display
        self.result.set_result(HandedOver(endpoint, len(self._wanted), time.monotonic() - self._started))

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
