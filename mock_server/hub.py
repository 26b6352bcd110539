"""
Who is subscribed to which topic, and the fan-out: a broadcast is encoded once per serializer.

Source: Phoenix.PubSub with `Phoenix.Channel.Server`'s fastlane.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mock_server.channel import Intercepted
from mock_server.history import History
from mock_server.ledger import Ledger

if TYPE_CHECKING:
    from mock_server.channel import Channel


class Hub:
    """The topics of one server."""

    def __init__(self, ledger: Ledger, history: History | None = None) -> None:
        self.ledger = ledger
        self.history = History() if history is None else history
        self._topics: dict[str, dict[Channel, None]] = {}
        self._loop = asyncio.get_running_loop()

    def subscribe(self, channel: "Channel") -> None:
        """Add a channel to its topic."""
        self._topics.setdefault(channel.topic, {})[channel] = None

    def unsubscribe(self, channel: "Channel") -> None:
        """Take a channel off its topic; nothing happens if it is not there."""
        subscribers = self._topics.get(channel.topic)
        if subscribers is not None:
            subscribers.pop(channel, None)
            if not subscribers:
                del self._topics[channel.topic]

    def subscribers(self, topic: str) -> "list[Channel]":
        """Return the channels of a topic, oldest first."""
        return list(self._topics.get(topic, ()))

    def topics(self) -> Iterable[str]:
        """Return the topics that have subscribers."""
        return list(self._topics)

    def broadcast(self, topic: str, event: str, payload: Any, *, skip: "Channel | None" = None) -> int:
        """
        Send to every subscriber of `topic` but `skip`; returns to how many.

        Raises:
            Unencodable: If a subscriber's serializer cannot write the payload.
        """
        delivered = self.fan_out(topic, event, payload, skip=skip)
        self.ledger.count(topic, 1)
        return delivered

    def fan_out(self, topic: str, event: str, payload: Any, *, skip: "Channel | None" = None) -> int:
        """
        Do as `broadcast`, for an event that is in the ledger already.

        Raises:
            Unencodable: If a subscriber's serializer cannot write the payload.
        """
        payload = self.history.stamp(topic, event, payload)
        frames: dict[str, bytes] = {}
        delivered = 0
        for channel in self.subscribers(topic):
            if channel is skip:
                continue
            delivered += 1
            if event in channel.intercepts:
                channel.socket.enqueue(channel, Intercepted(event, payload))
                continue
            serializer = channel.socket.serializer
            frame = frames.get(serializer.version)
            if frame is None:
                frame = frames[serializer.version] = serializer.encode_broadcast(topic, event, payload)
            channel.socket.deliver_event(frame)
        return delivered

    def broadcast_soon(self, topic: str, event: str, payload: Any) -> None:
        """Broadcast after the work in hand, as a process of its own would."""
        self._loop.call_soon(self.broadcast, topic, event, payload)
