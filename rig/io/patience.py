"""
How long the server has kept us waiting for an answer.

An answer comes behind all that the server had sent before. So the time for which we do not read is not the server's, and while
events come at full speed little of it is: what is read then may be seconds old.

Source: the rule for heartbeats, of which a late one is excused by other bytes for a minute.
"""

_BEHIND_EVENTS = 1 / 6
"""Of the time that passes while events come at full speed."""


class Patience:
    """A clock that stands while nothing can be heard."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds that count."""
        self._then: float | None = None

    def pass_time(self, now: float, *, deaf: bool, busy: bool) -> None:
        """
        Count the time since the last call.

        Args:
            now: Monotonic seconds.
            deaf: True if nothing is read.
            busy: True if events come at full speed.
        """
        if self._then is not None and not deaf:
            self.now += (now - self._then) * (_BEHIND_EVENTS if busy else 1.0)
        self._then = now
