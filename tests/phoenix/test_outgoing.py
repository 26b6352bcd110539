"""`rig.phoenix.outgoing`."""

import msgspec
import pytest

from rig.errors import LocalProtocolError
from rig.phoenix.message import BinaryFrame
from rig.phoenix.outgoing import Outgoing
from rig.phoenix.serializer import SerializerV1, SerializerV2


def test_refs_are_never_used_twice():
    """Refs are the strings "1", "2", … and go on counting."""
    outgoing = Outgoing(SerializerV2())

    assert [outgoing.next_ref() for _ in range(1000)] == [str(i) for i in range(1, 1001)]


def test_frames_are_taken_once_and_in_order():
    """What was taken is gone; text and binary frames keep their order."""
    outgoing = Outgoing(SerializerV2())
    outgoing.add("1", "1", "t", "e", {})
    outgoing.add("1", "2", "t", "e", b"x")

    text, binary = outgoing.take()

    assert (type(text), type(binary)) == (bytes, BinaryFrame)
    assert outgoing.take() == []


def test_a_payload_that_does_not_fit_adds_nothing():
    """After a refused payload the frames are what they were."""
    outgoing = Outgoing(SerializerV1())
    with pytest.raises(LocalProtocolError):
        outgoing.add("1", "1", "t", "e", b"x")

    assert outgoing.take() == []


@pytest.mark.parametrize("payload", [{"a": 1}, [1, "é"], None, msgspec.Raw(b'{"a":1}')])
def test_a_frozen_payload_is_sent_as_it_would_have_been(payload):
    """Freezing a payload does not change its frame, and sends nothing."""
    outgoing = Outgoing(SerializerV2())
    frozen = outgoing.freeze("t", "e", payload)
    assert outgoing.take() == []
    outgoing.add("1", "1", "t", "e", payload)
    outgoing.add("1", "1", "t", "e", frozen)

    one, other = outgoing.take()

    assert one == other


def test_a_frozen_payload_does_not_change():
    """What its owner does to a payload after freezing it is not seen."""
    outgoing = Outgoing(SerializerV2())
    payload, data = {"a": 1}, bytearray(b"x")
    frozen = outgoing.freeze("t", "e", payload), outgoing.freeze("t", "e", data)
    payload["a"], data[0] = 2, 0
    for each in frozen:
        outgoing.add(None, None, "t", "e", each)

    assert outgoing.take() == [b'[null,null,"t","e",{"a":1}]', b"\x00\x00\x00\x01\x01tex"]
