"""Workers that die anywhere, one after the other, against a model that remembers every event."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from rig.ring import READ_AHEAD, Consumer, InHand, Producer, Progress, Record, RingMemory
from rig.ring.layout import HEAD

LANES = 3


class WorkerModel(RuleBasedStateMachine):
    """
    One worker after the other on one ring.

    The model knows of each event how often it was in hand at a death, and which events are finished. It counts a death for an
    event only if the worker that died had taken it in hand itself.
    """

    def __init__(self, die_at: Any) -> None:
        super().__init__()
        self.die_at = die_at
        self.memory = RingMemory.create(64 * 1024, lanes=LANES)
        self.producer = Producer(self.memory)
        self.events: dict[int, list[int]] = {}
        self.done: Counter[tuple[int, int]] = Counter()
        self.deaths: Counter[InHand] = Counter()
        self.mine: set[InHand] = set()
        self.quarantined: set[InHand] = set()
        self.start_worker(line=10**6)

    def start_worker(self, line: int) -> None:
        """Let a successor take over; it may die at a line of that, which is no death of an event, and then the next does."""
        repeat = {item for item in self.mine if self.deaths[item] == 1}
        condemned = {item for item in self.deaths if self.deaths[item] >= 2 and item.index >= self.done[item.position, item.lane]}
        self.mine.clear()
        self.consumer, self.progress = Consumer(self.memory), Progress(self.memory)
        self.open: list[tuple[Record, memoryview]] = []
        interrupted = self.die_at(line, self.progress.take_over)
        taken = Progress(self.memory).take_over()
        assert set(taken.quarantined) == condemned
        if interrupted:
            assert set(taken.in_hand) <= repeat
        elif line < 10**6:
            assert taken.in_hand == []
        self.quarantined = condemned
        self.check_words()

    def check_words(self) -> None:
        """Compare the words of all records in hand with the model."""
        for position, words in ((record.position, words) for record, words in self.open):
            for lane, word in enumerate(words):
                item = InHand(position, lane, self.done[position, lane])
                assert word == 2 * item.index + (item in self.mine or item in self.quarantined)

    @rule(counts=st.lists(st.integers(0, 3), min_size=LANES, max_size=LANES))
    def publish(self, counts: list[int]) -> None:
        """Publish a record with so many events for each lane."""
        self.producer.put(b"", kind=1)
        self.events[len(self.events) * 24] = counts

    @precondition(lambda self: len(self.open) < READ_AHEAD)
    @rule()
    def read(self) -> None:
        """Read ahead as far as progress can be kept."""
        for record in self.consumer.poll(READ_AHEAD - len(self.open)):
            self.open.append((record, self.progress.open(record.position)))
        self.check_words()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """Take the next event of a lane in hand, or finish the one in hand; put a condemned one aside."""
        record, words = self.open[data.draw(st.integers(0, len(self.open) - 1))]
        lane = data.draw(st.integers(0, LANES - 1))
        item = InHand(record.position, lane, self.done[record.position, lane])
        if item in self.quarantined:
            self.progress.finish(item)
            self.quarantined.remove(item)
            self.done[item.position, lane] += 1
        elif item in self.mine:
            words[lane] = 2 * (item.index + 1)
            self.mine.remove(item)
            self.done[item.position, lane] += 1
        elif item.index < self.events[item.position][lane]:
            assert self.deaths[item] < 2
            words[lane] = 2 * item.index + 1
            self.mine.add(item)
        self.check_words()

    @precondition(lambda self: self.open and self.is_finished(self.open[0][0]))
    @rule(line=st.integers(0, 20))
    def commit(self, line: int) -> None:
        """Commit the oldest record and free its slot; die at a line of that, or not."""
        record, _ = self.open[0]

        def finish() -> None:
            self.consumer.commit(record)
            self.progress.release(record.position)

        died = self.die_at(line, finish)
        if self.memory.words[HEAD] >= record.end:
            self.open.pop(0)
        if died:
            self.die(line=10**6)

    @precondition(lambda self: len(self.open) < READ_AHEAD)
    @rule(line=st.integers(0, 20))
    def die_while_opening(self, line: int) -> None:
        """Die while a record gets its slot."""
        for record in self.consumer.poll(1):
            self.die_at(line, lambda record=record: self.progress.open(record.position))
        self.die(line=10**6)

    @rule(line=st.one_of(st.just(10**6), st.integers(0, 60)))
    def die(self, line: int) -> None:
        """Die, and let a successor take over, which may die of it too."""
        self.deaths.update(self.mine)
        self.start_worker(line)

    def is_finished(self, record: Record) -> bool:
        """Say whether all lanes have finished their events of a record."""
        return all(self.done[record.position, lane] == count for lane, count in enumerate(self.events[record.position]))

    def teardown(self) -> None:
        """Release the memory."""
        self.open.clear()
        self.memory.close()


@pytest.mark.parametrize("examples", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_only_events_in_hand_are_repeated_and_at_most_once(die_at, examples: int) -> None:
    """A finished event never comes again, an event in hand comes again once, and after two deaths it is put aside."""
    run_state_machine_as_test(
        lambda: WorkerModel(die_at), settings=settings(max_examples=examples, stateful_step_count=50, deadline=None)
    )


def test_death_at_every_line_of_a_take_over_changes_nothing(die_at) -> None:
    """A worker that dies while it takes over leaves every event as if it had never started."""
    line, died = 0, True
    while died:
        memory = RingMemory.create(64 * 1024, lanes=2)
        words = Progress(memory).open(0)
        words[0], words[1] = 5, 1
        died = die_at(line, lambda memory=memory: Progress(memory).take_over())
        assert Progress(memory).take_over().quarantined == []
        assert words.tolist() == [4, 0]

        words[0], words[1] = 5, 2
        died = die_at(line, lambda memory=memory: Progress(memory).take_over()) and died
        assert Progress(memory).take_over().quarantined == [InHand(0, 0, 2)]
        memory.close()
        line += 1
    assert line > 10


def test_death_at_every_line_of_an_open_gives_no_foreign_progress(die_at) -> None:
    """A slot never shows one record's progress as that of another."""
    line, died = 0, True
    while died:
        memory = RingMemory.create(64 * 1024, lanes=2)
        producer, consumer = Producer(memory), Consumer(memory)
        for _ in range(READ_AHEAD + 1):
            producer.put(b"", kind=1)
        records = consumer.poll(READ_AHEAD + 1)
        for record in records[:READ_AHEAD]:
            Progress(memory).open(record.position)[1] = 7
        consumer.commit(records[0])
        progress = Progress(memory)

        died = die_at(line, lambda progress=progress, record=records[-1]: progress.open(record.position))

        assert [item.position for item in Progress(memory).in_hand()] == [record.position for record in records[1:READ_AHEAD]]
        assert Progress(memory).open(records[-1].position).tolist() == [0, 0]
        memory.close()
        line += 1
    assert line > 5
