"""The writing end: room, padding, the largest record, and two steps that show nothing before the second."""

import pytest

from rig.errors import LocalProtocolError, RingFull
from rig.ring import Consumer, Producer, RingMemory
from rig.ring.layout import HEAD, HEADER_SIZE, TAIL, record_size

CAPACITY = 64 * 1024
LARGEST = CAPACITY // 8


def move_to(memory: RingMemory, position: int) -> None:
    """Let an empty ring stand at a position, with a buffer full of what other records have left."""
    memory.data[memory.data_offset :] = b"\xff" * CAPACITY
    memory.words[TAIL] = memory.words[HEAD] = position


def fill(producer: Producer, size: int) -> int:
    """Put records of one size until the ring is full and return their number."""
    number = 0
    while producer.fits(size):
        producer.put(bytes(size), kind=1)
        number += 1
    return number


def test_put_makes_a_record_visible(ring) -> None:
    """What is put is polled, with all its fields."""
    ring.producer.put(b"payload", kind=65535, count=2**32 - 1, time_ns=2**64 - 1)

    [record] = ring.consumer.poll()

    assert (record.payload, record.kind, record.count, record.time_ns) == (b"payload", 65535, 2**32 - 1, 2**64 - 1)


def test_claim_is_invisible_until_publish(ring) -> None:
    """A record can be written in place, and appears as a whole."""
    at = ring.producer.claim(5)
    ring.memory.data[at : at + 5] = b"hello"
    assert (ring.consumer.pending, ring.producer.used_bytes) == (False, 0)

    ring.producer.publish(kind=4, count=2, time_ns=9)

    [record] = ring.consumer.poll()
    assert (record.payload, record.kind, record.count, record.time_ns) == (b"hello", 4, 2, 9)


def test_publish_needs_a_claim(ring) -> None:
    """There is nothing to publish before a claim, after its publish, or after a put."""
    with pytest.raises(LocalProtocolError, match="claim room"):
        ring.producer.publish(kind=1)
    ring.producer.claim(1)
    ring.producer.publish(kind=1)
    with pytest.raises(LocalProtocolError, match="claim room"):
        ring.producer.publish(kind=1)
    ring.producer.claim(1)
    ring.producer.put(b"", kind=1)
    with pytest.raises(LocalProtocolError, match="claim room"):
        ring.producer.publish(kind=1)


def test_claim_that_is_not_published_is_forgotten(ring) -> None:
    """Neither the next claim nor a successor of the producer sees what was only claimed."""
    ring.producer.claim(LARGEST)
    ring.producer.claim(LARGEST)
    successor = Producer(ring.memory)

    successor.put(b"first", kind=1)

    assert [record.payload for record in ring.consumer.poll()] == [b"first"]


def test_successor_continues_at_the_tail(ring) -> None:
    """A producer that was restarted appends to what its predecessor published."""
    ring.producer.put(b"a", kind=1)
    Producer(ring.memory).put(b"b", kind=1)

    assert [record.payload for record in ring.consumer.poll()] == [b"a", b"b"]


def test_empty_payload_is_a_record(ring) -> None:
    """A record may consist of its header alone."""
    ring.producer.put(b"", kind=1, count=0)

    assert [record.payload for record in ring.consumer.poll()] == [b""]


