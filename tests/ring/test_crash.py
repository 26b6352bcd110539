"""A ring against its model: random sizes, any order of calls, and a death between any two stores."""

import random
from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from rig.errors import RingFull
from rig.ring import Consumer, Producer, Record, RingMemory, layout
from rig.ring.layout import HEAD, HEADER_SIZE, TAIL, record_size

CAPACITY = 64 * 1024
LARGEST = CAPACITY // 8

sizes = st.one_of(st.integers(0, 64), st.integers(0, LARGEST), st.just(LARGEST))
lines = st.integers(0, 24)


def payload_of(number: int, size: int) -> bytes:
    """Give the payload of a record, which no other record shares."""
    return random.Random(number).randbytes(size)


class RingModel(RuleBasedStateMachine):
    """Both ends of a ring, which may die at any line, beside a deque that cannot."""

    def __init__(self, die_at: Any) -> None:
        super().__init__()
        self.die_at = die_at
        self.memory = RingMemory.create(CAPACITY)
        self.number = 0
        self.tail = self.head = 0
        self.kept: deque[tuple[int, bytes]] = deque()
        self.polled: list[Record] = []

    @initialize(start=st.integers(0, 2**40).map(lambda number: number * 8))
    def begin(self, start: int) -> None:
        """Begin anywhere in the buffer, which is full of what other records have left."""
        self.memory.data[self.memory.data_offset :] = b"\xff" * CAPACITY
        self.memory.words[TAIL] = self.memory.words[HEAD] = self.tail = self.head = start
        self.restart_producer()
        self.restart_consumer()

    def end_of(self, size: int) -> int:
        """Predict where a record of this size would end."""
        rest = CAPACITY - self.tail % CAPACITY
        return self.tail + (0 if record_size(size) <= rest else rest) + record_size(size)

    def appended(self, size: int) -> None:
        """Note a record that was published."""
        self.tail = self.end_of(size)
        self.kept.append((self.number, payload_of(self.number, size)))
        self.number += 1

    def write(self, size: int, steps: str) -> None:
        """Write the next record with the real producer, in one step or two."""
        payload = payload_of(self.number, size)
        if steps == "put":
            self.producer.put(payload, kind=1, count=self.number, time_ns=self.number)
            return
        at = self.producer.claim(size)
        self.memory.data[at : at + size] = payload
        if steps == "claim and publish":
            self.producer.publish(kind=1, count=self.number, time_ns=self.number)

    def attempt(self, size: int, steps: str) -> None:
        """Write if there is room by the model, else expect RingFull."""
        fits = self.end_of(size) - self.head <= CAPACITY
        assert self.producer.fits(size) == fits
        try:
            self.write(size, steps)
        except RingFull:
            assert not fits
        else:
            assert fits
            if steps != "claim":
                self.appended(size)

    @rule(size=sizes, steps=st.sampled_from(["put", "claim and publish", "claim"]))
    def write_one(self, size: int, steps: str) -> None:
        """Write a record, or only claim it."""
        self.attempt(size, steps)

    @rule(left=st.sampled_from([0, 8, 16, 24, 32]))
    def write_up_to_the_end(self, left: int) -> None:
        """Write a record that leaves just so much before the end of the buffer, where one can."""
        size = CAPACITY - self.tail % CAPACITY - left - HEADER_SIZE
        if 0 <= size <= LARGEST:
            self.attempt(size, "put")

    @rule(size=sizes)
    def fill(self, size: int) -> None:
        """Write until the ring is full."""
        while self.end_of(size) - self.head <= CAPACITY and len(self.kept) < 200:
            self.attempt(size, "put")

    @rule(size=sizes, steps=st.sampled_from(["put", "claim and publish"]), line=lines)
    def producer_dies(self, size: int, steps: str, line: int) -> None:
        """Die while writing: the record is there as a whole or not at all, by whether the tail was stored."""
        if self.end_of(size) - self.head > CAPACITY:
            return
        end = self.end_of(size)
        self.die_at(line, lambda: self.write(size, steps))
        if self.memory.words[TAIL] != self.tail:
            assert self.memory.words[TAIL] == end
            self.appended(size)
        self.restart_producer()

    @rule(limit=st.integers(0, 9))
    def poll(self, limit: int) -> None:
        """Read ahead."""
        for record in self.consumer.poll(limit):
            number, payload = self.kept[len(self.polled)]
            assert (record.kind, record.count, record.time_ns, record.payload) == (1, number, number, payload)
            self.polled.append(record)

    @precondition(lambda self: self.polled)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        """Commit a prefix of what was polled."""
        index = data.draw(st.integers(0, len(self.polled) - 1))
        self.consumer.commit(self.polled[index])
        self.committed(index)

    @rule(line=lines, limit=st.integers(0, 9))
    def consumer_dies_polling(self, line: int, limit: int) -> None:
        """Die while reading: nothing is lost."""
        self.die_at(line, lambda: self.consumer.poll(limit))
        self.restart_consumer()

    @precondition(lambda self: self.polled)
    @rule(line=st.integers(0, 3))
    def consumer_dies_committing(self, line: int) -> None:
        """Die while committing: the record is free or it comes again."""
        record = self.polled[0]
        self.die_at(line, lambda: self.consumer.commit(record))
        if self.memory.words[HEAD] != self.head:
            assert self.memory.words[HEAD] == record.end
            self.committed(0)
        self.restart_consumer()

    def committed(self, index: int) -> None:
        """Note that records were freed, up to this one."""
        self.head = self.polled[index].end
        for _ in range(index + 1):
            self.polled.pop(0)
            self.kept.popleft()

    @rule()
    def restart_producer(self) -> None:
        """Let a successor write on."""
        self.producer = Producer(self.memory)

    @rule()
    def restart_consumer(self) -> None:
        """Let a successor read on from the commit."""
        self.consumer = Consumer(self.memory)
        self.polled.clear()

    @invariant()
    def the_cursors_agree_with_the_model(self) -> None:
        """Compare what both ends say with the model."""
        if not hasattr(self, "consumer"):
            return
        assert (self.memory.words[TAIL], self.memory.words[HEAD]) == (self.tail, self.head)
        assert self.producer.used_bytes == self.memory.used_bytes == self.tail - self.head
        assert self.consumer.pending == (len(self.polled) < len(self.kept))

    def teardown(self) -> None:
        """Read what is left: all of it, in order, and then nothing."""
        if hasattr(self, "consumer"):
            self.restart_consumer()
            assert [record.payload for record in self.consumer.poll(10**6)] == [payload for _, payload in self.kept]
            assert not self.consumer.pending
        self.memory.close()


