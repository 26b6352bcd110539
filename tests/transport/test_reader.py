"""
From frames to messages, and what is no frame that a server may send: against a server that does only what each test tells it.
"""

import asyncio

import pytest

from rig.transport import Closed, dial
from tests.running import run
from tests.transport.raw_server import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Owner,
    RawServer,
    Received,
    close,
    converse,
    frame,
    sends,
    text,
)

KIB = 1024


@pytest.mark.parametrize("size", [0, 1, 2, 125, 126, 127, 200, 65535, 65536, 70_000, 300_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_messages_of_every_length_arrive(size, opcode):
    """All three ways to write a length are read, also where a frame is larger than the read buffer."""

    async def test():
        payload = bytes(range(256 if opcode == BINARY else 128)) * (size // 128 + 1)
        behaviour = sends(
            frame(TEXT, b"first"), frame(opcode, payload[:size]) + frame(opcode, payload[:size]) + text(b"last"), close(1000)
        )
        owner = await converse(behaviour, read_buffer_bytes=128 * KIB)
        kind = "text" if opcode == TEXT else "binary"
        assert owner.flow == [("text", b"first"), (kind, payload[:size]), (kind, payload[:size]), ("text", b"last")]

    run(test)


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 130, 1000])
def test_frames_survive_any_segmentation(piece):
    """TCP may cut the stream anywhere."""

    async def test():
        sizes = [0, 1, 2, 3, 124, 125, 126, 127, 300, 5, 0, 1]
        stream = b"".join(
            frame(TEXT if i % 3 else BINARY, bytes([i]) * size) + (frame(PING, b"x") if i % 4 == 0 else b"")
            for i, size in enumerate(sizes)
        )
        stream = text(b"start") + stream + frame(TEXT, b"par", fin=False) + frame(PING) + frame(CONTINUATION, b"ts") + text(b"end")

        async def behaviour(peer):
            await peer.upgrade()
            for start in range(0, len(stream), piece):
                peer.write(stream[start : start + piece])
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            peer.write(close(1000))
            await peer.read_to_end()

        owner = await converse(behaviour)
        expected = [("text" if i % 3 else "binary", bytes([i]) * size) for i, size in enumerate(sizes)]
        assert owner.flow == [("text", b"start"), *expected, ("text", b"parts"), ("text", b"end")]

    run(test)


def test_frames_of_one_read_come_as_one_batch():
    """The batch is the unit: one call for what one read has brought."""

    async def test():
        owner = await converse(sends(text(b"alone"), text(*[b"%d" % i for i in range(300)]), close(1000)))
        assert [len(batch) for batch in owner.batches] == [1, 300]

    run(test)


def test_a_batch_holds_at_most_512_frames():
    """What the owner has to hold at once is bounded in number."""

    async def test():
        payloads = [b"%04d" % i for i in range(1500)]
        owner = await converse(sends(text(b"first"), text(*payloads), close(1000)))
        assert max(map(len, owner.batches)) == 512
        assert owner.texts == [b"first", *payloads]

    run(test)


def test_a_batch_holds_at_most_256_kib():
    """What the owner has to hold at once is bounded in bytes."""

    async def test():
        payloads = [bytes([i]) * 60_000 for i in range(40)]
        owner = await converse(sends(text(b"first"), text(*payloads), close(1000)))
        assert max(sum(map(len, batch)) for batch in owner.batches) <= 256 * KIB
        assert max(map(len, owner.batches)) > 1
        assert owner.texts == [b"first", *payloads]

    run(test)


def test_batches_are_bounded_before_the_fast_lane_is_entered():
    """Frames that come right with the handshake keep the same limits."""

    async def test():
        payloads = [b"%04d" % i for i in range(1500)]

        async def behaviour(peer):
            await peer.upgrade(text(*payloads) + b"".join(frame(BINARY, b"b" * 60_000) for _ in range(9)) + close(1000))
            await peer.read_to_end()

        owner = await converse(behaviour)
        assert max(map(len, owner.batches)) <= 512
        assert max(sum(map(len, frames)) for kind, frames in owner.heard if kind == "binary") <= 256 * KIB
        assert owner.flow == [("text", payload) for payload in payloads] + [("binary", b"b" * 60_000)] * 9

    run(test)


def test_text_and_binary_keep_their_order():
    """A batch is of one kind, and the kinds come in the order of the wire."""

    async def test():
        kinds = [TEXT, TEXT, BINARY, BINARY, BINARY, TEXT, BINARY]
        owner = await converse(sends(b"".join(frame(kind, b"%d" % i) for i, kind in enumerate(kinds)), close(1000)))
        assert owner.flow == [("text" if kind == TEXT else "binary", b"%d" % i) for i, kind in enumerate(kinds)]

    run(test)


def test_fragments_are_put_together_around_control_frames():
    """A message may come in pieces, with PINGs between them."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            peer.write(
                text(b"before") + frame(TEXT, b"one ", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"two ", fin=False)
            )
            assert await peer.receive() == Received(PONG, b"?")
            peer.write(frame(PONG) + frame(CONTINUATION, b"three") + text(b"after"))
            peer.write(
                frame(BINARY, b"b", fin=False) + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"c") + close(1000)
            )
            await peer.read_to_end()

        owner = await converse(behaviour)
        assert owner.flow == [("text", b"before"), ("text", b"one two three"), ("text", b"after"), ("binary", b"bc")]

    run(test)


def test_a_ping_is_answered_with_its_payload():
    """The server sees that we are alive, whether the payload is empty or full."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            for payload in (b"", b"x" * 125):
                peer.write(text(b"t") + frame(PING, payload) + text(b"t"))
                assert await peer.receive() == Received(PONG, payload)
            peer.write(close(1000))
            await peer.read_to_end()

        assert (await converse(behaviour)).texts == [b"t"] * 4

    run(test)


@pytest.mark.parametrize("limit", [100, 1000, 100_000])
def test_messages_above_the_limit_are_dropped_and_reported(limit):
    """A message that is too large costs neither the connection nor any other message."""

    async def test():
        fits, too_large = b"f" * limit, b"t" * (limit + 1)
        third = len(too_large) // 3 + 1
        pieces = [too_large[:third], too_large[third : 2 * third], too_large[2 * third :]]
        fragmented = frame(TEXT, pieces[0], fin=False) + frame(CONTINUATION, pieces[1], fin=False) + frame(CONTINUATION, pieces[2])
        whole = frame(TEXT, fits[:50], fin=False) + frame(CONTINUATION, fits[50:])
        stream = text(b"a", too_large, b"b") + frame(BINARY, too_large) + fragmented + text(b"c", fits) + whole
        owner = await converse(sends(text(b"start"), stream, close(1000)), max_frame_bytes=limit)
        assert owner.texts == [b"start", b"a", b"b", b"c", fits, fits]
        assert sum(count for count, _ in owner.rejected) == 3
        assert all(f"limit of {limit} bytes" in reason for _, reason in owner.rejected)
        assert owner.closed == Closed(1000)

    run(test)


def test_a_frame_far_above_the_limit_ends_the_connection_with_1009():
    """Nobody makes us read without end."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            peer.write(text(b"before") + frame(TEXT, b"x" * (17 * 64 * KIB))[:10])
            assert (await peer.receive()) == Received(CLOSE, (1009).to_bytes(2, "big") + closing_reason)
            await peer.read_to_end()

        closing_reason = b"a frame of 1114112 bytes is not read: the limit is 1048576 bytes"
        owner = await converse(behaviour, max_frame_bytes=64 * KIB)
        assert owner.texts == [b"before"]
        assert owner.closed == Closed(1006, closing_reason.decode())

    run(test)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (frame(CONTINUATION, b"x"), "continuation"),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), "before the one before it"),
        (frame(TEXT, b"x", fin=False) + text(b"y" * 10), "before the one before it"),
        (frame(BINARY, b"x", fin=False) + frame(BINARY, b"y", fin=False), "before the one before it"),
        (frame(TEXT, b"x" * 50, rsv=4), "reserved bits"),
        (frame(TEXT, b"x", rsv=2), "reserved bits"),
        (frame(PING, b"x", rsv=1), "reserved bits"),
        (frame(0x3, b"x"), "opcode"),
        (frame(0xB, b"x"), "opcode"),
        (frame(TEXT, b"x" * 20, masked=True), "masked"),
        (frame(PING, b"x", fin=False), "fragmented control"),
        (frame(PING, b"x" * 126), "125"),
        (b"\x81\x7e\x00\x05hello", "shortest"),
        (b"\x81\x7f" + (5).to_bytes(8, "big") + b"hello", "shortest"),
        (b"\x81\x7f" + (1 << 63).to_bytes(8, "big") + b"hello", "highest bit"),
        (frame(CLOSE, b"\x03"), "CLOSE"),
        (close(0), "close code 0 "),
        (close(1005), "close code 1005 "),
        (close(1006), "close code 1006 "),
        (close(1015), "close code 1015 "),
        (close(5000), "close code 5000 "),
        (close(999), "close code 999 "),
        (close(1004), "close code 1004 "),
        (close(1016), "close code 1016 "),
        (close(2999), "close code 2999 "),
        (close(65535), "close code 65535 "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("early", [True, False], ids=["with-the-upgrade", "later"])
def test_a_breach_of_the_protocol_ends_the_connection_with_1002(bad, why, early):
    """What came before the bad frame is handed on, what comes after it is not, and the reason is told."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(text(b"start", b"before") + bad + text(b"after the fault") if early else b"")
            if not early:
                peer.write(text(b"start"))
                await asyncio.sleep(0.005)
                peer.write(text(b"before") + bad + text(b"after the fault"))
            received = await peer.receive()
            assert received.opcode == CLOSE
            assert received.payload[:2] == (1002).to_bytes(2, "big")

        owner = await converse(behaviour)
        assert owner.texts == [b"start", b"before"]
        assert owner.closed.code == 1006
        assert not owner.closed.by_us
        assert why in owner.closed.reason

    run(test)


NOT_UTF8 = [
    pytest.param(b"\xff", id="no-octet-of-utf-8"),
    pytest.param(b"abc\x80", id="continuation-alone"),
    pytest.param("\N{EURO SIGN}".encode()[:2], id="cut-off"),
    pytest.param(b"\xc0\xaf", id="overlong"),
    pytest.param(b"\xed\xa0\x80", id="surrogate"),
    pytest.param(b"\xf4\x90\x80\x80", id="above-10ffff"),
]


@pytest.mark.parametrize("bad", NOT_UTF8)
@pytest.mark.parametrize("how", ["usual", "long", "fragments", "alone"])
def test_text_that_is_not_utf8_ends_the_connection_with_1007(bad, how):
    """Messages before it are handed on, it and all after it are not; binary messages may hold anything."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            peer.write(frame(BINARY, bad) + text(*good))
            peer.write(
                {
                    "usual": text(b"x" * 200 + bad + b"x" * 200),
                    "long": text(b"x" * 70_000 + bad),
                    "fragments": frame(TEXT, b"x", fin=False) + frame(CONTINUATION, bad),
                    "alone": text(bad),
                }[how]
                + text(b"after")
                + close(1000)
            )
            assert await peer.receive() == Received(CLOSE, (1007).to_bytes(2, "big") + b"a text message is not UTF-8")
            assert await peer.read_to_end() == b""

        good = [b"%d" % number for number in range(100)] + ["\N{EURO SIGN}\n\N{SNOWMAN}".encode(), b""]
        owner = await converse(behaviour)
        assert owner.flow == [("binary", bad)] + [("text", message) for message in good]
        assert owner.closed == Closed(1006, "a text message is not UTF-8")

    run(test)


def test_a_character_may_be_cut_by_fragments_but_not_by_messages():
    """The message is the unit, not the frame and not the batch."""

    async def test():
        euro = "\N{EURO SIGN}".encode()

        async def behaviour(peer):
            await peer.upgrade()
            peer.write(frame(TEXT, euro[:1], fin=False) + frame(PING) + frame(CONTINUATION, euro[1:2], fin=False))
            peer.write(frame(CONTINUATION, euro[2:]) + text(euro, euro[:1], euro[1:]))
            assert await peer.receive() == Received(PONG, b"")
            assert (await peer.receive()).payload[:2] == (1007).to_bytes(2, "big")

        assert (await converse(behaviour)).texts == [euro, euro]

    run(test)


def test_a_fragment_that_cannot_become_utf8_is_not_waited_on():
    """A text is judged as it comes: the rest of the message need not arrive."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            peer.write(frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"\xff", fin=False))
            assert (await peer.receive()).payload[:2] == (1007).to_bytes(2, "big")

        assert (await converse(behaviour)).texts == []

    run(test)


def test_a_close_reason_that_is_not_utf8_ends_the_connection_with_1007():
    """The text of a CLOSE is held to the same rule as any other."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(text(b"start") + close(1000, b"\xff"))
            assert (await peer.receive()).payload[:2] == (1007).to_bytes(2, "big")

        owner = await converse(behaviour)
        assert owner.texts == [b"start"]

    run(test)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1011, 1012, 3000, 4000, 4999])
def test_a_close_is_answered_with_its_code(code):
    """The owner learns code and reason; frames behind the CLOSE are ignored."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            peer.write(
                text(b"last words")
                + close(code, "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n".encode())
                + text(b"too late")
                + frame(PING)
            )
            assert await peer.receive() == Received(CLOSE, code.to_bytes(2, "big"))
            assert await peer.read_to_end() == b""

        owner = await converse(behaviour)
        assert owner.texts == [b"last words"]
        assert owner.closed == Closed(code, "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n")

    run(test)


