"""A WebSocket against a server that does only what each test tells it."""

import asyncio
import contextlib
import logging

import psutil
import pytest

from rig.errors import LocalProtocolError
from rig.transport import BinaryFrame, Closed, dial
from tests.running import run, until
from tests.transport.raw_server import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Owner,
    Peer,
    RawServer,
    Received,
    close,
    frame,
    text,
)

KIB = 1024


async def converse(behaviour, owner=None, **settings):
    """Dial a server with this behaviour, wait until the connection is over, and return the owner."""
    owner = owner or Owner()
    async with RawServer(behaviour) as server:
        await dial(server.endpoint(), owner, **settings)
        await owner.wait_closed()
    return owner


def sends(*pieces):
    """Make a server that upgrades, writes each piece in a segment of its own, and reads to the end."""

    async def behaviour(peer: Peer) -> None:
        await peer.upgrade()
        for piece in pieces:
            peer.write(piece)
            await asyncio.sleep(0.005)
        await peer.read_to_end()

    return behaviour


def test_the_upgrade_request_carries_what_the_endpoint_says():
    """Path, query, headers and token arrive as they were given."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(close(1000))
            await peer.read_to_end()
            assert peer.request.startswith("GET /socket/websocket?user=x%20y&vsn=2.0.0 HTTP/1.1\r\n")
            assert peer.header("X-Trace") == "1"
            assert peer.header("Sec-WebSocket-Protocol") == "phoenix, base64url.bearer.phx.c2VzYW1l"
            assert peer.header("Host") == f"127.0.0.1:{server.port}"
            assert peer.header("Sec-WebSocket-Extensions") is None

        owner = Owner()
        async with RawServer(behaviour) as server:
            await dial(server.endpoint(params={"user": "x y"}, headers=(("X-Trace", "1"),), auth_token="sesame"), owner)
            await owner.wait_closed()

    run(test)


def test_the_owner_hears_nothing_before_dial_has_returned():
    """Whoever dials has the transport in hand when the first frame comes, even if it came with the handshake."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(text(b"early", b"bird") + close(1001, b"bye"))
            await peer.read_to_end()

        owner = Owner()
        async with RawServer(behaviour) as server:
            await dial(server.endpoint(), owner)
            assert owner.heard == []
            await owner.wait_closed()
        assert owner.texts == [b"early", b"bird"]
        assert owner.closed == Closed(1001, "bye")

    run(test)


@pytest.mark.parametrize("cut", [1, 3, 5, 6, 7, 9, 14])
def test_a_frame_that_came_in_part_with_the_handshake_is_whole_in_the_end(cut):
    """Nothing is lost or torn where the first frames meet the answer to the upgrade."""

    async def test():
        stream = text(b"abc", b"d" * 300, b"e") + frame(PING, b"p") + text(b"f" * 200) * 3 + close(1000)

        async def behaviour(peer):
            await peer.upgrade(stream[:cut])
            await asyncio.sleep(0.01)
            peer.write(stream[cut : cut + 150])
            await asyncio.sleep(0.01)
            peer.write(stream[cut + 150 :])
            await peer.read_to_end()

        owner = await converse(behaviour)
        assert owner.texts == [b"abc", b"d" * 300, b"e"] + [b"f" * 200] * 3

    run(test)


def test_what_came_with_the_upgrade_is_handed_on_even_if_the_connection_is_lost_at_once():
    """The owner hears it when dial has returned, and then of the end, once."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(text(b"early"))
            await peer.read_to_end()

        owner = Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            underlying = transport._ws.underlying_transport
            underlying.get_protocol().connection_lost(OSError("gone"))
            underlying.set_protocol(asyncio.Protocol())
            assert owner.heard == []
            await owner.wait_closed()
            transport.send([b"too late"])
            underlying.abort()
        assert owner.heard == [("text", [b"early"]), ("closed", Closed(1006, "gone"))]

    run(test)


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


def test_every_byte_received_counts_as_a_sign_of_life():
    """Even an empty PONG and half a frame show that the peer is there."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(frame(PONG))
            for piece in (text(b"hello"), frame(PONG), frame(TEXT, b"x" * 100_000)[:50_000]):
                peer.write(piece)
                await step.wait()
                step.clear()

        step, owner = asyncio.Event(), Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            for expected in (9, 11, 50_011):
                await until(lambda: transport.bytes_received >= expected)  # noqa: B023
                assert transport.bytes_received == expected
                step.set()
            await owner.wait_closed()

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


