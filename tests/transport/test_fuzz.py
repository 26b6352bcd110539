"""
Whatever a server sends, in whatever pieces: the transport and the core behind it do what a simple parser says.

The bytes are put into the protocol of a real connection by hand, so that the pieces are those of the test and not those of TCP.
"""

import asyncio
import codecs
import json
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rig.phoenix import Push, Socket, SocketState, events
from rig.transport import Closed, dial
from tests.running import run
from tests.transport.raw_server import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Owner, RawServer, close, frame
from tests.transport.test_writer import decode

LIMIT = 300
READ_BUFFER = 1024
HARD_LIMIT = 16 * LIMIT
CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


class Expected(NamedTuple):
    """
    What a stream means.

    Attributes:
        flow: Messages with their kind, in order.
        rejected: How many messages were too large.
        pongs: Payloads of the PONGs that are due.
        close: Payload of the CLOSE that is due, cut off behind its code, or None.
        received: Code and reason of the server's CLOSE, or None.
    """

    flow: list[tuple[str, bytes]]
    rejected: int
    pongs: list[bytes]
    close: bytes | None
    received: Closed | None


class Fault(Exception):
    """The close code that a fault calls for."""


def parse(stream):
    """Read a stream frame by frame, as RFC 6455 is written, without a thought for speed."""
    flow, pongs, rejected, message = [], [], 0, None
    pos = 0
    try:
        while (header := parse_header(stream[pos:])) is not None:
            opcode, fin, size, length = header
            payload = stream[pos + size : pos + size + length]
            if size + length > READ_BUFFER and length > HARD_LIMIT:
                raise Fault(1009)
            if len(payload) < length:
                break
            pos += size + length
            if opcode == CLOSE:
                code, reason = parse_close(payload)
                return Expected(flow, rejected, pongs, payload[:2], Closed(code, reason))
            if opcode == PING:
                pongs.append(payload)
            elif opcode in (TEXT, BINARY, CONTINUATION):
                if (opcode == CONTINUATION) is (message is None):
                    raise Fault(1002)
                message = (opcode, payload) if message is None else (message[0], message[1] + payload)
                if len(message[1]) <= LIMIT and message[0] == TEXT:
                    check_utf8(message[1], fin)
                if fin and len(message[1]) <= LIMIT:
                    flow.append(("text" if message[0] == TEXT else "binary", message[1]))
                elif fin:
                    rejected += 1
                message = None if fin else message
    except Fault as fault:
        return Expected(flow, rejected, pongs, fault.args[0].to_bytes(2, "big"), None)
    return Expected(flow, rejected, pongs, None, None)


def parse_header(data):
    if len(data) < 2:
        return None
    opcode, fin, length, size = data[0] & 15, bool(data[0] & 128), data[1] & 127, 2
    control = opcode >= 8
    if data[0] & 0x70 or opcode not in (0, 1, 2, 8, 9, 10) or data[1] & 128 or (control and (length > 125 or not fin)):
        raise Fault(1002)
    if length > 125:
        size = 4 if length == 126 else 10
        if len(data) < size:
            return None
        length = int.from_bytes(data[2:size], "big")
        if length < (126 if size == 4 else 65536) or length >= 1 << 63:
            raise Fault(1002)
    return opcode, fin, size, length


def parse_close(payload):
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in CODES:
        raise Fault(1002)
    check_utf8(payload[2:], True)
    return code, payload[2:].decode()


def check_utf8(text, final):
    try:
        codecs.utf_8_decode(text, "strict", final)
    except UnicodeDecodeError:
        raise Fault(1007) from None


