"""picows gets the answer to the upgrade, whole, and nothing of what stands behind it."""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import NotWebSocket
from rig.transport import Closed, dial
from rig.transport.gate import UpgradeGate
from rig.transport.splitter import FrameSplitter
from tests.running import run
from tests.transport.raw_server import CLOSE, Owner, RawServer, Received, close, frame, text

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n"


class Picows:
    """Takes bytes into a small buffer, and puts the splitter into its place at the blank line."""

    def __init__(self, transport):
        self.transport, self.room, self.seen = transport, memoryview(bytearray(16)), b""

    def connection_made(self, transport):
        assert transport is self.transport

    def get_buffer(self, sizehint):
        return self.room

    def buffer_updated(self, nbytes):
        self.seen += bytes(self.room[:nbytes])
        if self.seen.endswith(b"\r\n\r\n"):
            self.transport.protocol = self.transport.splitter


@settings(deadline=None)
@given(cuts=st.lists(st.integers(1, len(ANSWER) + 3)), behind=st.binary(max_size=20))
def test_the_answer_ends_at_the_blank_line_however_it_is_cut(cuts, behind):
    """picows sees the answer to its last byte; what came with that byte is kept for the splitter."""
    transport = SimpleNamespace(get_protocol=lambda: transport.protocol, protocol=None)
    transport.splitter = FrameSplitter(SimpleNamespace(), SimpleNamespace(stopped=True), 100)
    parser = Picows(transport)
    gate = UpgradeGate(parser)
    gate.connection_made(transport)
    start, stream = 0, ANSWER + behind
    for cut in [*sorted(cut for cut in cuts if cut < len(stream)), len(stream)]:
        if transport.protocol is None and cut > start:
            gate.get_buffer(-1)[: cut - start] = stream[start:cut]
            gate.buffer_updated(cut - start)
            start = cut

    assert parser.seen == ANSWER
    transport.splitter.take_early()
    assert transport.splitter.bytes_received == start - len(ANSWER)


@pytest.mark.parametrize("cut", [1, 4, 5, 6, 9])
def test_frames_may_come_in_the_segment_that_ends_the_answer(cut):
    """The blank line may be cut, and the two CLOSEs behind it are one to us."""

    async def test():
        async def behaviour(peer):
            write, written = peer.write, []
            peer.write = written.append
            await peer.upgrade(text(b"early") + close(1001) + close(1002) + frame(0x3))
            peer.write = write
            stream = b"".join(written)
            at = stream.index(b"\r\n\r\n") + cut - 1
            peer.write(stream[:at])
            await asyncio.sleep(0.01)
            peer.write(stream[at:])
            assert await peer.receive() == Received(CLOSE, (1001).to_bytes(2, "big"))
            assert await peer.read_to_end() == b""

        owner = Owner()
        async with RawServer(behaviour) as server:
            await dial(server.endpoint(), owner)
            await owner.wait_closed()
        assert owner.heard == [("text", [b"early"]), ("closed", Closed(1001))]

    run(test)


def test_an_answer_without_an_end_is_refused():
    """picows keeps its own limit for the answer."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            peer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + b"a: b\r\n" * 10_000)
            await peer.read_to_end()

        owner = Owner()
        async with RawServer(behaviour) as server:
            with pytest.raises(NotWebSocket):
                await dial(server.endpoint(), owner)
        assert owner.heard == []

    run(test)
