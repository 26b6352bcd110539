"""
A Phoenix socket without I/O: when to dial, join, beat, time out, and what every frame means.

    received = socket.<one method>(..., now)     # one mutation
    act on `received`                            # a list of events, past tense
    send socket.frames_to_send()                 # includes heartbeats and rejoins that nobody asked for
    arm one timer at socket.deadline             # math.inf: none

One mutation, then the other three steps, then the next mutation. Times are seconds of any monotonic clock.

Source: phoenix.js socket.js; Phoenix.Socket, Phoenix.Channel.Server.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rig.backoff import END, Cause, Random
from rig.errors import LocalProtocolError
from rig.phoenix import events
from rig.phoenix.channel import ChannelState
from rig.phoenix.channels import Channels, Received
from rig.phoenix.heartbeat import Beat, Heartbeat
from rig.phoenix.inbox import Inbox
from rig.phoenix.link import CONNECT_TIMER, WELL_TIMER, Link, SocketState
from rig.phoenix.message import HEARTBEAT, PHOENIX
from rig.phoenix.outgoing import Outgoing
from rig.phoenix.push import Push
from rig.phoenix.serializer import SERIALIZERS
from rig.phoenix.timers import Timers


class Socket:
    """One connection to a Phoenix endpoint, with all its channels, over as many transports as it takes."""

    def __init__(
        self,
        *,
        random: Random,
        vsn: str = "2.0.0",
        heartbeat_interval: float = 15.0,
        heartbeat_timeout: float = 5.0,
        join_timeout: float = 10.0,
        rejoin_stopped: bool = False,
        join_rate: float = 1000.0,
    ) -> None:
        """
        Make a socket that is idle.

        Args:
            random: Returns a float in [0, 1), for the jitter.
            vsn: "2.0.0" or "1.0.0".
            heartbeat_interval: Seconds between heartbeats.
            heartbeat_timeout: Seconds in which a reply, or anything else, must come.
            join_timeout: Seconds that a join may take.
            rejoin_stopped: True joins a channel again that the server closed (`phx_close`).
            join_rate: Joins a second, in bursts of `rig.phoenix.pacing.BURST`; 0 sends all at once.
        """
        serializer = SERIALIZERS[vsn]()
        self._outgoing = Outgoing(serializer)
        self._timers = Timers()
        self._link = Link(self._timers, random)
        self._heartbeat = Heartbeat(interval=heartbeat_interval, timeout=heartbeat_timeout)
        self._channels = Channels(
            self._outgoing, self._timers, random, join_timeout=join_timeout, rejoin_stopped=rejoin_stopped, join_rate=join_rate
        )
        self._inbox = Inbox(serializer, self._channels, self._heartbeat)
        self._opened_at: float | None = None

    # What the shell asks after each mutation.

    @property
    def state(self) -> SocketState:
        """Where the connection stands."""
        return self._link.state

    def frames_to_send(self) -> list[bytes]:
        """Return the frames to send, in order, once; binary ones are `BinaryFrame`."""
        return self._outgoing.take()

    @property
    def deadline(self) -> float:
        """When to call `handle_timeout`; `math.inf` if never."""
        return min(self._timers.deadline, self._heartbeat.deadline)

    def channel_state(self, topic: str) -> ChannelState:
        """Return where a channel stands."""
        return self._channels.state(topic)

    def join_ref(self, topic: str) -> str | None:
        """Return what tells a channel's present life from its earlier ones; None while it is neither joined nor about to be."""
        return self._channels.live.get(topic)

    @property
    def joined_topics(self) -> int:
        """How many topics are joined or being joined."""
        return len(self._channels.live)

    @property
    def pending_pushes(self) -> int:
        """How many sent pushes wait for a reply."""
        return self._channels.pending

    def awaited_replies(self) -> Counter[str]:
        """Count the sent pushes that wait for their replies, by topic."""
        return self._channels.awaited_replies()

    # What the owner does.

    def connect(self, now: float) -> Received:
        """
        Start, or dial now instead of after the delay; attempts never end until `close`.

        Raises:
            LocalProtocolError: If it is started already and does not wait, or closed.
        """
        self._link.connect()
        return [events.ConnectDue(self._link.attempt)]

    def join(self, topic: str, payload: Any, now: float, *, lasting: bool = False) -> Received:
        """
        Want to be in a topic, now and after every reconnect.

        Args:
            topic: The channel's topic.
            payload: Sent with every join; a callable is asked each time.
            now: The clock.
            lasting: True counts the first join as refused where a callable raises, as every later one; False lets it out.

        Raises:
            LocalProtocolError: If the topic is joined or being joined, the payload does not fit the serializer, or the
                socket is closed.
        """
        if self.state is SocketState.CLOSED:
            raise LocalProtocolError(f"cannot join {topic!r}: the socket is closed; make a new one")
        return self._channels.join(topic, payload, now, lasting=lasting)

    def leave(self, topic: str, now: float) -> Received:
        """Leave a topic: `ChannelClosed` follows."""
        return self._channels.leave(topic, now)

    def push(self, push: Push, now: float) -> Received:
        """
        Send a push, or keep it until its channel is joined.

        Raises:
            LocalProtocolError: If the topic was never joined, the payload does not fit the serializer, or the push is on
                its way already.
        """
        self._channels.push(push, now)
        return []

    def ping(self, now: float) -> Received:
        """
        Send a heartbeat beside the usual ones: `HeartbeatReplied` follows, or the end of the connection.

        Raises:
            LocalProtocolError: If the connection is not open.

        Source: phoenix.js socket.js, ping.
        """
        if self.state is not SocketState.OPEN:
            raise LocalProtocolError("cannot ping: the socket is not open")
        ref = self._outgoing.next_ref()
        self._outgoing.add(None, ref, PHOENIX, HEARTBEAT, {})
        self._heartbeat.pinged(ref, now)
        return []

    def reconnect(self, reason: str) -> Received:
        """
        End this connection, so that another follows as after any end; without one nothing happens, since another is on its way.

        Args:
            reason: For the server, and for whoever reads why.
        """
        return self._give_up(Cause.REQUESTED, reason) if self.state is SocketState.OPEN else []

    def close(self, now: float) -> Received:
        """End for good. Nothing is sent after this, and nothing tried again."""
        if self.state is SocketState.CLOSED:
            return []
        close_due: Received = [events.CloseDue(1000, "")] if self.state is SocketState.OPEN else []
        self._link.close()
        self._heartbeat.stop()
        return self._channels.close() + close_due

    # What the transport does.

    def opened(self, now: float) -> Received:
        """Note that the dial succeeded."""
        if self.state is SocketState.CLOSED:
            return [events.CloseDue(1000, "")]
        self._link.opened()
        self._opened_at = now
        self._heartbeat.start(now)
        if not len(self._channels):
            self._link.going_well(now)
        return [events.SocketOpened(), *self._channels.opened(now)]

    def connect_failed(self, cause: Cause, reason: str, now: float, *, retry_after: float | None = None) -> Received:
        """Note that the dial failed. `retry_after` is what the server asked for, in seconds."""
        return self._lost(cause, None, reason, now, retry_after)

    def closed(self, code: int, reason: str, now: float) -> Received:
        """Note that the transport ended. Any close that the owner did not ask for leads to a reconnect, whatever its code."""
        return self._lost(self._link.cause_of(code), code, reason, now, None)

    def receive(self, frames: Sequence[bytes], now: float) -> Received:
        """Take text frames, in the order in which they came."""
        self._heartbeat.alive(now)
        return self._take(self._inbox.receive(frames, now), now)

    def receive_binary(self, frames: Sequence[bytes], now: float) -> Received:
        """Take binary frames, in the order in which they came."""
        self._heartbeat.alive(now)
        return self._take(self._inbox.receive_binary(frames, now), now)

    def frames_rejected(self, count: int, reason: str, now: float) -> Received:
        """Note frames that the transport dropped."""
        self._heartbeat.alive(now)
        return [events.FramesRejected(count, reason, b"")]

    def reading_paused(self) -> Received:
        """Note that the shell does not read: heartbeats go on, their verdict is suspended."""
        self._heartbeat.pause()
        return []

    def reading_resumed(self, now: float) -> Received:
        """Note that the shell reads again."""
        self._heartbeat.resume(now)
        return []

    def handle_timeout(self, now: float) -> Received:
        """Do what has become due."""
        received: Received = []
        for key in self._timers.due(now):
            if key == CONNECT_TIMER:
                received += self.connect(now)
            elif key == WELL_TIMER:
                self._link.attempt = 0
            else:
                received += self._channels.handle_timer(key, now)
        return received + self._beat(now)

    # Steps of the above.

    def _take(self, received: Received, now: float) -> Received:
        for event in received:
            if isinstance(event, events.Joined):
                self._link.going_well(now)
        return received

    def _lost(self, cause: Cause, code: int | None, reason: str, now: float, retry_after: float | None) -> Received:
        by, reason = self._link.closed_by(code), self._link.why or reason
        opened_at, self._opened_at = self._opened_at, None
        open_for = None if opened_at is None else now - opened_at
        age = None if opened_at is None else self._heartbeat.age(now)
        decision = self._link.lost(cause, now, retry_after=retry_after)
        if decision is None:
            return [events.SocketClosed(Cause.REQUESTED, code, reason, None, by, END, age, open_for)]
        self._heartbeat.stop()
        self._outgoing.take()
        interrupted = self._channels.disconnected(f"{cause}: {reason}" if reason else str(cause))
        return [events.SocketClosed(cause, code, reason, decision.delay, by, decision.what, age, open_for), *interrupted]

    def _beat(self, now: float) -> Received:
        match self._heartbeat.handle_timeout(now):
            case Beat.SEND:
                self._send_heartbeat(now)
                return []
            case Beat.MISSED:
                self._send_heartbeat(now)
                return [events.HeartbeatMissed(self._heartbeat.missed)]
            case Beat.DEAD:
                return self._give_up(Cause.HEARTBEAT_LOST, "heartbeat timeout")
            case None:
                return []

    def _give_up(self, cause: Cause, reason: str) -> Received:
        self._heartbeat.stop()
        self._channels.hold()
        self._link.give_up(cause, reason)
        return [events.CloseDue(1000, reason)]

    def _send_heartbeat(self, now: float) -> None:
        ref = self._outgoing.next_ref()
        self._outgoing.add(None, ref, PHOENIX, HEARTBEAT, {})
        self._heartbeat.sent(ref, now)
