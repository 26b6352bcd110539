"""
How the records to one worker name their events: each pair of topic and event once, by number after that.
"""

from rig.io.router import DROPPING, Slot
from rig.records import encode_names

NAMES_KEPT = 512
"""Pairs of topic and event in the names of a record, beyond which they start over."""


class Names:
    """
    The pairs of topic and event that the records to one worker refer to by number, kept while they are few.

    Attributes:
        slots: By number.
        dropping: True if some of these events may be dropped.
        blocking: True if some of them pause reading for as long as it takes.
    """

    __slots__ = ("_all", "_names", "_one", "blocking", "dropping", "slots")

    def __init__(self) -> None:
        self._names: list[str] = []
        self._all: bytes | None = None
        self._one: dict[int, bytes] = {}
        self.slots: list[Slot] = []
        self.dropping = self.blocking = False

    def __len__(self) -> int:
        return len(self.slots)

    def enter(self, slot: Slot) -> None:
        """Give the slot a number."""
        slot.names, slot.number = self, len(self)
        self.slots.append(slot)
        self._names += (slot.topic, slot.event)
        self._all = None
        self.dropping = self.dropping or slot.overflow in DROPPING
        self.blocking = self.blocking or slot.overflow == "block"

    def encode(self, numbers: list[int]) -> tuple[bytes, list[int]]:
        """
        Return the names for a record of events with these numbers, encoded, and the numbers that the events have there.

        All pairs if the record is as long as they are many: the same bytes for as long as none is added. Else only its own.
        """
        if len(numbers) >= len(self):
            if self._all is None:
                self._all = encode_names(self._names)
            return self._all, numbers
        if len(numbers) == 1:
            number = numbers[0]
            one = self._one.get(number)
            if one is None:
                one = self._one[number] = encode_names(self._names[2 * number : 2 * number + 2])
            return one, [0]
        order = {number: index for index, number in enumerate(dict.fromkeys(numbers))}
        names = [name for number in order for name in self._names[2 * number : 2 * number + 2]]
        return encode_names(names), [order[number] for number in numbers]
