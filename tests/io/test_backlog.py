"""The queue with its middle on disk: what leaves it when, and what it says of itself."""

import pytest

from rig.io.backlog import PAGE_BYTES, TAKE_BYTES, Backlog, Pause, Waiting
from rig.records import encode_spilled
from rig.store import SpillRow

LARGEST = 1_000


def record(number: int, size: int = 10, pause: Pause = Pause.FOR_A_WHILE) -> Waiting:
    return Waiting(number, bytes(size), 1, 1, number, pause)


def row(id: int, number: int, size: int = 10) -> SpillRow:
    return SpillRow(0, 1, 1, number, encode_spilled(number, bytes(size)), id)


def leave(backlog: Backlog) -> list[int]:
    """Take out all whose turn it is."""
    numbers = []
    while (head := backlog.head()) is not None:
        numbers.append(head.number)
        backlog.pop()
    return numbers


def store(backlog: Backlog, first_id: int, *, everything: bool = True) -> list[int]:
    """Let the store have what it is to have, and return the numbers."""
    taken = list(backlog.take(everything=everything, blocking=True))
    if taken:
        backlog.stored(range(first_id, first_id + len(taken)))
    return [one.number for one in taken]


def test_what_waits_in_memory_leaves_in_order() -> None:
    """As long as nothing is stored, it is a queue like any other."""
    backlog = Backlog(LARGEST)
    for number in (1, 2, 3):
        backlog.add(record(number))
    assert (backlog.empty, backlog.presses, backlog.first_unsafe, backlog.unstored_bytes) == (False, True, 1, 30)

    assert leave(backlog) == [1, 2, 3]
    assert (backlog.empty, backlog.presses, backlog.first_unsafe, backlog.unstored_bytes) == (True, False, None, 0)


def test_nothing_leaves_while_what_is_before_it_is_being_stored() -> None:
    """Else it would overtake; and if the store fails, all is as it was."""
    backlog = Backlog(LARGEST)
    backlog.add(record(1))
    backlog.take(everything=True, blocking=False)
    backlog.add(record(2))
    assert leave(backlog) == []
    assert (backlog.first_unsafe, backlog.unstored_bytes) == (1, 20)
    backlog.not_stored()

    assert leave(backlog) == [1, 2]


def test_disk_comes_before_memory() -> None:
    """Unread rows go before what has come since, and are numbered as they were."""
    backlog = Backlog(LARGEST)
    for number in range(1, 400):
        backlog.add(record(number, LARGEST))
    assert store(backlog, 50) == list(range(1, 400))
    backlog.add(record(400))
    kept = leave(backlog)
    assert kept == list(range(1, len(kept) + 1))
    assert PAGE_BYTES // LARGEST <= len(kept) < 399, "a page stays in memory"
    assert backlog.unread
    assert backlog.first_unsafe == 400
    backlog.load([row(49 + number, number, LARGEST) for number in range(len(kept) + 1, 400)])

    assert leave(backlog) == list(range(len(kept) + 1, 401))
    assert (backlog.empty, backlog.loaded_bytes, backlog.unstored_bytes) == (True, 0, 0)


def test_large_record_leaves_by_the_store_only() -> None:
    """It holds up those behind it, and has a row when its turn comes; nothing else is stored for it."""
    backlog = Backlog(LARGEST)
    backlog.add(record(1))
    backlog.add(record(2, LARGEST + 1))
    backlog.add(record(3))
    assert store(backlog, 7, everything=False) == []
    assert leave(backlog) == [1]
    assert backlog.for_the_store
    assert store(backlog, 7, everything=False) == [2]
    head = backlog.head()
    assert head is not None
    assert (head.number, head.row) == (2, 7)

    assert leave(backlog) == [2, 3]


def test_blocking_record_stays_in_memory_unless_told_otherwise() -> None:
    """Reading is to pause for it instead; what is behind it waits with it."""
    backlog = Backlog(LARGEST)
    for number, pause in ((1, Pause.FOR_A_WHILE), (2, Pause.UNTIL_ROOM), (3, Pause.FOR_A_WHILE)):
        backlog.add(record(number, pause=pause))
    assert backlog.blocks
    assert [one.number for one in backlog.take(everything=True, blocking=False)] == [1]
    backlog.stored([1])
    assert list(backlog.take(everything=True, blocking=False)) == []
    assert [one.number for one in backlog.take(everything=True, blocking=True)] == [2, 3]
    assert not backlog.blocks
    backlog.not_stored()
    assert backlog.blocks

    assert leave(backlog) == [1, 2, 3]
    assert not backlog.blocks


def test_record_for_which_nothing_pauses_does_not_press() -> None:
    """It waits like any other."""
    backlog = Backlog(LARGEST)
    backlog.add(record(1, pause=Pause.NEVER))

    assert (backlog.presses, backlog.empty, leave(backlog)) == (False, False, [1])


def test_what_is_stored_at_once_is_limited() -> None:
    """One transaction does not grow with the backlog."""
    backlog = Backlog(2 * TAKE_BYTES)
    for number in range(1, 7):
        backlog.add(record(number, TAKE_BYTES // 2))

    assert len(store(backlog, 1)) == 2


def test_rows_of_an_earlier_life_have_no_number() -> None:
    """They count for nobody who has been told of numbers in this life."""
    backlog = Backlog(LARGEST)
    backlog.stored_id = 5
    backlog.add(record(1))
    store(backlog, 6)
    backlog.load([row(5, 900), row(6, 1)])

    assert leave(backlog) == [0, 1]


def test_rows_that_are_not_there_end_the_reading() -> None:
    """Whatever was thought to be on disk: nothing waits for it for ever."""
    backlog = Backlog(LARGEST)
    backlog.stored_id = 5
    backlog.add(record(1))
    assert leave(backlog) == []
    backlog.load([])

    assert leave(backlog) == [1]


def test_everything_waits_while_earlier_runs_come_first() -> None:
    """But what is of an earlier run may leave."""
    backlog = Backlog(LARGEST)
    backlog.behind = True
    backlog.add(record(1))
    store(backlog, 9)
    backlog.add(record(2))
    backlog.add_left(Waiting(0, b"left", 1, 1, 0, row=3, own=False))
    assert leave(backlog) == [0]
    assert not backlog.empty
    backlog.behind = False
    assert leave(backlog) == []
    assert backlog.load([row(9, 1)]) == 0

    assert leave(backlog) == [1, 2]


def test_row_that_cannot_be_read_is_passed_over() -> None:
    """It is said how many events it had; nothing waits for it for ever."""
    backlog = Backlog(LARGEST)
    backlog.stored_id = 3

    assert backlog.load([row(1, 1), SpillRow(0, 1, 5, 0, b"short", 2), row(3, 3)]) == 5
    assert not backlog.unread
    assert len(leave(backlog)) == 2


@pytest.mark.parametrize("storing", [False, True])
def test_given_up_are_only_large_ones_at_the_head(storing: bool) -> None:
    """What the store has in hand is not given up."""
    backlog = Backlog(LARGEST)
    for number, size in ((1, LARGEST + 1), (2, LARGEST + 1), (3, 10), (4, LARGEST + 1)):
        backlog.add(record(number, size))
    if storing:
        backlog.take(everything=False, blocking=False)

    assert backlog.give_up() == (0 if storing else 2)
    assert leave(backlog) == ([] if storing else [3])
