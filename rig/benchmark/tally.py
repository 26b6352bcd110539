"""
Which numbers of which topic came: what the benchmark's claim "nothing lost" stands on.

Every event carries `i`, contiguous from 0 per topic. A number that is skipped is missing; if it comes later, it is not
missing any more, but out of order; a number that came before is a duplicate.
"""

from collections.abc import Iterable

import msgspec


class Account(msgspec.Struct, kw_only=True):
    """
    What one process has handled.

    Attributes:
        handled: Events, duplicates included.
        missing: Numbers that were skipped and never came.
        reordered: Events that came after a later one of their topic.
        duplicated: Events that came again.
        latency_ns: For each timed event, handler start minus the time in its payload.
    """

    handled: int
    missing: int
    reordered: int
    duplicated: int
    latency_ns: list[int] = []


class Loss(msgspec.Struct, frozen=True):
    """What went wrong between the server and the handlers; three zeros if nothing did."""

    lost: int
    duplicated: int
    reordered: int

    @property
    def nothing(self) -> bool:
        """True if every event was handled once and in order."""
        return not (self.lost or self.duplicated or self.reordered)


class Tally:
    """
    The numbers of all topics, as one process sees them.

    Attributes:
        next: For each topic the number that is due. A hot loop may compare and store here itself, and call
            `note_unexpected` for all but that number.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        """Expect 0 on every topic."""
        self.next = dict.fromkeys(topics, 0)
        self._missing: dict[str, set[int]] = {}
        self._reordered = self._duplicated = 0

    def note(self, topic: str, number: int) -> None:
        """Count one event."""
        if number == self.next.get(topic):
            self.next[topic] = number + 1
        else:
            self.note_unexpected(topic, number)

    def note_unexpected(self, topic: str, number: int) -> None:
        """Count an event whose number is not the one that is due."""
        due = self.next.get(topic, 0)
        if number >= due:
            self._missing.setdefault(topic, set()).update(range(due, number))
            self.next[topic] = number + 1
        elif number in self._missing.get(topic, ()):
            self._missing[topic].remove(number)
            self._reordered += 1
        else:
            self._duplicated += 1

    @property
    def handled(self) -> int:
        """Events so far."""
        return sum(self.next.values()) - self._count_missing() + self._duplicated

    def account(self) -> Account:
        """Return what was counted."""
        return Account(handled=self.handled, missing=self._count_missing(), reordered=self._reordered, duplicated=self._duplicated)

    def _count_missing(self) -> int:
        return sum(map(len, self._missing.values()))


def settle(sent: int, accounts: Iterable[Account]) -> Loss:
    """
    Compare what was sent with what all processes have handled.

    A number that one process misses while another has it was handled beside its topic's order: it counts as reordered.

    Args:
        sent: Events that the server has sent.
        accounts: One per process.

    Raises:
        Nothing.
    """
    accounts = list(accounts)
    duplicated = sum(account.duplicated for account in accounts)
    lost = sent - sum(account.handled for account in accounts) + duplicated
    elsewhere = max(sum(account.missing for account in accounts) - max(lost, 0), 0)
    return Loss(lost, duplicated, elsewhere + sum(account.reordered for account in accounts))