class CoreOwner(Owner):
    """Hands what it hears to a core with one joined channel, and sends what the core wants sent."""

    def __init__(self):
        super().__init__()
        self.transport = None
        self.core = Socket(random=lambda: 0.5, heartbeat_interval=1e9)
        self.core.connect(0.0)
        self.core.opened(0.0)
        self.core.join("room:1", {}, 0.0)
        join_ref = json.loads(self.core.frames_to_send()[0])[0]
        self.core.receive([json.dumps([join_ref, join_ref, "room:1", "phx_reply", {"status": "ok", "response": {}}]).encode()], 0.0)
        self.core.push(Push("room:1", "echo", {}), 0.0)
        self.core.frames_to_send()
        self.handled = 0

    def text_received(self, frames):
        super().text_received(frames)
        self._check(self.core.receive(frames, 0.0), len(frames))

    def binary_received(self, frames):
        super().binary_received(frames)
        self._check(self.core.receive_binary(frames, 0.0), len(frames))

    def frames_rejected(self, count, reason):
        super().frames_rejected(count, reason)
        self._check(self.core.frames_rejected(count, reason, 0.0), 0)

    def transport_closed(self, closed):
        super().transport_closed(closed)
        self._check(self.core.closed(closed.code, closed.reason, 0.0), 0)

    def _check(self, received, frames):
        for event in received:
            assert isinstance(event, events.Event)
            if isinstance(event, events.MessagesReceived):
                assert len(event.messages) <= frames
                for message in event.messages:
                    self.handled += 1
                    if not event.binary:
                        json.loads(bytes(message.payload).decode())
        assert not [frame for frame in self.core.frames_to_send() if b"phx_join" not in frame]


def play(stream, cuts):
    """Open a connection, let this stream come in these pieces, then let the server hang up."""
    owner, sent = CoreOwner(), []

    async def test():
        async def behaviour(peer):
            await peer.upgrade()
            await fed.wait()
            peer.writer.write_eof()
            sent.append(await peer.reader.read())

        fed = asyncio.Event()
        async with RawServer(behaviour) as server:
            owner.transport = await dial(server.endpoint(), owner, max_frame_bytes=LIMIT, read_buffer_bytes=READ_BUFFER)
            await asyncio.sleep(0)
            protocol = owner.transport._ws.underlying_transport.get_protocol()
            pos = 0
            for cut in [*sorted(cuts), len(stream)]:
                while pos < cut:
                    room = protocol.get_buffer(-1)
                    piece = stream[pos : min(cut, pos + len(room))]
                    room[: len(piece)] = piece
                    protocol.buffer_updated(len(piece))
                    pos += len(piece)
            fed.set()
            await owner.wait_closed()

    run(test)
    return owner, [(opcode, payload) for opcode, payload, _ in decode(sent[0])]


def check(stream, cuts):
    """Compare what happened with what the simple parser says."""
    expected = parse(stream)
    owner, sent = play(stream, cuts)

    assert owner.flow == expected.flow
    assert len(owner.rejected) == expected.rejected
    assert [kind for kind, _ in owner.heard].count("closed") == 1
    assert owner.heard[-1][0] == "closed"
    if expected.received is not None:
        assert owner.closed == expected.received
    else:
        assert owner.closed.code == 1006
        assert (owner.closed.reason != "") is (expected.close is not None)
    assert [payload for opcode, payload in sent if opcode == PONG] == expected.pongs
    assert [payload[:2] for opcode, payload in sent if opcode == CLOSE] == ([] if expected.close is None else [expected.close])
    assert {opcode for opcode, _ in sent} <= {PONG, CLOSE}
    assert owner.core.state is SocketState.WAITING
    return owner


