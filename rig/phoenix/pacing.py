"""
How fast topics are joined: in bursts, so that those of a large application do not reach a server in one millisecond.

What must stay true: no more than a burst within the time that a burst takes at the rate, whatever the moments at which joins are
wanted; the first burst never waits.
"""

BURST = 20


class Pace:
    """Allows joins. Times are seconds of the caller's clock."""

    def __init__(self, rate: float, burst: int = BURST) -> None:
        """Allow so many joins a second, so many of them at once; a rate of 0 allows any number."""
        self._pause = burst / rate if rate else 0.0
        self._burst = self._left = burst
        self._since = 0.0
        self.next = 0.0
        """When a join is allowed again, once one was refused."""

    def allow(self, now: float) -> bool:
        """Count a join and return True, or return False if it must wait until `next`."""
        if not self._pause:
            return True
        if self._left == 0 or now - self._since >= self._pause:
            if now < self.next:
                return False
            self._left = self._burst
        self._left -= 1
        self._since = now
        if self._left == 0:
            self.next = now + self._pause
        return True
