"""What is inside a record: its bytes, and that both sides agree on them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import RemoteProtocolError
from rig.gap import Gap
from rig.records import (
    DeadLetter,
    EnqueueRequest,
    Kind,
    Outcome,
    PushRequest,
    PushResult,
    decode_enqueues,
    decode_events,
    decode_gap,
    decode_letters,
    decode_names,
    decode_requests,
    decode_reset,
    decode_results,
    decode_spilled,
    decode_stored,
    encode_enqueues,
    encode_events,
    encode_gap,
    encode_letters,
    encode_names,
    encode_requests,
    encode_reset,
    encode_results,
    encode_spilled,
    encode_stored,
)

NAMES = ["room:1", "tick", "room:2", "tock"]
TEXT = [msgspec.Raw(b'{"a":1}'), msgspec.Raw(b"[]"), msgspec.Raw(b'"\xc3\xa4"')]


def test_json_events_are_these_bytes() -> None:
    """Names once, a number for each event, payloads as they came."""
    record = encode_events(encode_names(NAMES), [0, 1, 0], TEXT, binary=False)

    assert record == b'[["room:1","tick","room:2","tock"],[0,1,0],[{"a":1},[],"\xc3\xa4"]]'


def test_binary_events_are_these_bytes() -> None:
    """The length of the header, the header with the lengths, the payloads without anything between them."""
    record = encode_events(encode_names(["a", "b"]), [0, 0], [b"\x00\xff", b""], binary=True)

    assert record == b'\x17\x00\x00\x00[["a","b"],[0,0],[2,0]]\x00\xff'


def test_push_requests_are_these_bytes() -> None:
    """A list of arrays in MessagePack."""
    request = PushRequest(1, "t", "e", b"{}", False, 2.5, True)

    assert encode_requests([request]) == b"\x91\x97\x01\xa1t\xa1e\xc4\x02{}\xc2\xcb@\x04\x00\x00\x00\x00\x00\x00\xc3"


def test_push_results_are_these_bytes() -> None:
    """A list of arrays in MessagePack."""
    result = PushResult(1, Outcome.REJECTED, "no", b"", True)

    assert encode_results([result]) == b"\x91\x95\x01\x03\xa2no\xc4\x00\xc3"


def test_pushes_to_store_are_these_bytes() -> None:
    """A list of arrays in MessagePack; nil where they do not expire."""
    request = EnqueueRequest(1, "k", "t", "e", b"{}", False, None)

    assert encode_enqueues([request]) == b"\x91\x97\x01\xa1k\xa1t\xa1e\xc4\x02{}\xc2\xc0"


def test_dead_letters_are_these_bytes() -> None:
    """A list of arrays in MessagePack."""
    letter = DeadLetter("t", "e", "h", "r", "tb", b"\xff", True, 2, 2.5)

    assert encode_letters([letter]) == b"\x91\x99\xa1t\xa1e\xa1h\xa1r\xa2tb\xc4\x01\xff\xc3\x02\xcb@\x04\x00\x00\x00\x00\x00\x00"


def test_reset_is_these_bytes() -> None:
    """A position, as large as a position can be."""
    assert encode_reset(1 << 40) == b"\xcf\x00\x00\x01\x00\x00\x00\x00\x00"
    assert decode_reset(encode_reset((1 << 63) + 1)) == (1 << 63) + 1


def test_stored_is_these_bytes() -> None:
    """A row of spill.db, as large as its number can be, and the place of the event in it."""
    assert encode_stored(1 << 40, 3) == b"\x92\xcf\x00\x00\x01\x00\x00\x00\x00\x00\x03"
    assert decode_stored(encode_stored((1 << 63) - 1, 0)) == ((1 << 63) - 1, 0)
    with pytest.raises(RemoteProtocolError, match="names no row"):
        decode_stored(b"\x91\x01")


def test_spilled_is_these_bytes() -> None:
    """The outlet's number, then the record as the ring would have had it."""
    assert encode_spilled(258, b"[]") == b"\x02\x01\x00\x00\x00\x00\x00\x00[]"
    assert decode_spilled(encode_spilled((1 << 64) - 1, b"")) == ((1 << 64) - 1, b"")
    with pytest.raises(RemoteProtocolError, match="a spilled record of 7 bytes"):
        decode_spilled(bytes(7))