def test_ring_behaves_like_a_queue_whatever_dies(die_at) -> None:
    """Exactly what was published is read, in order and unharmed, whoever dies and wherever."""
    run_state_machine_as_test(lambda: RingModel(die_at), settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


def test_death_at_every_line_of_a_put_leaves_the_ring_good(die_at) -> None:
    """There is no line of a put, padding included, at which a death harms the records before or after."""
    for steps in ("put", "claim and publish"):
        line, died = 0, True
        while died:
            model = RingModel(die_at)
            model.begin(CAPACITY - 72)
            model.attempt(10, "put")
            died = die_at(line, lambda model=model, steps=steps: model.write(100, steps))
            published = model.memory.words[TAIL] != model.tail
            if published:
                model.appended(100)
            assert died or published
            model.restart_producer()
            model.attempt(50, "put")
            model.poll(9)
            assert len(model.polled) == (3 if published else 2)
            model.teardown()
            line += 1
        assert line > 10


def test_note_is_there_with_its_record_or_not_at_all(memory: RingMemory, die_at) -> None:
    """At whatever line the producer dies, its successor's note is that of the newest record which can be read, then and later."""
    line, died, number = 0, True, 1
    while died:
        producer, consumer = Producer(memory), Consumer(memory)
        producer.put(b"%d" % number, kind=1, note=number)
        died = die_at(line, lambda producer=producer, number=number: producer.put(b"%d" % (number + 1), kind=1, note=number + 1))
        *_, last = consumer.poll()
        assert Producer(memory).note == int(last.payload)
        Producer(memory).put(b"without", kind=1)
        assert Producer(memory).note == int(last.payload)
        *_, last = consumer.poll()
        consumer.commit(last)
        line, number = line + 1, number + 2
    assert line > 10


@settings(max_examples=50, deadline=None)
@given(size=sizes, rest=st.integers(0, 40).map(lambda number: number * 8), seed=st.integers(0, 2**32), seen=st.floats(0, 1))
def test_without_the_store_of_the_tail_no_other_store_matters(size: int, rest: int, seed: int, seen: float) -> None:
    """Whichever bytes of a record have been stored, in whatever order, it is not there before the tail is."""
    memory = RingMemory.create(CAPACITY)
    memory.words[TAIL] = memory.words[HEAD] = CAPACITY - rest
    producer = Producer(memory)
    producer.put(b"before", kind=1)
    before, tail = memory.data[:], memory.words[TAIL]
    producer.put(payload_of(seed, size), kind=2, count=7, time_ns=seed)
    after = memory.data[:]

    rng = random.Random(seed)
    changed = [at for at in range(len(after)) if before[at] != after[at] and rng.random() < seen]
    memory.data[:] = before
    for at in changed:
        memory.data[at : at + 1] = after[at : at + 1]
    memory.words[TAIL] = tail
    Producer(memory).put(b"after", kind=3)

    assert [record.payload for record in Consumer(memory).poll()] == [b"before", b"after"]
    memory.close()


def test_fences_stand_before_the_cursors_where_the_processor_keeps_no_order(ring, monkeypatch) -> None:
    """On such a processor a record's bytes are fenced from its tail, and its copy from the head, on both sides."""
    seen: list[tuple[int, int, bytes]] = []

    def fence() -> None:
        at = ring.memory.data_offset + HEADER_SIZE
        seen.append((ring.memory.words[TAIL], ring.memory.words[HEAD], ring.memory.data[at : at + 2]))
        layout.fence()

    for module in ("rig.ring.producer", "rig.ring.consumer"):
        monkeypatch.setattr(f"{module}.ORDERED_BY_PROCESSOR", False)
        monkeypatch.setattr(f"{module}.fence", fence)

    ring.producer.put(b"ab", kind=1)
    assert seen == [(0, 0, b"ab")]
    at = ring.producer.claim(2)
    ring.memory.data[at : at + 2] = b"cd"
    ring.producer.publish(kind=1)
    assert seen[1:] == [(32, 0, b"ab")]
    records = ring.consumer.poll()
    assert seen[2:] == [(64, 0, b"ab")]
    ring.consumer.commit(records[-1])
    assert seen[3:] == [(64, 0, b"ab")]
    while ring.producer.fits(LARGEST):
        ring.producer.put(bytes(LARGEST), kind=1)
    looks = len(seen)
    assert not ring.producer.fits(LARGEST)
    assert len(seen) == looks + 1
