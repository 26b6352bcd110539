"""Progress inside records: what a successor repeats, what it does not, and what is quarantined."""

from collections.abc import Iterator

import pytest

from rig.errors import LocalProtocolError
from rig.ring import READ_AHEAD, Consumer, InHand, Producer, Progress, Record, RingMemory

LANES = 3


@pytest.fixture
def memory() -> Iterator[RingMemory]:
    memory = RingMemory.create(64 * 1024, lanes=LANES)
    yield memory
    memory.close()


@pytest.fixture
def records(memory: RingMemory) -> list[Record]:
    """Give as many records as can be in hand, and the next."""
    producer = Producer(memory)
    for number in range(READ_AHEAD + 1):
        producer.put(b"%d" % number, kind=1)
    return Consumer(memory).poll(READ_AHEAD + 1)


def commit(memory: RingMemory, record: Record) -> None:
    """Commit the first record that is not committed."""
    consumer = Consumer(memory)
    assert consumer.poll(1) == [record]
    consumer.commit(record)


def test_words_of_a_new_record_are_zero(memory: RingMemory, records: list[Record]) -> None:
    """Nothing of a new record is finished: one 4-byte word per lane."""
    words = Progress(memory).open(records[0].position)

    assert (words.format, words.itemsize, words.tolist()) == ("I", 4, [0] * LANES)


def test_successor_finds_what_is_finished(memory: RingMemory, records: list[Record]) -> None:
    """The words of a record stay as they were when the worker died."""
    words = Progress(memory).open(records[0].position)
    words[0], words[2] = 6, 8

    assert Progress(memory).open(records[0].position).tolist() == [6, 0, 8]


def test_slot_is_zero_again_for_the_next_record(memory: RingMemory, records: list[Record]) -> None:
    """A slot that is used again keeps neither words nor marks of the record before."""
    progress = Progress(memory)
    progress.open(records[0].position)[:] = memoryview(b"\1\0\0\0" * LANES).cast("I")
    progress.take_over()
    commit(memory, records[0])
    progress.release(records[0].position)

    for record in records[1:]:
        words = progress.open(record.position)
        assert words.tolist() == [0] * LANES
        words[1] = 1
    assert len(progress.take_over().in_hand) == READ_AHEAD
    assert progress.take_over().quarantined == []


def test_no_more_records_are_open_than_there_are_slots(memory: RingMemory, records: list[Record]) -> None:
    """One record more is refused until the first is committed."""
    progress = Progress(memory)
    for record in records[:READ_AHEAD]:
        progress.open(record.position)
    with pytest.raises(LocalProtocolError, match=f"{READ_AHEAD} records are open already"):
        progress.open(records[READ_AHEAD].position)

    commit(memory, records[0])

    assert progress.open(records[READ_AHEAD].position).tolist() == [0] * LANES


def test_committed_record_has_no_progress(memory: RingMemory, records: list[Record]) -> None:
    """What is behind the head cannot be opened."""
    commit(memory, records[0])

    with pytest.raises(LocalProtocolError, match="is committed"):
        Progress(memory).open(records[0].position)


def test_release_comes_after_the_commit(memory: RingMemory, records: list[Record]) -> None:
    """A slot is not freed while a crash would still need it; freeing it twice does no harm."""
    progress = Progress(memory)
    progress.open(records[0].position)[0] = 4
    with pytest.raises(LocalProtocolError, match="commit first"):
        progress.release(records[0].position)
    assert progress.open(records[0].position)[0] == 4

    commit(memory, records[0])
    progress.release(records[0].position)
    progress.release(records[0].position)


def test_death_between_commit_and_release_leaves_no_trace(memory: RingMemory, records: list[Record]) -> None:
    """Progress of a record that is committed counts for nothing, whatever its slot says."""
    words = Progress(memory).open(records[0].position)
    words[0] = 1

    commit(memory, records[0])

    assert (Progress(memory).in_hand(), Progress(memory).take_over().in_hand) == ([], [])


