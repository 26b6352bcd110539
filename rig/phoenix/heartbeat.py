"""
Whether the peer is alive: when to beat, and when a beat counts as lost.

A beat is lost if neither its reply nor anything else came within the time-out: behind a backlog the reply can be seconds
late, and received frames are a sign of life. The next beat follows a lost one at once, so that a half-open link is
found within interval + 2 · time-out. No reply at all within `silence` is death all the same: a server may go on sending
while the process that answers is gone. While the owner does not read, no verdict is passed.

A verdict is about the earliest beat that nothing came after: a later one does not put it off, so that beats may follow each
other faster than the time-out.

Source: Phoenix.Socket (the reply); the time-outs are rig's own.
"""

import math
from enum import Enum, auto


class Beat(Enum):
    """What `handle_timeout` asks for."""

    SEND = auto()
    """Send a heartbeat."""
    MISSED = auto()
    """Note a lost one, and send the next."""
    DEAD = auto()
    """Give the connection up."""


class Heartbeat:
    """Times are seconds of the caller's clock."""

    def __init__(self, *, interval: float = 15.0, timeout: float = 5.0, allowed: int = 2, silence: float = 60.0) -> None:
        """
        Make one that is stopped.

        Args:
            interval: Seconds from one beat to the next.
            timeout: Seconds that a reply may take if nothing else comes.
            allowed: Lost beats in a row at which the connection is given up.
            silence: Seconds without any reply after which it is given up, whatever else comes; four intervals at least.
        """
        self._interval, self._timeout, self._allowed = interval, timeout, allowed
        self._silence = max(silence, 4.0 * interval)
        self._sent: dict[str, float] = {}
        self._paused = False
        self._next = self._verdict = math.inf
        self._alive_at = self._replied_at = self._beat_at = self._answered_at = -math.inf
        self.missed = 0

    def start(self, now: float) -> None:
        """Begin with a new connection; nothing of an old one is waited for."""
        self.stop()
        self._alive_at = self._replied_at = self._answered_at = now
        self._next = now + self._interval

    def stop(self) -> None:
        """Wait for nothing."""
        self._sent.clear()
        self.missed = 0
        self._paused = False
        self._next = self._verdict = math.inf

    def sent(self, ref: str, now: float) -> None:
        """Note that a beat went out."""
        self._sent[ref] = now
        self._next = now + self._interval
        if self._verdict == math.inf or self._alive_at > self._beat_at:
            self._beat_at, self._verdict = now, now + self._timeout

    def pinged(self, ref: str, now: float) -> None:
        """Note a beat that the owner wanted: its reply counts, and its absence does not."""
        self._sent[ref] = now

    def alive(self, now: float) -> None:
        """Note that something was received."""
        self._alive_at = now

    def replied(self, ref: str | None, now: float) -> float | None:
        """Note a reply and return its round-trip time in seconds, or None if the beat is not known."""
        if ref is None or (sent_at := self._sent.pop(ref, None)) is None:
            return None
        for older in [r for r, at in self._sent.items() if at <= sent_at]:
            del self._sent[older]
        self._replied_at = self._answered_at = now
        self.missed = 0
        if not self._sent:
            self._verdict = math.inf
        return now - sent_at

    def age(self, now: float) -> float:
        """Return the seconds since the last reply, or since the connection began."""
        return now - self._answered_at

    def pause(self) -> None:
        """Suspend the verdict: the owner does not read."""
        self._paused = True

    def resume(self, now: float) -> None:
        """Count from now: what was not read could not be a sign of life."""
        self._paused = False
        self._alive_at = self._replied_at = now
        if self._sent:
            self._verdict = now + self._timeout

    @property
    def deadline(self) -> float:
        """When `handle_timeout` is to be called."""
        return self._next if self._paused else min(self._next, self._verdict)

    def handle_timeout(self, now: float) -> Beat | None:
        """Return what has become due, None if nothing has."""
        if not self._paused and now >= self._verdict:
            return self._judge(now)
        if now < self._next:
            return None
        return Beat.DEAD if not self._paused and self._silent(now) else Beat.SEND

    def _silent(self, now: float) -> bool:
        return bool(self._sent) and now - self._replied_at >= self._silence

    def _judge(self, now: float) -> Beat | None:
        if self._alive_at > self._beat_at:
            if self._silent(now):
                return Beat.DEAD
            self.missed = 0
            self._verdict = max(now, self._alive_at) + self._timeout
            return Beat.SEND if now >= self._next else None
        self.missed += 1
        if self.missed >= self._allowed:
            return Beat.DEAD
        self._verdict = math.inf
        return Beat.MISSED
