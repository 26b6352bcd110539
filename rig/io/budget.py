"""
How much may be sent again: a token bucket, so that a server in trouble is not kept there by those who repeat themselves.

Pure: the caller brings the time.

Source: Finagle, `RetryBudget`; gRFC A6, "Throttling Retry Attempts and Hedged RPCs".
"""

import math


class Budget:
    """What succeeds earns a share of a repetition; beside that there are a few a second. A repetition is a round of a topic."""

    def __init__(self, *, burst: float = 100.0, rate: float = 10.0, share: float = 0.1) -> None:
        """
        Start with a full bucket.

        Args:
            burst: Repetitions that may be saved up.
            rate: Repetitions a second that come by themselves.
            share: Repetitions earned by each success.
        """
        self._burst, self._rate, self._share = burst, rate, share
        self._tokens, self._then = burst, -math.inf

    def earn(self, successes: int = 1) -> None:
        """Count successes."""
        self._tokens = min(self._burst, self._tokens + self._share * successes)

    def spend(self, repetitions: int, now: float) -> float:
        """
        Take so many repetitions, and return the seconds to wait before they may be made.

        Args:
            repetitions: How many; they are taken even where there are too few, so that the next to ask waits longer.
            now: Seconds of any monotonic clock.
        """
        if self._then > -math.inf:
            self._tokens = min(self._burst, self._tokens + self._rate * (now - self._then))
        self._then = now
        self._tokens -= repetitions
        return max(0.0, -self._tokens / self._rate)