def test_events_in_hand_are_listed_by_record_and_lane(memory: RingMemory, records: list[Record]) -> None:
    """Odd words are events in hand; the order is that of the records, not of the slots."""
    progress = Progress(memory)
    for record in reversed(records[:READ_AHEAD]):
        progress.open(record.position)
    second = progress.open(records[1].position)
    second[0], second[1], second[2] = 7, 8, 1
    progress.open(records[0].position)[1] = 3

    expected = [InHand(records[0].position, 1, 1), InHand(records[1].position, 0, 3), InHand(records[1].position, 2, 0)]
    assert Progress(memory).in_hand() == expected


def test_first_death_repeats_the_event_in_hand_only(memory: RingMemory, records: list[Record]) -> None:
    """After one death the event in hand starts again, and what was finished does not."""
    words = Progress(memory).open(records[0].position)
    words[0], words[1] = 5, 6
    successor = Progress(memory)

    taken = successor.take_over()

    assert (taken.in_hand, taken.quarantined) == ([InHand(records[0].position, 0, 2)], [])
    assert successor.open(records[0].position).tolist() == [4, 6, 0]


def test_second_death_quarantines(memory: RingMemory, records: list[Record]) -> None:
    """An event that is in hand at two deaths is not to be handled a third time."""
    position = records[0].position
    for _ in range(2):
        progress = Progress(memory)
        first = progress.take_over()
        progress.open(position)[1] = 5
    assert first.in_hand == [InHand(position, 1, 2)]

    taken = Progress(memory).take_over()

    assert (taken.in_hand, taken.quarantined) == ([], [InHand(position, 1, 2)])


def test_quarantine_lasts_until_it_is_finished(memory: RingMemory, records: list[Record]) -> None:
    """A worker that dies before the dead letter is written leaves the same verdict to the next."""
    position = records[0].position
    for _ in range(2):
        progress = Progress(memory)
        progress.take_over()
        progress.open(position)[1] = 5
    for _ in range(3):
        [item] = Progress(memory).take_over().quarantined
    progress = Progress(memory)

    progress.finish(item)

    assert (progress.open(position)[1], progress.in_hand(), progress.take_over().quarantined) == (6, [], [])
    with pytest.raises(LocalProtocolError, match="is not in hand"):
        progress.finish(item)


def test_deaths_without_touching_the_event_do_not_count(memory: RingMemory, records: list[Record]) -> None:
    """Workers that die while they start up do not condemn what their predecessor had in hand."""
    position = records[0].position
    Progress(memory).open(position)[0] = 1
    assert len(Progress(memory).take_over().in_hand) == 1

    for _ in range(5):
        taken = Progress(memory).take_over()
        assert (taken.in_hand, taken.quarantined) == ([], [])

    Progress(memory).open(position)[0] = 1
    assert len(Progress(memory).take_over().quarantined) == 1


def test_next_event_of_the_lane_starts_clean(memory: RingMemory, records: list[Record]) -> None:
    """The mark of one event says nothing about the event after it."""
    position = records[0].position
    Progress(memory).open(position)[0] = 1
    Progress(memory).take_over()

    Progress(memory).open(position)[0] = 3

    taken = Progress(memory).take_over()
    assert (taken.in_hand, taken.quarantined) == ([InHand(position, 0, 1)], [])


def test_ring_without_lanes_keeps_no_progress() -> None:
    """Progress needs a ring that was made for it."""
    memory = RingMemory.create(64 * 1024)
    with pytest.raises(ValueError, match="create its memory with `lanes`"):
        Progress(memory)
    memory.close()


def test_progress_does_not_touch_the_records(memory: RingMemory, records: list[Record]) -> None:
    """The last word of the last slot is still outside the buffer."""
    progress = Progress(memory)
    for record in records[:READ_AHEAD]:
        progress.open(record.position)[:] = memoryview(b"\xf1\xff\xff\xff" * LANES).cast("I")
    progress.take_over()

    assert Consumer(memory).poll(READ_AHEAD + 1) == records