@pytest.mark.parametrize("early", [True, False], ids=["with-the-upgrade", "later"])
@pytest.mark.parametrize("behind", [close(1001), frame(0x3), b"\xff" * 30, frame(TEXT, b"\xff"), frame(PING)])
def test_nothing_behind_a_close_changes_the_answer(behind, early):
    """One CLOSE goes out, with the server's code, whatever came in the same read behind its own."""

    async def test():
        async def behaviour(peer):
            stream = text(b"before") + close(1000) + behind
            await peer.upgrade(stream if early else b"")
            if not early:
                peer.write(stream)
            assert await peer.receive() == Received(CLOSE, (1000).to_bytes(2, "big"))
            assert await peer.read_to_end() == b""

        owner = await converse(behaviour)
        assert owner.texts == [b"before"]
        assert owner.closed == Closed(1000)

    run(test)


def test_the_owner_can_answer_what_stands_before_a_fault():
    """A fault is found when it is its turn, even if all came in one segment with the upgrade."""

    async def test():
        class Echo(Owner):
            def text_received(self, frames):
                super().text_received(frames)
                transport.send(frames)

        async def behaviour(peer):
            await peer.upgrade(text(b"one") + frame(PING, b"p") + text(b"two") + frame(0x3))
            assert [(await peer.receive()).payload for _ in range(3)] == [b"one", b"p", b"two"]
            assert (await peer.receive()).payload[:2] == (1002).to_bytes(2, "big")

        owner = Echo()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            await owner.wait_closed()
        assert owner.texts == [b"one", b"two"]

    run(test)


def test_after_a_fault_not_even_the_close_of_the_server_is_taken():
    """The fault is what ended the connection, not the server's answer to our complaint."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(frame(0x3))
            assert (await peer.receive()).payload[:2] == (1002).to_bytes(2, "big")
            peer.write(close(1002, b"sorry"))
            assert await peer.read_to_end() == b""

        assert (await converse(behaviour)).closed == Closed(1006, "a frame has the opcode 3, which has no meaning")

    run(test)
