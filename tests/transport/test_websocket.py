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


def test_of_the_pings_of_a_server_that_does_not_read_only_the_latest_is_answered():
    """What waits to be written stays bounded however many come; the latest is answered as soon as there is room."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            peer.writer.transport.pause_reading()
            for number in range(200):
                peer.write(b"".join(frame(PING, b"%d %0120d" % (number, count)) for count in range(500)))
                await peer.writer.drain()
            peer.write(frame(PING, b"the latest") + text(b"flooded"))
            await flooded.wait()
            peer.writer.transport.resume_reading()
            while await peer.receive() != Received(PONG, b"the latest"):
                pass
            peer.write(close(1000))
            await peer.read_to_end()

        flooded, owner = asyncio.Event(), Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            while transport.write_buffer_bytes < 256 * KIB:
                transport.send([b"x" * 100_000])
            full = transport.write_buffer_bytes
            await owner.wait_until(lambda: owner.texts)
            assert transport.write_buffer_bytes < full + KIB
            flooded.set()
            await owner.wait_closed()

    run(test)


def test_a_ping_that_waits_for_room_is_answered_with_what_is_sent_next():
    """Whoever always has something to send does not keep the server waiting for its PONG."""

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            peer.writer.transport.pause_reading()
            await full.wait()
            peer.write(frame(PING, b"old") + frame(PING, b"new") + text(b"pinged"))
            await sent.wait()
            peer.writer.transport.resume_reading()
            received = [await peer.receive()]
            while received[-1] != Received(TEXT, b"next"):
                received.append(await peer.receive())
            assert received[-2:] == [Received(PONG, b"new"), Received(TEXT, b"next")]
            assert Received(PONG, b"old") not in received
            peer.write(close(1000))
            await peer.read_to_end()

        full, sent, owner = asyncio.Event(), asyncio.Event(), Owner()
        async with RawServer(behaviour) as server:
            transport = await dial(server.endpoint(), owner)
            while transport.write_buffer_bytes < 256 * KIB:
                transport.send([b"x" * 1000] * 100)
            full.set()
            await owner.wait_until(lambda: owner.texts)
            transport.send([b"next"])
            sent.set()
            await owner.wait_closed()

    run(test)
