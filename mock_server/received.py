"""
What clients pushed to the topics `ledger:*`: the other side of every proof that nothing was lost, doubled or reordered.

A push is an object with `i`, its number in the topic's sequence, from 0, and a key that stays the same when it is sent again. Where
one of them is missing, the other is judged alone.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from mock_server.faults import Faults

_MISSING_SHOWN = 20


class Verdict(StrEnum):
    """What becomes of a push. `mute` takes it without an answer, as if the reply were lost; what follows does not take it."""

    TAKE = "take"
    MUTE = "mute"
    ERROR = "error"
    IGNORE = "ignore"
    CRASH = "crash"


class Orders(msgspec.Struct, frozen=True):
    """
    Which pushes of a topic are not simply taken: every n-th that comes; 0 for none.

    Args:
        error_every: Answered with an error.
        ignore_every: Not answered.
        mute_every: Taken, but not answered.
        crash_every: The channel crashes.
    """

    error_every: int = 0
    ignore_every: int = 0
    mute_every: int = 0
    crash_every: int = 0

    @classmethod
    def of(cls, faults: Faults) -> "Orders":
        """Return what the control API has asked for."""
        return cls(faults.ledger_error_every, faults.ledger_ignore_every, faults.ledger_mute_every, faults.ledger_crash_every)

    def verdict(self, attempt: int) -> Verdict:
        """Judge the push that came as number `attempt`, from 1."""
        for every, verdict in (
            (self.crash_every, Verdict.CRASH),
            (self.ignore_every, Verdict.IGNORE),
            (self.error_every, Verdict.ERROR),
            (self.mute_every, Verdict.MUTE),
        ):
            if every > 0 and attempt % every == 0:
                return verdict
        return Verdict.TAKE


@dataclass(slots=True)
class Tally:
    """
    What came on one topic.

    Attributes:
        attempts: Every push, those that were refused included.
        count: Pushes that were taken, doubles included.
        duplicates: Those of them whose key had been seen, or whose `i` where there is no key.
        repeated: Taken under a new key, with an `i` that had been seen.
        reordered: Taken with an `i` that had not been seen, but a later one had.
        last: The highest `i`.
    """

    attempts: int = 0
    count: int = 0
    duplicates: int = 0
    repeated: int = 0
    reordered: int = 0
    last: int | None = None
    _keys: set[str | int] = field(default_factory=set)
    _next: int = 0
    _ahead: set[int] = field(default_factory=set)

    @property
    def unique(self) -> int:
        """Taken pushes without the doubles."""
        return self.count - self.duplicates

    @property
    def lost(self) -> int:
        """Numbers below the highest that never came."""
        return 0 if self.last is None else self.last + 1 - self._next - len(self._ahead)

    @property
    def refused(self) -> int:
        """Pushes that were not taken."""
        return self.attempts - self.count

    def missing(self, limit: int = _MISSING_SHOWN) -> list[int]:
        """Return the first numbers that never came."""
        found: list[int] = []
        for number in range(self._next, 0 if self.last is None else self.last):
            if len(found) == limit:
                break
            if number not in self._ahead:
                found.append(number)
        return found

    def take(self, i: int | None, key: str | int | None) -> bool:
        """Note a push that is taken; returns whether it is a double."""
        self.count += 1
        if key is not None and key in self._keys:
            self.duplicates += 1
            return True
        if key is not None:
            self._keys.add(key)
        if i is None or self._note(i):
            return False
        if key is None:
            self.duplicates += 1
            return True
        self.repeated += 1
        return False

    def _note(self, i: int) -> bool:
        """Note a number; returns whether it is new."""
        if i < self._next or i in self._ahead:
            return False
        if self.last is not None and i < self.last:
            self.reordered += 1
        self.last = i if self.last is None else max(i, self.last)
        self._ahead.add(i)
        while self._next in self._ahead:
            self._ahead.remove(self._next)
            self._next += 1
        return True


class Received:
    """
    The tallies of all topics.

    Args:
        key_field: Where in the payload the key is.
    """

    def __init__(self, key_field: str = "idempotency_key") -> None:
        self.key_field = key_field
        self._tallies: dict[str, Tally] = {}

    def topic(self, name: str) -> Tally:
        """Return the tally of a topic."""
        return self._tallies.setdefault(name, Tally())

    def attempt(self, topic: str, orders: Orders) -> Verdict:
        """Count a push that has come, and judge it."""
        tally = self.topic(topic)
        tally.attempts += 1
        return orders.verdict(tally.attempts)

    def take(self, topic: str, payload: Any) -> bool:
        """Note a push that is taken; returns whether it is a double."""
        values = payload if isinstance(payload, dict) else {}
        i, key = values.get("i"), values.get(self.key_field)
        number = i if isinstance(i, int) and not isinstance(i, bool) and i >= 0 else None
        return self.topic(topic).take(number, key if isinstance(key, str | int) else None)

    def reset(self) -> None:
        """Forget everything."""
        self._tallies.clear()

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return the figures of each topic, with the first numbers that are missing."""
        return {name: _figures(tally) for name, tally in sorted(self._tallies.items())}


def _figures(tally: Tally) -> dict[str, Any]:
    names = ("count", "unique", "duplicates", "repeated", "lost", "reordered", "refused", "last")
    return {**{name: getattr(tally, name) for name in names}, "missing": tally.missing()}