def test_a_fault_while_we_close_is_not_answered_with_a_second_close():
    """An endpoint sends one CLOSE."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            assert await peer.receive() == Received(CLOSE, (1000).to_bytes(2, "big"))
            peer.write(text(b"under way") + frame(0x3) + close(1000))
            assert await peer.read_to_end() == b""

        owner = Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            transport.close()
            await owner.wait_closed()
        assert owner.texts == [b"under way"]
        assert owner.closed == Closed(1006, "a frame has the opcode 3, which has no meaning", by_us=True)

    run(test)


@pytest.mark.parametrize("pausing", [True, False])
def test_the_server_is_the_first_to_hang_up(pausing):
    """After both CLOSEs we wait for the end of the stream, also if the owner has just paused reading."""

    async def test():
        class Pausing(Owner):
            def text_received(self, frames):
                super().text_received(frames)
                if pausing:
                    transport.pause_reading()

        async def behaviour(peer):
            await peer.upgrade()
            peer.write(text(b"last") + close(1001))
            assert await peer.receive() == Received(CLOSE, (1001).to_bytes(2, "big"))
            await asyncio.sleep(0.05)
            assert owner.closed is None
            assert not peer.reader.at_eof()

        owner = Pausing()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner, close_timeout=60)
            assert await owner.wait_closed() == Closed(1001)

    run(test)


def test_a_server_that_does_not_hang_up_is_cut_off_after_the_close_timeout():
    """Both CLOSEs are there, so the code is known, but the socket does not stay open for ever."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(close(1001, b"bye"))
            assert await peer.receive() == Received(CLOSE, (1001).to_bytes(2, "big"))
            assert await peer.reader.read() == b""

        assert (await converse(behaviour, close_timeout=0.05)).closed == Closed(1001, "bye")

    run(test)


def test_an_empty_close_is_answered_with_an_empty_close():
    """A CLOSE without a code is 1005 to the owner, and no code 0 goes out."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(close())
            assert await peer.receive() == Received(CLOSE, b"")

        assert (await converse(behaviour)).closed == Closed(1005)

    run(test)


@pytest.mark.parametrize("hang_up", ["end", "reset"])
def test_a_connection_that_just_ends_is_1006(hang_up):
    """Without a CLOSE frame there is no code."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            peer.write(text(b"x" * 20) + frame(TEXT, b"half a frame")[:5])
            await asyncio.sleep(0.01)
            if hang_up == "reset":
                peer.reset()

        owner = await converse(behaviour)
        assert owner.texts == [b"x" * 20]
        assert owner.closed.code == 1006
        assert not owner.closed.by_us

    run(test)


def test_our_close_sends_code_and_reason_and_waits_for_the_answer():
    """Messages that were under way still arrive, and the code is the server's."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            assert await peer.receive() == Received(CLOSE, (4001).to_bytes(2, "big") + b"enough")
            peer.write(text(b"was under way") + close(4001, b"fine"))
            assert await peer.read_to_end() == b""

        owner = Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            transport.close(4001, "enough")
            transport.close(1000)
            transport.send([b"dropped"])
            await owner.wait_closed()
        assert owner.texts == [b"was under way"]
        assert owner.closed == Closed(4001, "fine", by_us=True)

    run(test)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_a_code_that_must_not_be_sent_is_refused(code):
    """A wrong code is our mistake, and is not put on the wire."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            assert (await peer.receive()).payload == (1000).to_bytes(2, "big") + ("\N{EURO SIGN}" * 41).encode()

        owner = Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            with pytest.raises(LocalProtocolError, match="3000 to 4999"):
                transport.close(code)
            transport.close(1000, "\N{EURO SIGN}" * 50)  # cut off between two characters
            await owner.wait_closed()

    run(test)


