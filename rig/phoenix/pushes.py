"""
Pushes that wait: for their channel to be joined (held) or for their reply (pending).

Must stay true: a push is resolved once (`ReplyReceived`, `PushTimedOut`, `PushInterrupted` or `PushRejected`), unless it
wants no reply and was sent.

Source: phoenix.js push.js.
"""

from collections import Counter
from typing import Any

from rig.errors import LocalProtocolError
from rig.phoenix import events
from rig.phoenix.outgoing import Outgoing
from rig.phoenix.push import Push
from rig.phoenix.timers import Timers


class Pushes:
    """The keys in `timers` are the pushes themselves."""

    def __init__(self, outgoing: Outgoing, timers: Timers) -> None:
        self._outgoing, self._timers = outgoing, timers
        self._held: dict[str, dict[Push, Any]] = {}
        self._pending: dict[str, Push] = {}

    @property
    def pending(self) -> int:
        """How many sent pushes wait for a reply."""
        return len(self._pending)

    def awaited_replies(self) -> Counter[str]:
        """Count them, by topic."""
        return Counter(push.topic for push in self._pending.values())

    def start(self, push: Push, join_ref: str | None, now: float) -> None:
        """
        Send a push, or hold it.

        Args:
            push: One that is not on its way.
            join_ref: Its channel's, None if that is not joined: then the payload is kept as it is now.
            now: The clock.

        Raises:
            LocalProtocolError: If the payload does not fit the serializer, or the push is on its way already.
        """
        if push in self._timers:
            raise LocalProtocolError(f"{push.event!r} on {push.topic!r} is on its way already: make a new Push for each push")
        push.ref = None
        if join_ref is not None:
            self._send(push, push.payload, join_ref)
        else:
            payload = self._outgoing.freeze(push.topic, push.event, push.payload)
            self._held.setdefault(push.topic, {})[push] = payload
        if push.wants_reply or join_ref is None:
            self._timers.set(push, now + push.timeout)

    def joined(self, topic: str, join_ref: str) -> None:
        """Send what waited for this topic."""
        for push, payload in self._held.pop(topic, {}).items():
            self._send(push, payload, join_ref)
            if not push.wants_reply:
                self._timers.cancel(push)

    def replied(self, ref: str | None) -> Push | None:
        """Return the push that this ref belongs to, None if none waits for it."""
        push = None if ref is None else self._pending.pop(ref, None)
        if push is not None:
            self._timers.cancel(push)
        return push

    def timed_out(self, push: Push) -> events.PushTimedOut:
        """Forget a push whose time is up."""
        if push.ref is None:
            held = self._held[push.topic]
            del held[push]
            if not held:
                del self._held[push.topic]
        else:
            del self._pending[push.ref]
        return events.PushTimedOut(push)

    def interrupt(self, reason: str, topic: str | None = None) -> list[events.Event]:
        """Give up what was sent and waits for its reply, of one topic or of all."""
        pushes = [(ref, push) for ref, push in self._pending.items() if topic is None or push.topic == topic]
        for ref, push in pushes:
            del self._pending[ref]
            self._timers.cancel(push)
        return [events.PushInterrupted(push, reason) for _, push in pushes]

    def drop(self, topic: str, reason: str) -> list[events.Event]:
        """Give up what waits for this topic to be joined."""
        held = self._held.pop(topic, {})
        for push in held:
            self._timers.cancel(push)
        return [events.PushInterrupted(push, reason) for push in held]

    def _send(self, push: Push, payload: Any, join_ref: str) -> None:
        ref = self._outgoing.next_ref()
        self._outgoing.add(join_ref, ref, push.topic, push.event, payload)
        push.ref = ref
        if push.wants_reply:
            self._pending[ref] = push
