"""
All channels of one socket: joins, leaves, and what the server says about them.

Must stay true: `live` names just the channels whose events are wanted, with the join_ref of their present life; a join
that waits has one timer, and so has a rejoin; no more joins are sent at a time than the pace allows; what a peer or a join
payload does wrong ends no other channel.

Source: phoenix.js channel.js; Phoenix.Socket for the order of what the server sends.
"""

from collections import Counter
from collections.abc import Hashable
from typing import Any, NamedTuple

from rig.backoff import Random, rejoin_delay
from rig.errors import LocalProtocolError, says_unauthorized
from rig.phoenix import events
from rig.phoenix.channel import Channel, ChannelState, Input
from rig.phoenix.message import CLOSE, ERROR, JOIN, LEAVE, AnyMessage
from rig.phoenix.outgoing import Outgoing
from rig.phoenix.pacing import Pace
from rig.phoenix.push import Push
from rig.phoenix.pushes import Pushes
from rig.phoenix.serializer import decode_payload, decode_reply
from rig.phoenix.timers import Timers

Received = list[events.Event]


class TimerKey(NamedTuple):
    """What becomes due for a topic: `join`, `leave` (not answered) or `rejoin`."""

    what: str
    topic: str


PACE_TIMER = "joins"
"""When the next of the joins that wait may be sent."""


