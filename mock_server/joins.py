"""When which topic was joined by whom, and with what: how paced a client joins, and what it says that it has seen."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Join:
    """
    One join as it came, whatever became of it.

    Attributes:
        at: Monotonic seconds.
        client: The connection's name in the control API.
        topic: The topic.
        payload: What the client joined with; it may hold secrets.
    """

    at: float
    client: str
    topic: Any
    payload: Any


class Joins:
    """The last joins, oldest first."""

    def __init__(self) -> None:
        self._joins: deque[Join] = deque(maxlen=KEPT)

    def note(self, client: str, topic: Any, payload: Any) -> None:
        """Remember a join that has just come."""
        self._joins.append(Join(time.monotonic(), client, topic, payload))

    def of(self, topic: str | None = None) -> list[Join]:
        """Return the joins of one topic, or all."""
        return [join for join in self._joins if topic in (None, join.topic)]

    def reset(self) -> None:
        """Forget them."""
        self._joins.clear()
