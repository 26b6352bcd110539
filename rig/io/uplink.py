"""
What the io process takes for its connection: one that can be replaced by another while it is in use.

Most of the time it is one `Connection`, and everything passes through. During a hand-over there are two, and `HandOver` says which
of them is heard, and which takes a push. While the connection is not at the first endpoint, a hand-over to a better one is tried
now and then: that is the look whether it is well again, for nothing says so as surely as a connection with all topics joined.

What must stay true: there is one hand-over at a time; whatever becomes of it, there is one connection that goes on for ever.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from rig.backoff import Random
from rig.child import collect_garbage
from rig.connection import Connection, Dial
from rig.dialling import Dialler
from rig.endpoints import Candidate, Health
from rig.errors import HandOverFailed
from rig.io.departure import Received
from rig.io.handover import HandedOver, HandOver, Leg
from rig.phoenix import ChannelState, Push, events

OnEvents = Callable[[Received], None]
Open = Callable[[Dial, OnEvents], Connection]
"""Makes a connection with a core of its own, for a dial and an owner; it is not started."""

log = structlog.get_logger()


class Uplink:
    """The connection now. All methods are called on the loop's thread."""

    def __init__(
        self,
        dialler: Dialler,
        open: Open,
        on_events: OnEvents,
        *,
        on_moved: Callable[[], None],
        failback_interval: float,
        random: Random,
    ) -> None:
        """
        Make the first connection; nothing happens before `start`.

        Args:
            dialler: Knows the endpoints; further connections share what it knows.
            open: Makes a connection.
            on_events: Gets what happens, as from one connection.
            on_moved: Called when there is another connection, or none, before `on_events` hears of it.
            failback_interval: Seconds between two looks at a better endpoint; 0 never looks.
            random: Shortens each of these, by a quarter at most, so that those who left together do not come back together.
        """
        self._open, self._on_events, self._on_moved = open, on_events, on_moved
        self._failback_interval, self._random = failback_interval, random
        self._wanted: dict[str, Any] = {}
        self._now = self._make(dialler)
        self._handover: HandOver | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._paused = False
        self._ended = False

    # What the io process does with a connection.

    def start(self) -> None:
        """Dial, and go on for ever."""
        self._now.connection.start()

    def join(self, topic: str, payload: Any) -> None:
        """
        Want to be in a topic; see `Connection.join`.

        Raises:
            LocalProtocolError: If the topic is joined already.
        """
        self._now.connection.join(topic, payload, lasting=True)
        self._wanted[topic] = payload

    def leave(self, topic: str) -> None:
        """Leave a topic."""
        self._wanted.pop(topic, None)
        self._now.connection.leave(topic)
        if self._handover is not None:
            self._handover.forget(topic)

    def push(self, pushes: Sequence[Push]) -> None:
        """Send pushes; see `Connection.push`."""
        if self._handover is None:
            self._now.connection.push(pushes)
        else:
            self._handover.push(pushes)

    def reconnect(self, reason: str) -> None:
        """End the connection, so that another follows."""
        self._now.connection.reconnect(reason)

    def pause_reading(self) -> None:
        """Let TCP push back on the server."""
        self._paused = True
        for leg in self._legs():
            leg.connection.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._paused = False
        for leg in self._legs():
            leg.connection.resume_reading()

    async def close(self) -> None:
        """Close for good, and return when nothing is left."""
        self._ended = True
        if self._looking is not None:
            self._looking.cancel()
        legs = self._legs()
        if self._handover is not None:
            self._handover.stop()
        await asyncio.gather(*(leg.connection.close() for leg in legs), *self._closing)

    @property
    def open(self) -> bool:
        """True while there is a connection that works."""
        return self._now.connection.open

    @property
    def reading_paused(self) -> bool:
        """True while nothing is read, so that no answer can come."""
        return self._now.connection.reading_paused

    @property
    def write_buffer_bytes(self) -> int:
        """Bytes that wait to be written."""
        return sum(leg.connection.write_buffer_bytes for leg in self._legs())

    @property
    def replacing(self) -> bool:
        """True while a hand-over is under way."""
        return self._handover is not None

    # What it knows.

    @property
    def endpoint(self) -> str:
        """Where it is, or goes first, with secrets masked."""
        return self._now.dialler.endpoint.display

    @property
    def fallback(self) -> str:
        """Why its transport is not of the kind that was wanted; empty if it is."""
        return self._now.dialler.fallback

    def endpoints(self) -> list[tuple[Health, bool]]:
        """Return how each endpoint has been, and whether the connection is there."""
        return [(candidate.health, candidate is self._now.dialler.at) for candidate in self._now.dialler.endpoints.all]

    def topics(self) -> dict[str, ChannelState]:
        """Return where each topic stands."""
        return {topic: self._now.connection.channel_state(topic) for topic in self._wanted}

    # The token, for `Renewal`.

    @property
    def sends_token(self) -> bool:
        """True if the connection was opened with a token."""
        return self._now.dialler.sends_token

    async def has_another_token(self) -> bool:
        """
        Ask the provider whether it has another token than that of the connection.

        Raises:
            TokenUnavailable: If there is none that may be sent.
        """
        return await self._now.dialler.has_another_token()

    def renew(self, *, refused: bool) -> None:
        """Ask for a token in the background; see `Dialler.renew`."""
        self._now.dialler.renew(refused=refused)

    def replace(self, reason: str) -> None:
        """Have a connection with the newest token: by a hand-over, and where that fails by a reconnect."""
        if self._handover is None:
            self.rotate(reason).add_done_callback(lambda result: self.reconnect(reason) if result.exception() else None)
        else:  # it may have been dialled with the old token
            self._handover.result.add_done_callback(lambda result: self.replace(reason))

    # Hand-overs.

    def rotate(self, reason: str, *, among: Sequence[Candidate] | None = None) -> "asyncio.Future[HandedOver]":
        """
        Hand over to another connection, and return what will have come of it: `HandOverFailed` if the old one stays.

        Args:
            reason: For the log.
            among: Where it may lead to, anywhere if None.
        """
        refusal = self._refusal()
        if refusal:
            refused: asyncio.Future[HandedOver] = asyncio.get_running_loop().create_future()
            refused.set_exception(HandOverFailed(refusal))
            return refused
        new = self._make(self._now.dialler.another(among))
        if self._paused:
            new.connection.pause_reading()
        hold = partial(self._hold, new)
        handover = self._handover = HandOver(self._now, new, self._wanted, take=partial(self._take, new), hold=hold)
        handover.result.add_done_callback(partial(self._handed_over, handover, self._now, quiet=among is not None))
        log.info("handing over to another connection", reason=reason, topics=len(self._wanted))
        handover.start()
        return handover.result

    def _refusal(self) -> str:
        if self._ended:
            return "the run ends"
        if self._handover is not None:
            return "another hand-over is under way"
        return "" if self.open else "there is no connection to hand over from; one is being made"

    def _take(self, new: Leg) -> None:
        self._now = new

    def _hold(self, new: Leg, on: bool) -> None:
        if on:
            new.connection.pause_reading()
        elif not self._paused:
            new.connection.resume_reading()

    def _handed_over(self, handover: HandOver, old: Leg, result: "asyncio.Future[HandedOver]", *, quiet: bool) -> None:
        """Close the connection that is of no more use. `quiet` if it was only a try."""
        self._handover = None
        failed = result.exception()
        useless = handover.new if isinstance(failed, HandOverFailed) else old
        if not self._ended:
            closing = asyncio.get_running_loop().create_task(useless.connection.close(), name="close")
            self._closing.add(closing)
            closing.add_done_callback(self._closed)
        if isinstance(failed, HandOverFailed):
            say = log.info if quiet else log.warning
            say("not handed over: the connection stays", endpoint=old.dialler.endpoint.display, reason=failed.reason)
            if useless.dialler.at is not None:
                useless.dialler.at.lost(failed.reason, None)
        else:
            done = result.result()
            log.info("handed over", endpoint=done.endpoint, topics=done.topics, took=round(done.seconds, 3))
        self._on_moved()
        self._look_back_later()

    def _closed(self, closing: "asyncio.Task[None]") -> None:
        self._closing.discard(closing)
        asyncio.get_running_loop().call_soon(collect_garbage)  # what a connection leaves when it has ended

    # The first endpoint.

    def _look_back_later(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._failback_interval and not self._ended and self._now.dialler.at not in (None, self._now.dialler.endpoints.first):
            delay = self._failback_interval * (1.0 - self._random() / 4.0)
            self._looking = asyncio.get_running_loop().call_later(delay, self._look_back)

    def _look_back(self) -> None:
        at = self._now.dialler.at
        if at is None:
            return  # the next connection looks again
        better = [candidate for candidate in self._now.dialler.endpoints.better_than(at) if not candidate.barred]
        if better and not self._refusal():
            self.rotate("a better endpoint may be well again", among=better)
        else:
            self._look_back_later()

    # What the connections say.

    def _make(self, dialler: Dialler) -> Leg:
        leg = Leg(dialler, self._open(dialler, lambda received: self._heard(leg, received)))
        return leg

    def _legs(self) -> list[Leg]:
        return [self._now] if self._handover is None else [self._handover.old, self._handover.new]

    def _heard(self, leg: Leg, received: Received) -> None:
        for event in received:
            if isinstance(event, events.SocketClosed | events.SocketOpened):
                self._note_connection(leg, event)
        if self._handover is not None and leg in (self._handover.old, self._handover.new):
            received = self._handover.hear(leg, received)
        elif leg is not self._now:  # it is closed: all that counts is what becomes of pushes that it had no answer to
            received = [event for event in received if isinstance(event, events.PushEvent)]
        if received:
            self._on_events(received)

    def _note_connection(self, leg: Leg, event: events.SocketOpened | events.SocketClosed) -> None:
        elsewhere = isinstance(event, events.SocketClosed) and leg.dialler.lost(event)
        if leg is not self._now:
            return
        if elsewhere:
            leg.connection.hurry()
        self._on_moved()
        self._look_back_later()
