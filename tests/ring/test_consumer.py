"""The reading end: polling ahead, committing, restarting, and what damage does not do."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.errors import LocalProtocolError, RemoteProtocolError
from rig.ring import POLL_LIMIT, Consumer, Producer, RingMemory
from rig.ring.layout import HEAD, HEADER_SIZE, RECORD, TAIL

CAPACITY = 64 * 1024


def payloads(consumer: Consumer, limit: int = POLL_LIMIT) -> list[bytes]:
    """Poll and return the payloads only."""
    return [record.payload for record in consumer.poll(limit)]


def put_all(producer: Producer, *given: bytes) -> None:
    """Put several records."""
    for payload in given:
        producer.put(payload, kind=1)


def test_poll_of_an_empty_ring_returns_nothing(ring) -> None:
    """There is nothing to read before anything is published."""
    assert (ring.consumer.poll(), ring.consumer.pending, ring.memory.used_bytes) == ([], False, 0)


def test_poll_returns_each_record_once_in_order(ring) -> None:
    """A second poll goes on where the first ended, commit or not."""
    put_all(ring.producer, b"a", b"b")
    assert payloads(ring.consumer) == [b"a", b"b"]
    put_all(ring.producer, b"c")

    assert (payloads(ring.consumer), payloads(ring.consumer)) == ([b"c"], [])


def test_poll_returns_at_most_its_limit(ring) -> None:
    """A poll takes four records unless told otherwise, and says that there are more."""
    put_all(ring.producer, *(b"%d" % number for number in range(7)))

    assert (payloads(ring.consumer, 0), payloads(ring.consumer), ring.consumer.pending) == ([], [b"0", b"1", b"2", b"3"], True)
    assert (payloads(ring.consumer, 2), payloads(ring.consumer, 9), ring.consumer.pending) == ([b"4", b"5"], [b"6"], False)


def test_payload_is_a_copy(ring) -> None:
    """What was polled stays as it is when the ring is overwritten."""
    put_all(ring.producer, b"kept")
    [record] = ring.consumer.poll()

    ring.memory.data[4096:] = b"\xff" * CAPACITY

    assert record.payload == b"kept"


def test_backlog_counts_what_is_not_committed(ring) -> None:
    """The backlog shrinks by commits, not by polls."""
    put_all(ring.producer, b"a", b"b")
    first, _ = ring.consumer.poll()
    assert ring.memory.used_bytes == 64

    ring.consumer.commit(first)

    assert ring.memory.used_bytes == 32


def test_commit_after_restart_replays_the_unfinished_record(ring) -> None:
    """A worker that dies while handling a record leaves it for its successor."""
    put_all(ring.producer, b"done", b"in hand", b"polled", b"waiting")
    done, _, _ = ring.consumer.poll(3)
    ring.consumer.commit(done)

    assert payloads(Consumer(ring.memory)) == [b"in hand", b"polled", b"waiting"]


def test_commit_includes_the_records_before(ring) -> None:
    """Of several finished records in a row only the last needs a commit."""
    put_all(ring.producer, b"a", b"b", b"c")
    _, second, _ = ring.consumer.poll()

    ring.consumer.commit(second)

    assert payloads(Consumer(ring.memory)) == [b"c"]


def test_commit_twice_or_backwards_is_refused(ring) -> None:
    """The head moves forward only."""
    put_all(ring.producer, b"a", b"b")
    first, second = ring.consumer.poll()
    ring.consumer.commit(second)

    for record in (first, second):
        with pytest.raises(LocalProtocolError, match="cannot be committed"):
            ring.consumer.commit(record)

    assert ring.memory.words[HEAD] == second.end


def test_commit_of_what_was_not_polled_is_refused(ring) -> None:
    """A record that a predecessor polled is committed by its successor only after it polled it too."""
    put_all(ring.producer, b"a")
    [record] = ring.consumer.poll()
    successor = Consumer(ring.memory)

    with pytest.raises(LocalProtocolError, match="cannot be committed"):
        successor.commit(record)

    assert payloads(successor) == [b"a"]


@pytest.mark.parametrize(
    ("length", "kind", "flags"),
    [
        (CAPACITY, 1, 0),
        (2**32 - 1, 1, 0),
        (CAPACITY // 8 + 1, 1, 0),
        (41, 1, 0),
        (8, 1, 1),
        (8, 0, 0),
        (0, 0, 0),
        (CAPACITY - HEADER_SIZE, 0, 1),
    ],
)
def test_impossible_header_raises(ring, length: int, kind: int, flags: int) -> None:
    """A header that no producer writes is an error, time and again, and nothing beyond the tail is read."""
    put_all(ring.producer, b"x" * 40)
    RECORD.pack_into(ring.memory.data, 4096, length, kind, flags, 1, 0, 0)

    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="damaged at 0"):
            ring.consumer.poll()


def test_record_that_runs_beyond_the_end_of_the_buffer_raises(memory: RingMemory) -> None:
    """No record wraps, so one that would is damage, even where the tail is further on."""
    memory.words[HEAD] = memory.words[TAIL] = CAPACITY - 64
    consumer = Consumer(memory)
    put_all(Producer(memory), b"x" * 40, b"y" * 400)
    memory.data[-64:-60] = (48).to_bytes(4, "little")

    with pytest.raises(RemoteProtocolError, match="damaged at 65472"):
        consumer.poll()


def test_good_records_before_the_damage_are_returned_first(ring) -> None:
    """Damage costs no record that was whole."""
    put_all(ring.producer, b"good", b"bad")
    ring.memory.data[4096 + 32 + 4 : 4096 + 32 + 6] = b"\0\0"

    assert payloads(ring.consumer) == [b"good"]
    with pytest.raises(RemoteProtocolError, match="damaged at 32"):
        ring.consumer.poll()


@pytest.mark.parametrize("tail", [0, CAPACITY + 40, 2**64 - 8])
def test_impossible_tail_raises(memory: RingMemory, tail: int) -> None:
    """A tail behind the reader, or further ahead than the buffer is long, is an error."""
    memory.words[HEAD] = memory.words[TAIL] = 32
    consumer = Consumer(memory)
    memory.words[TAIL] = tail

    with pytest.raises(RemoteProtocolError, match="its tail is"):
        consumer.poll()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_poll_ends_whatever_the_bytes_are(memory: RingMemory, data: st.DataObject) -> None:
    """Any bytes at all lead to records within what was published, or to an error; never to a hang or a read outside."""
    start = data.draw(st.integers(0, CAPACITY // 8).map(lambda eighth: eighth * 8))
    memory.words[HEAD] = start
    consumer = Consumer(memory)
    memory.words[TAIL] = data.draw(st.one_of(st.integers(0, 2**64 - 1), st.integers(start, start + CAPACITY)))
    header = st.builds(struct.Struct("=IHHIIQ").pack, st.integers(0, 9000), *[st.integers(0, 2)] * 2, *[st.just(0)] * 3)
    for at in range(0, 512, 32):
        offset = (start + at) % CAPACITY + 4096
        memory.data[offset : offset + 24] = data.draw(header | st.binary(min_size=24, max_size=24)).ljust(24)[
            : len(memory.data) - offset
        ]

    seen = start
    try:
        while consumer.pending:
            for record in consumer.poll():
                assert seen <= record.position < record.end <= memory.words[TAIL]
                assert len(record.payload) <= memory.max_payload
                seen = record.end
    except RemoteProtocolError:
        pass