@pytest.mark.parametrize("stream", [b"", text(b"x" * 100) * 100])
def test_a_server_that_does_not_answer_our_close_is_cut_off(stream):
    """The close time-out ends it, whether the server is silent or never stops talking."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            with contextlib.suppress(ConnectionError):
                while not over.is_set():
                    peer.write(stream)
                    await peer.writer.drain()
                    await asyncio.sleep(0.001)

        over, owner = asyncio.Event(), Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner, close_timeout=0.05)
            transport.close()
            await owner.wait_closed()
            over.set()
        assert owner.closed == Closed(1006, by_us=True)

    run(test)


def test_a_server_that_does_not_read_cannot_hold_up_our_close():
    """A full write buffer does not keep the connection alive beyond the close time-out."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            peer.writer.transport.pause_reading()
            await over.wait()

        over, owner = asyncio.Event(), Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner, close_timeout=0.05)
            while not transport.write_buffer_bytes:
                transport.send([b"x" * 100_000] * 10)
            transport.close()
            await owner.wait_closed()
            over.set()
            assert transport.write_buffer_bytes == 0

    run(test)


def test_abort_ends_the_connection_at_once():
    """The owner hears that it is over, and nothing else: not even the rest of the batch in hand."""

    async def test():
        class Aborting(Owner):
            def text_received(self, frames):
                super().text_received(frames)
                if frames == [b"abort"]:
                    transport.abort()
                    transport.abort()

        owner = Aborting()
        async with RawServer(sends(text(b"start"), text(b"abort") + frame(BINARY, b"b") + text(b"c") + close(1000))) as server:
            transport = await dial(server.endpoint(), owner)
            await owner.wait_closed()
        assert owner.flow == [("text", b"start"), ("text", b"abort")]
        assert owner.closed == Closed(1006, by_us=True)

    run(test)


def test_nothing_that_is_called_after_the_end_does_harm():
    """An owner need not know that the connection has just gone."""

    async def test():
        owner = Owner()
        async with RawServer(sends(close(1000))) as server:
            transport = await dial(server.endpoint(), owner)
            await owner.wait_closed()
        for call in (transport.pause_reading, transport.resume_reading, transport.close, transport.abort):
            call()
        transport.send([b"x"])
        await asyncio.sleep(0)
        assert owner.heard == [("closed", Closed(1000))]

    run(test)


def test_frames_are_sent_in_order_with_their_opcode():
    """Bytes travel as text, BinaryFrame as binary, whatever their size."""

    async def test():
        frames = [
            b"a",
            BinaryFrame(b"\x00"),
            b"b" * 200,
            b"",
            b"c" * 70_000,
            BinaryFrame(b"d" * 70_000),
            *[b"%d" % i for i in range(500)],
        ]

        async def behaviour(peer):
            await peer.upgrade()
            for expected in frames:
                assert await peer.receive() == Received(BINARY if isinstance(expected, BinaryFrame) else TEXT, bytes(expected))
            peer.write(close(1000))
            await peer.read_to_end()

        owner = Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            transport.send(frames)
            await owner.wait_closed()

    run(test)