EVENT = b'["1",null,"room:1","tick",{"text":"\xe2\x82\xac"}]'
texts = st.one_of(
    st.sampled_from(
        [
            EVENT,
            b"",
            b'["1",null,"room:1","tick",{"n":1}]',
            b'[null,"2","room:1","phx_reply",{"status":"ok","response":{}}]',
            b'["1","1","room:1","phx_close",{}]',
            EVENT.replace(b"\xac", b"\xff"),
            b"\xf0\x9f\x98\x80",
            b"\xe2\x82",
            b"\xac",
            b"x" * LIMIT,
            b"x" * (LIMIT + 1),
            b"y" * 1500,
            b"z" * (HARD_LIMIT + 1),
        ]
    ),
    st.text(max_size=20).map(str.encode),
    st.binary(max_size=20),
)
controls = st.one_of(
    st.builds(lambda payload: frame(PING, payload), st.binary(max_size=125)),
    st.builds(lambda payload: frame(PONG, payload), st.binary(max_size=10)),
)
closes = st.one_of(
    st.just(close()),
    st.builds(
        close,
        st.sampled_from([0, 999, 1000, 1001, 1004, 1005, 1012, 1015, 3000, 4999, 5000]),
        st.sampled_from([b"", b"bye", b"\xff"]),
    ),
    st.just(frame(CLOSE, b"\x03")),
)
wholes = st.builds(lambda opcode, payload: frame(opcode, payload), st.sampled_from([TEXT, TEXT, BINARY]), texts)


@st.composite
def fragmented(draw):
    """A message in several frames, with control frames between them."""
    payload, pieces = draw(texts), []
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=4)))
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    for start, stop in zip([0, *cuts], [*cuts, len(payload)], strict=True):
        pieces.append(frame(opcode if not pieces else CONTINUATION, payload[start:stop], fin=False))
        pieces.append(draw(st.just(b"") | controls))
    last = frame(CONTINUATION, draw(st.sampled_from([b"", b"end"])))
    return b"".join(pieces) + last


@st.composite
def damaged(draw):
    """Frames of which a few bytes were changed, added or lost."""
    data = bytearray(draw(streams))
    for _ in range(draw(st.integers(1, 3))):
        if data:
            at = draw(st.integers(0, len(data) - 1))
            data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


streams = st.lists(wholes | wholes | fragmented() | controls | closes, max_size=8).map(b"".join)
cuts_of = st.lists(st.integers(0, 3000), max_size=12)


def within(stream, cuts):
    """Keep the cuts that lie in the stream."""
    return [cut for cut in cuts if cut < len(stream)]


@settings(max_examples=150, deadline=None)
@given(stream=streams, cuts=cuts_of)
@example(stream=frame(TEXT, EVENT) * 20 + close(1000) + close(1001), cuts=[])
@example(stream=frame(TEXT, b"\xe2") + frame(TEXT, b"\x82\xac"), cuts=[])
@example(stream=frame(TEXT, EVENT) + frame(TEXT, b"\xff") + frame(TEXT, b"x" * 301), cuts=[])
def test_frames_mean_what_the_simple_parser_says(stream, cuts):
    """Messages, PONGs, the CLOSE and the end are those of a parser that thinks of nothing but the RFC."""
    check(stream, within(stream, cuts))


@settings(max_examples=150, deadline=None)
@given(stream=damaged(), cuts=cuts_of)
def test_damaged_frames_mean_what_the_simple_parser_says(stream, cuts):
    """A fault ends the connection with its code, after everything that stood before it."""
    check(stream, within(stream, cuts))


@settings(max_examples=100, deadline=None)
@given(stream=st.binary(max_size=200), cuts=cuts_of)
def test_any_bytes_end_in_order(stream, cuts):
    """Garbage raises nothing, and the owner hears of the end once."""
    check(stream, within(stream, cuts))


@settings(max_examples=40, deadline=None)
@given(stream=streams | damaged(), cuts=st.lists(cuts_of, min_size=2, max_size=2))
def test_any_split_of_a_stream_means_the_same(stream, cuts):
    """TCP may cut where it will, down to single bytes."""
    results = [play(stream, within(stream, some)) for some in (*cuts, range(1, min(len(stream), 500)))]

    for owner, sent in results[1:]:
        assert (owner.flow, owner.rejected, owner.closed, sent) == (
            results[0][0].flow,
            results[0][0].rejected,
            results[0][0].closed,
            results[0][1],
        )


def test_the_core_hears_the_events_of_its_channel():
    """The streams of this file are not only noise to the core."""
    owner = check(frame(TEXT, EVENT) * 3 + frame(BINARY, b"\x02\x06\x01room:1b\xff") + close(1000), [])

    assert owner.handled == 4
