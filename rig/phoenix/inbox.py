"""
What received frames mean: events of channels, news about channels, heartbeat replies, or nothing that Phoenix would send.

The usual batch holds only events of joined channels, and passes whole: one loop, one event. Everything else is sorted
message by message.

Source: phoenix.js socket.js, onConnMessage; channel.js, isMember.
"""

from collections.abc import Callable, Sequence

from rig.errors import RemoteProtocolError
from rig.phoenix import events
from rig.phoenix.channels import Channels, Received
from rig.phoenix.heartbeat import Heartbeat
from rig.phoenix.message import CONTROL, PHOENIX, REPLY, AnyMessage
from rig.phoenix.serializer import Serializer, decode_binary, decode_reply

_SAMPLE = 120
"""Bytes of a malformed frame that are kept to show."""


class Inbox:
    """Every method returns the events that came about."""

    def __init__(self, serializer: Serializer, channels: Channels, heartbeat: Heartbeat) -> None:
        self._serializer, self._channels, self._heartbeat = serializer, channels, heartbeat

    def receive(self, frames: Sequence[bytes], now: float) -> Received:
        """Take text frames, in the order in which they came."""
        try:
            messages: Sequence[AnyMessage] = self._serializer.decode_batch(frames)
        except RemoteProtocolError:
            return self._receive_one_by_one(frames, self._serializer.decode, now, binary=False)
        return self._sort(messages, frames, now, binary=False)

    def receive_binary(self, frames: Sequence[bytes], now: float) -> Received:
        """Take binary frames, in the order in which they came."""
        return self._receive_one_by_one(frames, decode_binary, now, binary=True)

    def _receive_one_by_one(
        self, frames: Sequence[bytes], decode: Callable[[bytes], AnyMessage], now: float, *, binary: bool
    ) -> Received:
        messages, good, bad = [], [], []
        reason = ""
        for frame in frames:
            try:
                messages.append(decode(frame))
                good.append(frame)
            except RemoteProtocolError as exc:
                reason = reason or str(exc)
                bad.append(frame)
        received = self._sort(messages, good, now, binary=binary)
        if bad:
            received.append(events.FramesRejected(len(bad), reason, bad[0][:_SAMPLE]))
        return received

    def _sort(self, messages: Sequence[AnyMessage], frames: Sequence[bytes], now: float, *, binary: bool) -> Received:
        live = self._channels.live
        for message in messages:
            join_ref = live.get(message.topic)
            if join_ref is None or message.event in CONTROL or (message.join_ref is not None and message.join_ref != join_ref):
                return self._sort_mixed(messages, frames, now, binary=binary)
        return [events.MessagesReceived(messages, frames, binary)] if messages else []

    def _sort_mixed(self, messages: Sequence[AnyMessage], frames: Sequence[bytes], now: float, *, binary: bool) -> Received:
        received: Received = []
        kept: list[AnyMessage] = []
        kept_frames: list[bytes] = []

        def cut() -> None:
            nonlocal kept, kept_frames
            if kept:
                received.append(events.MessagesReceived(kept, kept_frames, binary))
                kept, kept_frames = [], []

        for message, frame in zip(messages, frames, strict=True):
            try:
                about = self._control(message, now) if message.event in CONTROL else None
            except RemoteProtocolError as exc:
                about = [events.FramesRejected(1, str(exc), frame[:_SAMPLE])]
            if about is not None:
                cut()
                received += about
            elif self._wanted(message):
                kept.append(message)
                kept_frames.append(frame)
            else:
                received.append(events.MessagesDropped(1, message.topic))
        cut()
        return received

    def _wanted(self, message: AnyMessage) -> bool:
        join_ref = self._channels.live.get(message.topic)
        return join_ref is not None and (message.join_ref is None or message.join_ref == join_ref)

    def _control(self, message: AnyMessage, now: float) -> Received | None:
        """Handle a message about a channel or a heartbeat; None if it is an ordinary event that bears such a name."""
        if message.event != REPLY:
            return self._channels.ended(message, now)
        if message.ref is None:
            return None
        if message.topic == PHOENIX:
            decode_reply(message)
            if (rtt := self._heartbeat.replied(message.ref, now)) is not None:
                return [events.HeartbeatReplied(rtt)]
        return self._channels.replied(message, now)
