"""What a dead io process had put into a ring is read again, whoever has committed it."""

import msgspec
import pytest
import structlog.testing

from rig.errors import RemoteProtocolError
from rig.io.remains import events_of, published, readable_bytes
from rig.records import Kind, encode_events, encode_names
from rig.ring import Consumer, Producer, RingMemory


def record(*numbers: int, pad: int = 0) -> bytes:
    payloads = [msgspec.Raw(b'{"id":%d,"pad":"%b"}' % (number, b"x" * pad)) for number in numbers]
    return encode_events(encode_names(["a", "tick"]), [0] * len(numbers), payloads, binary=False)


def numbers(memory: RingMemory, position: int) -> list[int]:
    return [msgspec.json.decode(payload)["id"] for _, _, payload in published(memory, position)]


def test_what_is_committed_is_still_there() -> None:
    """From any end of a record on, over the end of the buffer too, other kinds left out."""
    memory = RingMemory.create(64 * 1024)
    producer, consumer = Producer(memory), Consumer(memory)
    ends = [0]
    for number in range(100):
        producer.put(record(2 * number, 2 * number + 1, pad=500), kind=Kind.EVENTS, count=2)
        producer.put(b"{}", kind=Kind.GAP, count=0)
        ends.append(producer.tail)
        consumer.commit(consumer.poll()[-1])
    assert producer.tail > memory.capacity
    for back in (0, 1, 7, 30):
        assert numbers(memory, ends[100 - back]) == list(range(200 - 2 * back, 200))
    memory.close()


def test_what_may_be_overwritten_is_left_out() -> None:
    """Rather events that repeat than bytes that are no record; the log says so."""
    memory = RingMemory.create(64 * 1024)
    producer = Producer(memory)
    while producer.tail <= readable_bytes(memory):
        producer.put(record(1, pad=4000), kind=Kind.EVENTS)
    with structlog.testing.capture_logs() as logs:
        assert numbers(memory, 0) == []
    assert [entry["log_level"] for entry in logs] == ["warning"]
    memory.close()


def test_record_that_cannot_be_read_ends_the_look() -> None:
    """What came before it counts."""
    memory = RingMemory.create(64 * 1024)
    producer = Producer(memory)
    for payload in (record(1), b"junk", record(2)):
        producer.put(payload, kind=Kind.EVENTS)
    with structlog.testing.capture_logs() as logs:
        assert numbers(memory, 0) == [1]
    assert [entry["log_level"] for entry in logs] == ["error"]
    memory.close()


@pytest.mark.parametrize(
    "record",
    [
        b"junk",
        b'[{"a":1},[0],[{}]]',
        b'[["a","tick"],[1],[{}]]',
        b'[["a","tick"],[0,0],[{}]]',
        b'[["\xff","tick"],[0],[{}]]',
    ],
    ids=["no record", "names that are none", "a number without a name", "an event without a payload", "no text"],
)
def test_record_that_is_none_is_said_so(record: bytes) -> None:
    """Whatever is wrong with it: a successor that died of it would die again and again."""
    with pytest.raises(RemoteProtocolError):
        events_of(record)