class Channels:
    """Every method that acts returns the events that came about."""

    def __init__(
        self,
        outgoing: Outgoing,
        timers: Timers,
        random: Random,
        *,
        join_timeout: float,
        rejoin_stopped: bool,
        join_rate: float = 0.0,
    ) -> None:
        """
        Start without a channel.

        Args:
            outgoing: Where frames go.
            timers: Shared with the socket; the keys here are pushes and (what, topic).
            random: For the rejoin delays.
            join_timeout: Seconds that a join or a leave may take.
            rejoin_stopped: True joins a channel again that the server closed; phoenix.js does not.
            join_rate: Joins a second; 0 sends all at once.
        """
        self._outgoing, self._timers, self._random = outgoing, timers, random
        self._join_timeout, self._rejoin_stopped = join_timeout, rejoin_stopped
        self._channels: dict[str, Channel] = {}
        self._pushes = Pushes(outgoing, timers)
        self._open = False
        self._pace = Pace(join_rate)
        self._waiting: dict[str, None] = {}
        self.live: dict[str, str] = {}
        """Topic → join_ref of the channels whose events are wanted."""

    def __len__(self) -> int:
        return len(self._channels)

    def state(self, topic: str) -> ChannelState:
        """Return where a channel stands; one that is not known is closed."""
        channel = self._channels.get(topic)
        return ChannelState.CLOSED if channel is None else channel.state

    @property
    def pending(self) -> int:
        """How many sent pushes wait for a reply."""
        return self._pushes.pending

    def awaited_replies(self) -> Counter[str]:
        """Count the sent pushes that wait for their replies, by topic."""
        return self._pushes.awaited_replies()

    # What the owner does.

    def join(self, topic: str, payload: Any, now: float, *, lasting: bool = False) -> Received:
        """
        Want to be in a topic, from now on and over every reconnect. One that is being left is closed first.

        Args:
            topic: The channel's topic.
            payload: Sent with every join; a callable is asked each time.
            now: The clock.
            lasting: True counts the first join as refused where a callable raises, as every later one; False lets it out.

        Raises:
            LocalProtocolError: If the topic is joined or being joined, or the payload does not fit the serializer.
        """
        old, new = self._channels.get(topic), Channel(topic, payload)
        if old is not None and old.state is not ChannelState.LEAVING:
            raise LocalProtocolError(f"{topic!r} is joined already: leave it first, or use the channel that there is")
        join_ref = None
        at_once = self._open and not self._waiting and self._pace.allow(now)
        if at_once and not (lasting and callable(payload)):
            join_ref = self._add_join(new)
        elif not callable(payload):
            self._outgoing.freeze(topic, JOIN, payload)
        received: Received = [] if old is None else [self._forget(old, left=True)]
        self._channels[topic] = new
        if join_ref is not None:
            self._joining(new, join_ref, now)
        elif at_once:
            received += self._rejoin(new, now)
        elif self._open:
            self._wait(topic)
        return received

    def leave(self, topic: str, now: float) -> Received:
        """Leave a topic; one that is not joined is left already."""
        channel = self._channels.get(topic)
        if channel is None or channel.state is ChannelState.LEAVING:
            return []
        dropped = self._drop_pushes(topic, "the channel was left")
        was_on_server = channel.receives
        self._apply(channel, Input.LEAVE)
        self._cancel(topic)
        if not was_on_server:
            return [*dropped, self._forget(channel, left=True)]
        self._send_leave(channel)
        self._timers.set(TimerKey("leave", topic), now + self._join_timeout)
        return dropped

    def push(self, push: Push, now: float) -> None:
        """
        Send a push, or keep it until its channel is joined or its time is up.

        Raises:
            LocalProtocolError: If the topic was never joined, the payload does not fit the serializer, or the push is on
                its way already.
        """
        channel = self._channels.get(push.topic)
        if channel is None or channel.state is ChannelState.LEAVING:
            raise LocalProtocolError(f"cannot push {push.event!r}: {push.topic!r} is not joined; join it first")
        self._pushes.start(push, channel.join_ref if self._open and channel.state is ChannelState.JOINED else None, now)

    # What the connection does.

    def opened(self, now: float) -> Received:
        """Join everything that is wanted, as fast as the pace allows."""
        self._open = True
        return [event for channel in list(self._channels.values()) for event in self._rejoin_in_turn(channel, now)]

    def hold(self) -> None:
        """
        Send nothing more on this connection, which is being given up: joins and pushes wait for the next one.

        What was sent before can still be answered.
        """
        self._open = False
        self._waiting.clear()
        self._timers.cancel(PACE_TIMER)
        for topic in self._channels:
            self._timers.cancel(TimerKey("rejoin", topic))

    def disconnected(self, reason: str) -> Received:
        """Note that the connection is gone: whatever waited for an answer will not get one."""
        self.hold()
        received = self._pushes.interrupt(reason)
        for channel in list(self._channels.values()):
            self._cancel(channel.topic)
            leaving = channel.state is ChannelState.LEAVING
            self._apply(channel, Input.DISCONNECTED)
            if leaving:
                received.append(self._forget(channel, left=True))
        return received

    def close(self) -> Received:
        """Give up every channel and everything that waits: the owner closes the socket."""
        received = self.disconnected("the connection was closed")
        for topic in self._channels:
            received += self._pushes.drop(topic, "the connection was closed")
        self._channels.clear()
        return received

    # What the server says.

    def replied(self, message: AnyMessage, now: float) -> Received:
        """
        Handle a `phx_reply` with a ref: of a push, a join or a leave; a late or unknown one means nothing.

        Raises:
            RemoteProtocolError: If the payload is not that of a reply.
        """
        status, response = decode_reply(message)
        if (push := self._pushes.replied(message.ref)) is not None:
            return [events.ReplyReceived(push, status, response)]
        channel = self._channels.get(message.topic)
        if channel is None:
            return []
        if channel.state is ChannelState.JOINING and message.ref == channel.join_ref:
            return self._accepted(channel, response) if status == "ok" else self._refused(channel, response, now)
        if channel.state is ChannelState.LEAVING and message.ref == channel.leave_ref:
            self._apply(channel, Input.LEFT)
            return [self._forget(channel, left=True)]
        return []

    def ended(self, message: AnyMessage, now: float) -> Received | None:
        """
        Handle a `phx_error` or `phx_close`; None if it is an ordinary event that bears the name.

        Only one that names a life of the channel is about it: Phoenix makes both `join_ref` and `ref` the join's ref, and in
        V1 there is `ref` alone. A broadcast has neither.

        Raises:
            RemoteProtocolError: If the payload is not JSON.
        """
        life = message.ref if message.join_ref is None else message.join_ref
        if life is None:
            return None
        channel = self._channels.get(message.topic)
        if channel is None or life != channel.join_ref or channel.state in (ChannelState.ERRORED, ChannelState.CLOSED):
            return []
        payload = decode_payload(message) if message.event == ERROR else None
        self._cancel(message.topic)
        reason = "the channel crashed" if message.event == ERROR else "the server closed the channel"
        interrupted = self._pushes.interrupt(reason, message.topic)
        if message.event == CLOSE or channel.state is ChannelState.LEAVING:
            return [*interrupted, *self._stopped(channel, now)]
        self._apply(channel, Input.CRASHED)
        return [*interrupted, events.ChannelErrored(channel.topic, payload, self._rejoin_later(channel, now))]

    # What time does.

    def handle_timer(self, key: Hashable, now: float) -> Received:
        """Handle a key of `Timers` that has become due."""
        if isinstance(key, Push):
            return [self._pushes.timed_out(key)]
        if key == PACE_TIMER:
            return self._join_waiting(now)
        if not isinstance(key, TimerKey) or (channel := self._channels.get(key.topic)) is None:
            return []
        what, topic = key
        match what:
            case "join":
                self._send_leave(channel)
                self._apply(channel, Input.REFUSED)
                return [events.JoinTimedOut(topic, self._rejoin_later(channel, now))]
            case "leave":
                self._apply(channel, Input.LEFT)
                return [self._forget(channel, left=True)]
            case _:
                return self._rejoin_in_turn(channel, now)

    # Steps of the above.

    def _apply(self, channel: Channel, what: Input) -> None:
        channel.apply(what)
        if channel.receives and channel.join_ref is not None:
            self.live[channel.topic] = channel.join_ref
        else:
            self.live.pop(channel.topic, None)

    def _add_join(self, channel: Channel) -> str:
        """Put a join among the frames and return its ref; nothing has changed if the payload cannot be made or written."""
        join_ref = self._outgoing.next_ref()
        payload = channel.payload() if callable(channel.payload) else channel.payload
        self._outgoing.add(join_ref, join_ref, channel.topic, JOIN, payload)
        return join_ref

    def _joining(self, channel: Channel, join_ref: str, now: float) -> None:
        channel.join_ref = join_ref
        self._apply(channel, Input.JOIN)
        self._timers.cancel(TimerKey("rejoin", channel.topic))
        self._timers.set(TimerKey("join", channel.topic), now + self._join_timeout)

    def _rejoin_in_turn(self, channel: Channel, now: float) -> Received:
        if self._waiting or not self._pace.allow(now):
            self._wait(channel.topic)
            return []
        return self._rejoin(channel, now)

    def _wait(self, topic: str) -> None:
        self._waiting[topic] = None
        if PACE_TIMER not in self._timers:
            self._timers.set(PACE_TIMER, self._pace.next)

    def _join_waiting(self, now: float) -> Received:
        received: Received = []
        while self._waiting and self._pace.allow(now):
            topic = next(iter(self._waiting))
            del self._waiting[topic]
            received += self._rejoin(self._channels[topic], now)
        if self._waiting:
            self._timers.set(PACE_TIMER, self._pace.next)
        return received

    def _rejoin(self, channel: Channel, now: float) -> Received:
        try:
            join_ref = self._add_join(channel)
        except Exception as exc:
            response = {"reason": f"the join payload cannot be made: {exc!r}"}
            return [events.JoinRejected(channel.topic, response, self._rejoin_later(channel, now))]
        self._joining(channel, join_ref, now)
        return []

    def _send_leave(self, channel: Channel) -> None:
        channel.leave_ref = self._outgoing.next_ref()
        self._outgoing.add(channel.join_ref, channel.leave_ref, channel.topic, LEAVE, {})

    def _accepted(self, channel: Channel, response: Any) -> Received:
        self._timers.cancel(TimerKey("join", channel.topic))
        self._apply(channel, Input.ACCEPTED)
        joined = events.Joined(channel.topic, response, channel.joined_once)
        channel.attempts, channel.unauthorized, channel.joined_once = 0, 0, True
        assert channel.join_ref is not None
        if self._open:
            self._pushes.joined(channel.topic, channel.join_ref)
        return [joined]

    def _refused(self, channel: Channel, response: Any, now: float) -> Received:
        self._timers.cancel(TimerKey("join", channel.topic))
        self._apply(channel, Input.REFUSED)
        unauthorized = says_unauthorized(response)
        channel.unauthorized = channel.unauthorized + 1 if unauthorized else 0
        delay = self._rejoin_later(channel, now, unauthorized=channel.unauthorized)
        return [events.JoinRejected(channel.topic, response, delay, unauthorized, channel.unauthorized)]

    def _stopped(self, channel: Channel, now: float) -> Received:
        left = channel.state is ChannelState.LEAVING
        self._apply(channel, Input.STOPPED)
        if left or not self._rejoin_stopped:
            return [*self._drop_pushes(channel.topic, "the server closed the channel"), self._forget(channel, left=left)]
        return [events.ChannelClosed(channel.topic, False, self._rejoin_later(channel, now))]

    def _rejoin_later(self, channel: Channel, now: float, *, unauthorized: int = 0) -> float:
        delay = rejoin_delay(channel.attempts, self._random, unauthorized=unauthorized)
        channel.attempts += 1
        if self._open:
            self._timers.set(TimerKey("rejoin", channel.topic), now + delay)
        return delay

    def _forget(self, channel: Channel, *, left: bool) -> events.ChannelClosed:
        del self._channels[channel.topic]
        self._cancel(channel.topic)
        return events.ChannelClosed(channel.topic, left)

    def _cancel(self, topic: str) -> None:
        self._waiting.pop(topic, None)
        for what in ("join", "leave", "rejoin"):
            self._timers.cancel(TimerKey(what, topic))

    def _drop_pushes(self, topic: str, reason: str) -> Received:
        return self._pushes.drop(topic, reason) + self._pushes.interrupt(reason, topic)