def test_gap_is_these_bytes() -> None:
    """Plain JSON, so that a dead letter can be read."""
    gap = Gap(topic="a", outcome="replayed", since="x", confirmed=True, missed=None, reason="why")
    text = b'{"topic":"a","outcome":"replayed","since":"x","confirmed":true,"missed":null,"reason":"why"}'
    assert encode_gap(gap) == text
    assert decode_gap(text) == gap
    with pytest.raises(RemoteProtocolError, match="a record of a gap that cannot be read"):
        decode_gap(b'{"topic":"a"}')


def test_kinds_and_outcomes_keep_their_numbers() -> None:
    """An io process and a worker of different age in one run must mean the same."""
    assert [kind.value for kind in Kind] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [outcome.value for outcome in Outcome] == [0, 1, 2, 3, 4, 5, 6]


words = st.text(max_size=8)
json_values = st.recursive(st.none() | st.integers(-9, 9) | words, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@given(names=st.lists(words, max_size=6).map(lambda some: some[: len(some) // 2 * 2]), values=st.lists(json_values, max_size=6))
def test_json_events_come_back(names: list[str], values: list[Any]) -> None:
    """What was gathered is what is read, for any text and any payload."""
    numbers = list(range(len(values)))
    payloads = [msgspec.Raw(msgspec.json.encode(value)) for value in values]

    found_names, found_numbers, found = decode_events(
        Kind.EVENTS, encode_events(encode_names(names), numbers, payloads, binary=False)
    )

    assert decode_names(found_names) == names
    assert found_numbers == numbers
    assert [msgspec.json.decode(payload) for payload in found] == values


@given(payloads=st.lists(st.binary(max_size=12), max_size=6))
def test_binary_events_come_back(payloads: list[bytes]) -> None:
    """Binary payloads are cut where they were joined, the empty ones too."""
    record = encode_events(encode_names(NAMES), [1] * len(payloads), payloads, binary=True)

    names, numbers, found = decode_events(Kind.EVENTS_BINARY, record)

    assert (decode_names(names), numbers, found) == (NAMES, [1] * len(payloads), payloads)


def test_payloads_of_json_are_raw_and_of_binary_are_bytes() -> None:
    """The worker tells one from the other by the type."""
    text = decode_events(Kind.EVENTS, encode_events(encode_names(NAMES), [0], TEXT[:1], binary=False))[2]
    binary = decode_events(Kind.EVENTS_BINARY, encode_events(encode_names(NAMES), [0], [b"{}"], binary=True))[2]

    assert (type(text[0]), type(binary[0])) == (msgspec.Raw, bytes)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.EVENTS, b""),
        (Kind.EVENTS, b"[[],[]]"),
        (Kind.EVENTS, b'[[],["x"],[]]'),
        (Kind.EVENTS, b"[" * 100_000),
        (Kind.EVENTS_BINARY, b"\x01"),
        (Kind.EVENTS_BINARY, b"\x02\x00\x00\x00[]"),
        (Kind.EVENTS_BINARY, b"\xff\xff\xff\xff[[],[],[]]{"),
        (Kind.PUSHES, b"[[],[],[]]"),
        (0, b""),
    ],
)
def test_damaged_record_is_a_protocol_error(kind: int, payload: bytes) -> None:
    """Bytes that no io process writes are refused, not believed."""
    with pytest.raises(RemoteProtocolError, match="a record of"):
        decode_events(kind, payload)


def test_requests_and_results_come_back() -> None:
    """Both sides of the pushes, replies and storage rings agree."""
    requests = [PushRequest((1 << 63) + 5, "ä:1", "e", b"\x00\xff", True, 0.0, False)]
    results = [PushResult((1 << 63) + 5, Outcome.REPLIED, "ok", b'{"a":1}', False)]

    enqueues = [EnqueueRequest((1 << 63) + 5, "k", "ä:1", "e", b"\x00\xff", True, 2.5)]
    letters = [DeadLetter("ä:1", "e", "app.handler", "no", "Traceback\n", b"\x00\xff", True, 3, 1.5)]

    assert decode_enqueues(encode_enqueues(enqueues)) == enqueues
    assert decode_letters(encode_letters(letters)) == letters
    assert decode_requests(encode_requests(requests)) == requests
    assert decode_results(encode_results(results)) == results
