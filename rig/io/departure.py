"""
The second half of a hand-over: the topics leave the old connection, one by one, and nothing that it still brings is lost.

Each topic is joined on both connections when this begins. Until it has left the old one, that one alone speaks for it:

    replies     pushes that were sent on the old connection wait for their replies; what the new one brings is passed over, because
                the old one brings it too
    leaving     the leave is sent; what the old one brings before the answer is handed on, what the new one brings is held
    gone        the answer is there: what was held follows, in order, and from now on the new connection speaks

So nothing is lost, and the topic stays in order. What the server broadcasts between the moments in which the new connection was
last passed over and the old one has left comes twice: about one round trip. Duplicates are told by a cursor; without one nobody can
tell them from events that are equal. What must stay true: an event that came by the new connection before the leave was sent was
broadcast while the old one was joined. (It would not be if the way between two servers of a cluster were longer than the way from
one to the other through us.)

The leave travels as a push, because events are wanted until it is answered: the core passes over those of a channel that it leaves.
Pushes of a topic that is leaving wait until it is gone, so that they reach the server in order.

Source: Phoenix.Channel.Server: `phx_leave` is answered behind everything that the channel was sent before.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rig.connection import Connection
from rig.phoenix import ChannelState, Push, events
from rig.phoenix.message import LEAVE

_REPLIES_WITHIN = 5.0
"""Seconds for which a topic stays on the old connection because of replies."""
_LEFT_WITHIN = 60.0
"""Seconds that the answer to a leave may take, the backlog before it included."""
_MOST_HELD_BYTES = 4 * 1024 * 1024
"""Bytes that are held before reading from the new connection pauses."""

Received = list[events.Event]


class _Topic:
    """One topic on its way: the replies that it waits for, its leave once it is sent, and what is held for it."""

    __slots__ = ("held", "leave", "pushes", "replies")

    def __init__(self, replies: int) -> None:
        self.replies = replies
        self.leave: Push | None = None
        self.held: Received = []
        self.pushes: list[Push] = []


class Departure:
    """All topics on their way from one connection to another."""

    def __init__(
        self,
        old: Connection,
        new: Connection,
        wanted: Mapping[str, Any],
        *,
        hold: Callable[[bool], None],
        done: Callable[[], None],
    ) -> None:
        """
        Prepare; nothing happens before `start`.

        Args:
            old: The connection that is left.
            new: The one that all topics of the old one are joined on.
            wanted: All topics with their join payloads.
            hold: Called with True when nothing more is to be read from the new connection, with False when it may go on.
            done: Called once, when all are gone.
        """
        self._old, self._new, self._wanted, self._hold, self._done = old, new, wanted, hold, done
        self._topics: dict[str, _Topic] = {}
        self._leaves: set[Push] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._held_bytes = 0
        self._ended = False

    def start(self) -> None:
        """Send the leaves of all topics that wait for no reply; those that are not joined begin anew on the new connection."""
        self._timer = asyncio.get_running_loop().call_later(_REPLIES_WITHIN, self._leave_all)
        awaited = self._old.awaited_replies()
        for topic in self._wanted:
            if self._old.channel_state(topic) is ChannelState.JOINED:
                self._topics[topic] = _Topic(awaited[topic])
        for topic in [topic for topic in self._wanted if topic not in self._topics]:
            self._begin_anew(topic)
        self._leave(topic for topic, state in self._topics.items() if not state.replies)
        self._look()

    def push(self, pushes: Sequence[Push]) -> None:
        """Send pushes on the new connection, or keep them until their topic is gone from the old one."""
        ready: list[Push] = []
        for push in pushes:
            topic = self._topics.get(push.topic)
            (ready if topic is None else topic.pushes).append(push)
        if ready:
            self._new.push(ready)

    def forget(self, topic: str) -> None:
        """Let go of a topic that nobody wants any more."""
        state = self._topics.pop(topic, None)
        if state is not None:
            self._old.leave(topic)
            self._release(state)
            self._look()

    def end(self) -> None:
        """Wait for nothing any more."""
        if not self._ended:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
            self._hold(False)
            self._done()

    def from_old(self, received: Received) -> Received:
        """Return what the owner is to hear of what the old connection says."""
        heard: Received = []
        for event in received:
            match event:
                case events.MessagesReceived():
                    heard += _part(event, [i for i, message in enumerate(event.messages) if message.topic in self._topics])
                case events.ReplyReceived() | events.PushTimedOut() | events.PushInterrupted() | events.PushRejected():
                    heard += self._answered(event)
                case events.ChannelErrored(topic=topic) | events.ChannelClosed(topic=topic, left=False):
                    heard += self._broken(topic)
                case events.SocketClosed():
                    for topic in list(self._topics):
                        heard += self._broken(topic)
                case events.FramesRejected():
                    heard.append(event)
        self._look()
        return heard

    def from_new(self, received: Received) -> Received:
        """Return what the owner is to hear of what the new connection says, now."""
        heard: Received = []
        for event in received:
            match event:
                case events.MessagesReceived():
                    heard += self._sort(event)
                case events.ChannelClosed(topic=topic, left=True) if topic in self._wanted:
                    pass  # it is being joined anew
                case _:
                    heard.append(event)
        return heard

    # Steps of the above.

    def _sort(self, event: events.MessagesReceived) -> Received:
        """Return the messages of topics that are gone from the old connection, and hold those of topics that are leaving it."""
        ready: list[int] = []
        others: dict[str, list[int]] = {}
        for i, message in enumerate(event.messages):
            (others.setdefault(message.topic, []) if message.topic in self._topics else ready).append(i)
        for topic, chosen in others.items():
            state = self._topics[topic]
            if state.leave is not None:  # else the old connection brings them too
                state.held += _part(event, chosen)
                self._held_bytes += sum(len(event.frames[i]) for i in chosen)
        if self._held_bytes > _MOST_HELD_BYTES:
            self._hold(True)
        return _part(event, ready)

    def _answered(self, event: events.PushEvent) -> Received:
        push = event.push
        state = self._topics.get(push.topic)
        if push in self._leaves:
            self._leaves.discard(push)
            if state is None:
                return []
            return self._gone(push.topic) if isinstance(event, events.ReplyReceived) else self._broken(push.topic)
        if isinstance(event, events.PushInterrupted) and push.ref is None:
            self.push([push])  # it was never sent
            return []
        if state is not None and state.replies:
            state.replies -= 1
            if not state.replies and state.leave is None:
                self._leave([push.topic])
        return [event]

    def _leave_all(self) -> None:
        self._leave(topic for topic, state in self._topics.items() if state.leave is None)

    def _leave(self, topics: Iterable[str]) -> None:
        leaves = [Push(topic, LEAVE, {}, _LEFT_WITHIN) for topic in topics]
        for leave in leaves:
            self._topics[leave.topic].leave = leave
        self._leaves.update(leaves)
        if leaves:
            self._old.push(leaves)

    def _gone(self, topic: str) -> Received:
        """Return what was held for a topic that has left the old connection in order."""
        state = self._topics.pop(topic)
        held = state.held
        self._release(state)
        return held

    def _broken(self, topic: str) -> Received:
        """
        Join a topic anew that ended on the old connection before it was left in order: what came between is missing, and the server
        can fill the gap only if what was held is not handed on before.
        """
        state = self._topics.pop(topic, None)
        if state is None:
            self._old.leave(topic)
            return []
        self._new.leave(topic)
        self._begin_anew(topic)
        self._release(state)
        return [events.ChannelClosed(topic, left=False, delay=0.0)]

    def _begin_anew(self, topic: str) -> None:
        """Join it on the new connection first: what the old one has not sent yet is pushed there."""
        self._new.join(topic, self._wanted[topic], lasting=True)
        self._old.leave(topic)

    def _release(self, state: _Topic) -> None:
        self._held_bytes -= sum(map(_size, state.held))
        if self._held_bytes <= _MOST_HELD_BYTES // 2:
            self._hold(False)
        if state.pushes:
            self._new.push(state.pushes)

    def _look(self) -> None:
        if not self._topics:
            self.end()


def _part(event: events.MessagesReceived, chosen: list[int]) -> Received:
    """Return some messages of an event, by their numbers, as one event or none."""
    if len(chosen) == len(event.messages):
        return [event]
    messages, frames = [event.messages[i] for i in chosen], [event.frames[i] for i in chosen]
    return [events.MessagesReceived(messages, frames, event.binary)] if chosen else []


def _size(event: events.Event) -> int:
    return sum(map(len, event.frames)) if isinstance(event, events.MessagesReceived) else 0
