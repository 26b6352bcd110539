"""
How far each lane is inside the records in hand, kept so that a crash repeats only the events that were in hand.

A worker splits a record's events over its lanes: every lane gets a list, and handles it in order. For each record that is not
committed there is a slot with one word per lane:

    2·n        the first n events of the lane's list are finished, none is in hand
    2·n + 1    n are finished, and event number n (from 0) is in hand

The worker's loop stores these words itself, one plain item store per event, into the memoryview that `open` returns. The split
must come out the same in every worker that reads the record, so it may depend on the record and the number of lanes alone (not
on `hash` of a string, which differs between processes).

Beside each word is a mark, which only a successor writes, in `take_over`:

    0          event of this lane was in hand at no death yet
    2·(n + 1)      event n was in hand at a death; its word is still to be reset
    2·(n + 1) + 1  … and is reset to 2·n

So an event that is in hand again at a later death is known by its mark, however often workers died in between without having
touched it, and a worker that dies while it takes over counts for nothing. Such an event is quarantined: it is in hand and stays
so, until the caller has put it aside (dead letter) and says `finish`. A crash before that leads to the same verdict again.

What must stay true, for a crash between any two stores: a slot's words and marks are zero before its tag names a record; a slot
is freed after the head has passed its record, and a tag below the head is free as it is.

Source: none; the words are those of ARCHITECTURE.md.
"""

import msgspec

from rig.errors import LocalProtocolError
from rig.ring.layout import HEAD, PROGRESS_OFFSET, READ_AHEAD, RingMemory, slot_size


class InHand(msgspec.Struct, frozen=True, gc=False):
    """
    An event that somebody was handling when they died.

    Attributes:
        position: The record's position.
        lane: The lane's number.
        index: The event's place in the lane's list, from 0.
    """

    position: int
    lane: int
    index: int


class TakeOver(msgspec.Struct, frozen=True):
    """
    What a worker finds that its predecessor left.

    Attributes:
        in_hand: In hand at a death for the first time: to be handled again.
        quarantined: In hand at two deaths: to be put aside and given to `Progress.finish`, never to be handled.
    """

    in_hand: list[InHand]
    quarantined: list[InHand]


class Progress:
    """The progress region of one ring, for its consumer."""

    __slots__ = ("_free", "_marks", "_memory", "_slots", "_tags", "_words", "_zeros")

    def __init__(self, memory: RingMemory) -> None:
        """
        Read what is there; change nothing.

        Args:
            memory: A ring made with lanes. It must stay open as long as this is used.

        Raises:
            ValueError: If the ring has no lanes.
        """
        if not memory.lanes:
            raise ValueError("this ring keeps no progress: create its memory with `lanes`")
        self._memory = memory
        self._zeros = bytes(8 * memory.lanes)
        size, width = slot_size(memory.lanes), 4 * memory.lanes
        starts = [PROGRESS_OFFSET + size * slot for slot in range(READ_AHEAD)]
        self._tags = [memory.view(start, 8, "Q") for start in starts]
        self._words = [memory.view(start + 8, width, "I") for start in starts]
        self._marks = [memory.view(start + 8 + width, width, "I") for start in starts]
        self._slots = dict(self._live())
        self._free = sorted(set(range(READ_AHEAD)) - set(self._slots.values()), reverse=True)

    def open(self, position: int) -> memoryview:
        """
        Give the words of a record, one per lane: as a predecessor left them, or all zero.

        Args:
            position: The position of a record that is polled and not committed.

        Raises:
            LocalProtocolError: If the record is committed, or if READ_AHEAD others are open.
        """
        head = self._memory.words[HEAD]
        if position < head:
            raise LocalProtocolError(f"the record at {position} is committed, so it has no progress: the head is {head}")
        slot = self._slots.get(position)
        if slot is not None:
            return self._words[slot]
        if not self._free:
            for committed in [other for other in self._slots if other < head]:
                self.release(committed)
        if not self._free:
            raise LocalProtocolError(f"{READ_AHEAD} records are open already: commit and release one before the next is opened")
        slot = self._slots[position] = self._free.pop()
        return self._assign(slot, position)

    def release(self, position: int) -> None:
        """
        Free the slot of a record that is committed. A slot that was freed before is no error.

        Args:
            position: The record's position.

        Raises:
            LocalProtocolError: If the record is not committed: its whole progress would be lost by a crash now.
        """
        if position >= self._memory.words[HEAD]:
            raise LocalProtocolError(f"the record at {position} is not committed: commit first, then release")
        slot = self._slots.pop(position, None)
        if slot is not None:
            self._tags[slot][0] = 0
            self._free.append(slot)

    def in_hand(self) -> list[InHand]:
        """
        Return the events that are in hand, by record, then lane. At the start of a worker: those of its predecessor.

        Raises:
            Nothing.
        """
        return [
            InHand(position, lane, word >> 1)
            for position, slot in self._live()
            for lane, word in enumerate(self._words[slot].tolist())
            if word & 1
        ]

    def take_over(self) -> TakeOver:
        """
        Sort out what a predecessor left; to be called once, before anything is opened.

        Afterwards the words of what is in hand for the first time say "not started", and those of what is quarantined still
        say "in hand". What was sorted out by a worker that died in the midst of it is not listed a second time.

        Raises:
            Nothing.
        """
        found = TakeOver(in_hand=[], quarantined=[])
        for position, slot in self._live():
            words, marks = self._words[slot], self._marks[slot]
            for lane, (word, mark) in enumerate(zip(words.tolist(), marks.tolist(), strict=True)):
                reset, marked = word & ~1, (word | 1) + 1
                item = InHand(position, lane, word >> 1)
                if word & 1 and mark == marked + 1:
                    found.quarantined.append(item)
                elif word & 1:
                    marks[lane] = marked
                    words[lane] = reset
                    marks[lane] = marked + 1
                    found.in_hand.append(item)
                elif mark and not mark & 1:  # somebody died just before the third of these stores
                    marks[lane] = mark + 1
        return found

    def finish(self, item: InHand) -> None:
        """
        Count an event as finished without having been handled: it is in the dead letters.

        Args:
            item: A quarantined event.

        Raises:
            LocalProtocolError: If it is not in hand.
        """
        slot = self._slots.get(item.position)
        if slot is not None and self._words[slot][item.lane] == 2 * item.index + 1:
            self._words[slot][item.lane] = 2 * (item.index + 1)
            return
        raise LocalProtocolError(f"event {item.index} of lane {item.lane} in the record at {item.position} is not in hand")

    def _assign(self, slot: int, position: int) -> memoryview:
        start = PROGRESS_OFFSET + slot_size(self._memory.lanes) * slot + 8
        self._memory.data[start : start + len(self._zeros)] = self._zeros
        self._tags[slot][0] = position + 1
        return self._words[slot]

    def _live(self) -> list[tuple[int, int]]:
        """Return position and slot of the records that have progress, in their order."""
        head = self._memory.words[HEAD]
        return sorted((tag[0] - 1, slot) for slot, tag in enumerate(self._tags) if tag[0] > head)