def test_paused_reading_makes_tcp_push_back():
    """The server cannot get rid of its data, and nothing is lost when reading goes on."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade(text(b"start"))
            await paused.wait()
            while not stuck.is_set():
                peer.write(blob)
                nonlocal written
                written += 1
                try:
                    await asyncio.wait_for(peer.writer.drain(), 0.1)
                except TimeoutError:
                    stuck.set()
            await peer.writer.drain()
            peer.write(close(1000))
            await peer.read_to_end()

        blob, written, paused, stuck, owner = text(b"x" * 1000) * 200, 0, asyncio.Event(), asyncio.Event(), Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            await owner.wait_until(lambda: owner.texts)
            transport.pause_reading()
            transport.pause_reading()
            paused.set()
            await stuck.wait()
            assert owner.texts == [b"start"]
            transport.resume_reading()
            transport.resume_reading()
            await owner.wait_closed()
        assert len(owner.texts) == 1 + 200 * written

    run(test)


def test_after_pausing_no_more_than_one_read_buffer_is_handed_on():
    """Whoever pauses in a batch must take what was read already, and knows how much that can be."""

    async def test():
        class Pausing(Owner):
            def text_received(self, frames):
                super().text_received(frames)
                if len(self.texts) > 1000:
                    transport.pause_reading()

        async def behaviour(peer):
            await peer.upgrade(text(b"start"))
            peer.write(text(b"x" * 200) * 40_000)
            with contextlib.suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(peer.writer.drain(), 0.1)
            await over.wait()

        over, owner = asyncio.Event(), Pausing()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner, read_buffer_bytes=64 * KIB)
            await owner.wait_until(lambda: len(owner.texts) > 1000)
            handed_on = len(owner.texts)
            await asyncio.sleep(0.05)
            assert len(owner.texts) == handed_on
            assert handed_on <= 1000 + 64 * KIB // 200
            transport.abort()
            await owner.wait_closed()
            over.set()

    run(test)


@pytest.mark.parametrize("method", ["text_received", "binary_received", "frames_rejected"])
def test_an_exception_of_the_owner_is_logged_and_ends_the_connection_with_1011(method, caplog):
    """A bug on our side is seen, and does not pass frames over in silence."""

    async def test():
        class Faulty(Owner):
            pass

        def fail(self, *args):
            raise RuntimeError("a bug")

        async def behaviour(peer):
            await peer.upgrade()
            await asyncio.sleep(0.02)
            peer.write(text(b"ok") if method != "text_received" else b"")
            peer.write(
                frame(BINARY if method == "binary_received" else TEXT, b"x" * (300 if method == "frames_rejected" else 9))
                + frame(PING)
                + text(b"no more")
            )
            while (received := await peer.receive()).opcode == PONG:
                pass
            assert received == Received(CLOSE, (1011).to_bytes(2, "big"))

        setattr(Faulty, method, fail)
        owner = await converse(behaviour, Faulty(), max_frame_bytes=200)
        assert b"no more" not in owner.texts
        assert owner.closed.code == 1006
        assert "exception" in owner.closed.reason
        assert not owner.closed.by_us

    with caplog.at_level(logging.ERROR):
        run(test)
    assert "a bug" in caplog.text


def test_an_exception_in_transport_closed_is_logged(caplog):
    """The last call may fail like any other."""

    async def test():
        class Faulty(Owner):
            def transport_closed(self, closed):
                super().transport_closed(closed)
                raise RuntimeError("a bug")

        await converse(sends(close(1000)), Faulty())

    run(test)
    assert "a bug" in caplog.text


def test_picows_does_not_log_every_connection(caplog):
    """A reconnecting worker does not fill the log."""

    async def test():
        await converse(sends(close(1000)))

    with caplog.at_level(logging.INFO):
        run(test)
    assert caplog.text == ""


def test_a_connection_leaves_no_socket_behind():
    """However often a worker reconnects, it holds one socket."""

    async def test():
        async with RawServer(sends(close(1000))) as server:
            await one(server)
            before = psutil.Process().num_fds()
            for _ in range(5):
                await one(server)
            assert psutil.Process().num_fds() == before

    async def one(server):
        owner = Owner()
        await dial(server.endpoint(), owner)
        await owner.wait_closed()
        await asyncio.sleep(0.02)

    run(test)