def test_largest_payload_is_an_eighth_of_the_capacity(ring) -> None:
    """The largest record passes, wherever the ring stands; one byte more is refused by every call."""
    payload = bytes(range(256)) * (LARGEST // 256)
    for position in range(0, CAPACITY, 4096 - 8):
        move_to(ring.memory, position)
        Producer(ring.memory).put(payload, kind=1)
        assert [record.payload for record in Consumer(ring.memory).poll()] == [payload]

    for refused in (ring.producer.fits, ring.producer.claim, lambda size: ring.producer.put(bytes(size), kind=1)):
        with pytest.raises(ValueError, match="it takes at most 8192"):
            refused(LARGEST + 1)


@pytest.mark.parametrize("size", [-1, -(2**40)])
def test_negative_size_is_refused(ring, size: int) -> None:
    """A size below zero is no size."""
    for refused in (ring.producer.fits, ring.producer.claim):
        with pytest.raises(ValueError, match="cannot go through"):
            refused(size)


@pytest.mark.parametrize(
    "fields",
    [{"kind": 0}, {"kind": 65536}, {"kind": -1}, {"kind": 1, "count": 2**32}, {"kind": 1, "count": -1}, {"kind": 1, "time_ns": -1}],
)
def test_field_out_of_range_is_refused_and_nothing_published(ring, fields: dict[str, int]) -> None:
    """Kind 0 belongs to the padding; the other fields have their widths."""
    with pytest.raises(ValueError, match="kind"):
        ring.producer.put(b"x", **fields)
    ring.producer.claim(1)
    with pytest.raises(ValueError, match="kind"):
        ring.producer.publish(**fields)

    assert not ring.consumer.pending


def test_wrong_payload_type_publishes_nothing(ring) -> None:
    """A failure half-way through a put leaves the ring as it was."""
    with pytest.raises(TypeError):
        ring.producer.put("text", kind=1)

    ring.producer.put(b"bytes", kind=1)
    assert [record.payload for record in ring.consumer.poll()] == [b"bytes"]


@pytest.mark.parametrize("rest", range(0, 80, 8))
def test_record_starts_over_where_the_rest_is_too_short(memory: RingMemory, rest: int) -> None:
    """Whatever is left at the end of the buffer, nothing at all and less than a header included, no record wraps."""
    move_to(memory, 3 * CAPACITY - rest)
    producer, consumer = Producer(memory), Consumer(memory)

    producer.put(b"0123456789", kind=1)
    producer.put(b"next", kind=2)

    records = consumer.poll()
    assert [record.payload for record in records] == [b"0123456789", b"next"]
    assert records[0].position == (3 * CAPACITY - rest if rest >= record_size(10) else 3 * CAPACITY)
    consumer.commit(records[-1])
    assert producer.used_bytes == 0


def test_record_without_payload_may_be_the_last_in_the_buffer(memory: RingMemory) -> None:
    """A header's room at the end is enough for a record that is nothing else."""
    move_to(memory, CAPACITY - HEADER_SIZE)
    producer = Producer(memory)

    producer.put(b"", kind=3)
    producer.put(b"next", kind=4)

    assert [(record.position, record.kind) for record in Consumer(memory).poll()] == [(CAPACITY - HEADER_SIZE, 3), (CAPACITY, 4)]


@pytest.mark.parametrize("left", [0, 8, 16, 24, 32])
def test_record_may_end_just_before_the_end(ring, left: int) -> None:
    """A record that leaves no room, too little for a header, or exactly a header's is followed by the next."""
    move_to(ring.memory, CAPACITY - 4096)
    producer, consumer = Producer(ring.memory), Consumer(ring.memory)

    producer.put(b"a" * (4096 - HEADER_SIZE - left), kind=1)
    producer.put(b"bb" * 100, kind=1)

    first, second = consumer.poll()
    assert (first.end, second.position, second.payload) == (CAPACITY - left, CAPACITY, b"bb" * 100)


def test_full_ring_refuses_and_stays_intact(ring) -> None:
    """A record that does not fit raises RingFull and changes nothing; what is in the ring is delivered."""
    number = fill(ring.producer, 1000)
    used = ring.producer.used_bytes
    assert (number, used) == (CAPACITY // record_size(1000), number * record_size(1000))

    with pytest.raises(RingFull, match="does not fit until the consumer commits"):
        ring.producer.put(b"x" * 1000, kind=1)
    with pytest.raises(RingFull):
        ring.producer.claim(1000)

    assert ring.producer.used_bytes == used
    assert [record.payload for record in ring.consumer.poll(number + 1)] == [bytes(1000)] * number


def test_ring_can_be_filled_to_the_last_byte(ring) -> None:
    """Full means full: no byte has to stay free to tell a full ring from an empty one."""
    assert fill(ring.producer, 1024 - HEADER_SIZE) == 64
    assert (ring.producer.used_bytes, ring.producer.fits(0)) == (CAPACITY, False)

    records = ring.consumer.poll(64)
    ring.consumer.commit(records[-1])

    assert (len(records), ring.producer.used_bytes, ring.producer.fits(LARGEST)) == (64, 0, True)


def test_room_comes_back_by_the_commit_alone(ring) -> None:
    """A poll frees nothing; a commit frees its record, and the producer finds out."""
    fill(ring.producer, 1000)
    first, *_ = ring.consumer.poll()
    assert not ring.producer.fits(500)

    ring.consumer.commit(first)

    assert ring.producer.fits(500)
    ring.producer.put(bytes(500), kind=1)


def test_room_that_is_just_enough_is_enough(ring) -> None:
    """A record fits into exactly the room that a commit has freed, and into one byte less it does not."""
    fill(ring.producer, 1000)
    fill(ring.producer, 0)
    ring.consumer.commit(ring.consumer.poll(1)[0])

    successor = Producer(ring.memory)
    assert (CAPACITY - ring.producer.used_bytes, ring.producer.fits(1000), successor.fits(1001)) == (1024, True, False)
    ring.producer.put(bytes(1000), kind=1)
    assert ring.producer.used_bytes == CAPACITY


def test_padding_needs_room_too(memory: RingMemory) -> None:
    """A record does not fit if it does only without the padding before it."""
    move_to(memory, 2048)
    producer, consumer = Producer(memory), Consumer(memory)
    while producer.used_bytes < CAPACITY - 4096:
        producer.put(bytes(1024 - HEADER_SIZE), kind=1)

    assert producer.used_bytes == CAPACITY - 4096
    assert (producer.fits(2048 - HEADER_SIZE), producer.fits(3000 - HEADER_SIZE)) == (True, False)
    consumer.commit(consumer.poll(1)[0])
    assert producer.fits(3000 - HEADER_SIZE)


def test_producer_of_a_full_ring_looks_again_after_its_restart(ring) -> None:
    """A successor that attaches to a full ring knows that it is full."""
    fill(ring.producer, 1024 - HEADER_SIZE)

    assert not Producer(ring.memory).fits(0)


def test_positions_go_on_far_beyond_the_capacity(memory: RingMemory) -> None:
    """Years of traffic do not wrap a position."""
    move_to(memory, 2**62)
    producer, consumer = Producer(memory), Consumer(memory)

    producer.put(b"late", kind=1)

    [record] = consumer.poll()
    assert (record.position, record.payload) == (2**62, b"late")


def test_note_is_that_of_the_newest_record_with_one(ring) -> None:
    """Records without a note leave the one that there is; a successor reads it, and so does whoever looks."""
    assert ring.producer.note == 0
    ring.producer.put(b"a", kind=1, note=2**63)
    ring.producer.put(b"b", kind=1)
    assert (ring.producer.note, Producer(ring.memory).note) == (2**63, 2**63)
    ring.producer.put(b"c", kind=1, note=5)
    ring.producer.put(b"d", kind=1)

    assert (ring.producer.note, Producer(ring.memory).note) == (5, 5)


def test_record_without_room_leaves_the_note(ring) -> None:
    """What was not published has no note either."""
    ring.producer.put(b"a", kind=1, note=1)
    fill(ring.producer, LARGEST)
    with pytest.raises(RingFull):
        ring.producer.put(bytes(LARGEST), kind=1, note=2)

    assert ring.producer.note == 1


def test_producer_knows_what_is_committed(ring) -> None:
    """The head moves when the consumer commits."""
    ring.producer.put(b"a", kind=1)
    [record] = ring.consumer.poll()
    assert ring.producer.head == 0
    ring.consumer.commit(record)

    assert ring.producer.head == record.end
