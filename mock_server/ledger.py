"""What was sent on each topic: the server's side of every proof that nothing was lost."""

from dataclasses import dataclass


@dataclass(slots=True)
class Entry:
    """Broadcasts on one topic: how many, the next `i` of a flood, the last sequence number of any kind."""

    count: int = 0
    next_sequence: int = 0
    last: int | None = None


class Ledger:
    """Counts and sequence numbers per topic."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def count(self, topic: str, number: int, *, last: int | None = None) -> None:
        """Note `number` broadcasts, the last of which had sequence number `last`."""
        entry = self._entry(topic)
        entry.count += number
        if last is not None:
            entry.last = last

    def next_sequence(self, topic: str) -> int:
        """Return the `i` with which the next flood or pace of this topic starts."""
        return self._entry(topic).next_sequence

    def advance(self, topic: str, *, start: int, number: int) -> None:
        """Note `number` events of a flood or pace whose first `i` was `start`."""
        if number:
            entry = self._entry(topic)
            entry.next_sequence = start + number
            self.count(topic, number, last=entry.next_sequence - 1)

    def reset(self) -> None:
        """Forget everything; sequences start at 0 again."""
        self._entries.clear()

    def snapshot(self) -> dict[str, dict[str, int | None]]:
        """Return count and last sequence number per topic."""
        return {topic: {"count": entry.count, "last": entry.last} for topic, entry in sorted(self._entries.items())}

    def _entry(self, topic: str) -> Entry:
        return self._entries.setdefault(topic, Entry())
