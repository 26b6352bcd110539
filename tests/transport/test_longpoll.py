"""A long-poll session against a server that does only what each test tells it."""

import asyncio
import logging

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import LocalProtocolError
from rig.transport import BinaryFrame, Closed
from rig.transport.longpoll import dial_longpoll, next_post
from tests.running import run, until
from tests.transport.longpoll_server import PollServer, breaks, breaks_off, hangs, leads_away, says
from tests.transport.raw_server import Owner

KIB, MIB = 1024, 1024 * 1024
PUSH = b'["1","2","room:a","echo",{}]'


async def converse(server, owner=None, **settings):
    """Open a session, wait until it is over, and return the owner."""
    owner = owner or Owner()
    await dial_longpoll(server.endpoint(), owner, **settings)
    await owner.wait_closed()
    return owner


async def end(transport):
    """Cut a session that a test is done with, and wait until it is gone."""
    transport.abort()
    await transport._owner.wait_closed()


def frames_of(first, count):
    return [b'["1","%d","t","e",{}]' % i for i in range(first, first + count)]


# What is asked.


def test_every_request_carries_what_the_endpoint_says():
    """Path, query, headers and token arrive as they were given, and nothing that belongs to a WebSocket."""

    async def test():
        async with PollServer() as server:
            endpoint = server.endpoint(params={"user": "x y"}, headers=(("X-Trace", "1"),), auth_token="ses+ame")
            transport = await dial_longpoll(endpoint, Owner())
            transport.send([PUSH])
            await server.wait_until(lambda: server.posted and len(server.gets) > 1)
            await end(transport)

            opening, poll, post = server.gets[0], server.gets[1], server.posted[0]
            assert opening.target == "/socket/longpoll?user=x%20y&vsn=2.0.0"
            assert poll.target == post.target == "/socket/longpoll?user=x%20y&vsn=2.0.0&token=session-1"
            for asked in server.asked:
                assert asked.headers["X-Trace"] == "1"
                assert asked.headers["Accept"] == "application/json"
                assert "Sec-WebSocket-Protocol" not in asked.headers
            assert [get.headers["X-Phoenix-AuthToken"] for get in (opening, poll)] == ["ses+ame", "ses+ame"]
            assert "X-Phoenix-AuthToken" not in post.headers
            assert "X-Phoenix-Longpoll-Token" not in opening.headers
            assert poll.headers["X-Phoenix-Longpoll-Token"] == post.headers["X-Phoenix-Longpoll-Token"] == "session-1"

    run(test)


def test_without_a_token_no_header_claims_one():
    """A server that asks for no token sees none."""

    async def test():
        async with PollServer() as server:
            await end(await dial_longpoll(server.endpoint(), Owner()))
            assert "X-Phoenix-AuthToken" not in server.gets[0].headers

    run(test)


def test_a_connect_param_called_token_does_not_hide_the_session():
    """Of two parameters with one name Phoenix takes the last: the session's, with its signature intact."""

    async def test():
        async with PollServer() as server:
            server.opening.append({"status": 410, "token": "SFM.g2g_-+/=&x", "messages": []})
            transport = await dial_longpoll(server.endpoint(params={"token": "user's"}), Owner())
            await server.wait_until(lambda: len(server.gets) > 1)
            await end(transport)

            tokens = [value for name, value in server.gets[1].query if name == "token"]
            assert tokens == ["user's", "SFM.g2g_-+/=&x"]

    run(test)


def test_a_token_that_the_server_replaces_is_the_one_that_is_shown_next():
    """The session follows the server, not the first answer."""

    async def test():
        async with PollServer() as server:
            transport = await dial_longpoll(server.endpoint(), Owner())
            server.polls.put_nowait({"status": 204, "token": "session-2", "messages": []})
            await server.wait_until(lambda: len(server.gets) > 2)
            await end(transport)
            assert server.gets[2].headers["X-Phoenix-Longpoll-Token"] == "session-2"

    run(test)


# What arrives.


def test_messages_arrive_in_order_poll_after_poll():
    """200 delivers, 204 does not, and both are followed by the next poll."""

    async def test():
        async with PollServer() as server:
            server.says('["1"]', '["2"]')
            server.says(status=204)
            server.says('["3 \u00e4"]')
            server.says(status=410)
            owner = await converse(server)
            assert owner.texts == [b'["1"]', b'["2"]', '["3 ä"]'.encode()]
            assert len(server.gets) == 5

    run(test)


def test_binary_messages_arrive_as_such_and_in_place():
    """Phoenix puts a binary frame into the list as it is: it begins as no JSON text does."""

    async def test():
        async with PollServer() as server:
            server.says("[1]", "\x02\x01\x01te\x7fä", "\x01\x00", "[2]", "\x00\x00")
            server.says(status=410)
            owner = await converse(server)
            assert owner.flow == [
                ("text", b"[1]"),
                ("binary", "\x02\x01\x01te\x7fä".encode()),
                ("binary", b"\x01\x00"),
                ("text", b"[2]"),
                ("binary", b"\x00\x00"),
            ]

    run(test)


def test_a_batch_holds_at_most_512_messages_or_256_kib():
    """However much one poll brings, whoever takes it is not made to take it at once."""

    async def test():
        async with PollServer() as server:
            server.says(*(f"[{i}]" for i in range(1200)))
            server.says(*("[" + "x" * (100 * KIB) + "]" for _ in range(5)))
            server.says(status=410)
            owner = await converse(server)
            assert [len(batch) for batch in owner.batches] == [512, 512, 176, 2, 2, 1]

    run(test)


def test_between_two_batches_of_an_answer_everything_else_has_its_turn():
    """A flood that one poll brings does not hold up a heartbeat."""

    async def test():
        async with PollServer() as server:
            turns = [0]

            class Counting(Owner):
                def text_received(self, frames):
                    super().text_received(frames)
                    asyncio.get_running_loop().call_soon(turn)

            def turn():
                turns[0] += 1
                assert turns[0] == len(owner.batches)

            owner = Counting()
            server.says(*(f"[{i}]" for i in range(2000)))
            server.says(status=410)
            await converse(server, owner)
            assert turns == [4]

    run(test)


def test_messages_above_the_limit_are_dropped_and_reported():
    """The others of the same poll arrive."""

    async def test():
        async with PollServer() as server:
            server.says("[1]", "[" + "x" * 100 + "]", "[2]", "[" + "x" * 60 + "]")
            server.says(status=410)
            owner = await converse(server, max_frame_bytes=50)
            assert owner.texts == [b"[1]", b"[2]"]
            assert owner.rejected == [(2, "102 bytes are more than the limit of 50 bytes")]

    run(test)


def test_the_owner_hears_nothing_before_dial_has_returned():
    """Whoever dials has the transport in hand when the first message comes."""

    async def test():
        async with PollServer() as server:
            server.says("[1]")
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner)
            assert owner.heard == []
            await owner.wait_until(lambda: owner.texts)
            await end(transport)

    run(test)


def test_received_bytes_grow_with_every_answer():
    """Any growth is a sign of life, an empty window's too."""

    async def test():
        async with PollServer() as server:
            transport = await dial_longpoll(server.endpoint(), Owner())
            assert transport.bytes_received == 0
            server.says(status=204)
            await server.wait_until(lambda: len(server.gets) == 3)
            first = transport.bytes_received
            server.says("[" + "x" * KIB + "]")
            await server.wait_until(lambda: len(server.gets) == 4)
            assert 0 < first < KIB < transport.bytes_received - first
            await end(transport)

    run(test)


def test_a_server_that_never_waits_is_not_asked_without_end():
    """A proxy that answers every poll at once costs ten requests a second, not a processor."""

    async def test():
        async with PollServer() as server:
            for _ in range(100):
                server.says(status=204)
            transport = await dial_longpoll(server.endpoint(), Owner())
            started = asyncio.get_running_loop().time()
            await server.wait_until(lambda: len(server.gets) == 5)
            assert asyncio.get_running_loop().time() - started > 0.29  # uvloop's clock counts whole milliseconds
            await end(transport)

    run(test)


# What is sent.


def test_sends_of_one_turn_are_one_post():
    """Frames are lines; the type says so."""

    async def test():
        async with PollServer() as server:
            transport = await dial_longpoll(server.endpoint(), Owner())
            transport.send([b"[1]", b"[2]"])
            transport.send([b"[3]"])
            await server.wait_until(lambda: server.posted)
            await end(transport)
            assert [post.body for post in server.posted] == [b"[1]\n[2]\n[3]"]
            assert server.posted[0].headers["Content-Type"] == "application/x-ndjson"

    run(test)


def test_what_is_sent_while_a_post_is_on_its_way_goes_with_the_next():
    """One POST at a time keeps the order, however slow the server is."""

    async def test():
        async with PollServer() as server:
            answer = asyncio.Event()

            async def slow(_):
                await answer.wait()
                return await server._answer(_, {"status": 200})

            server.posts.append(slow)
            transport = await dial_longpoll(server.endpoint(), Owner())
            transport.send([b"[1]"])
            await server.wait_until(lambda: server.posted)
            for i in range(2, 5):
                transport.send([b"[%d]" % i])
                await asyncio.sleep(0.01)
            assert len(server.posted) == 1
            assert transport.write_buffer_bytes == 12
            answer.set()
            await server.wait_until(lambda: len(server.posted) == 2)
            assert [post.body for post in server.posted] == [b"[1]", b"[2]\n[3]\n[4]"]
            await until(lambda: transport.write_buffer_bytes == 0)
            await end(transport)

    run(test)


def test_at_most_a_hundred_frames_are_in_a_post():
    """Phoenix reads no more lines: the 101st would be lost without a word."""

    async def test():
        async with PollServer() as server:
            transport = await dial_longpoll(server.endpoint(), Owner())
            transport.send(frames_of(0, 250))
            await server.wait_until(lambda: len(server.posted) == 3)
            await end(transport)
            assert [len(post.frames) for post in server.posted] == [100, 100, 50]
            assert server.frames == frames_of(0, 250)

    run(test)


@pytest.mark.parametrize(
    ("frames", "posts"),
    [
        ([b"[1]", BinaryFrame(b"\x00\xff"), b"[2]"], [(b"[1]\nAP8=\n[2]", "application/x-ndjson")]),
        ([b'{"topic":"t"}', b'{"topic":"u"}'], [(b'{"topic":"t"}', "application/json"), (b'{"topic":"u"}', "application/json")]),
        (
            [b"[1]", b"[2,\n3]", b"[4]"],
            [(b"[1]", "application/x-ndjson"), (b"[2,\n3]", "application/json"), (b"[4]", "application/x-ndjson")],
        ),
        (
            [b"[" + b"x" * (300 * KIB), b"[" + b"y" * (300 * KIB)],
            [(b"[" + b"x" * (300 * KIB), "application/x-ndjson"), (b"[" + b"y" * (300 * KIB), "application/x-ndjson")],
        ),
        ([b"[" + b"x" * (600 * KIB)], [(b"[" + b"x" * (600 * KIB), "application/x-ndjson")]),
    ],
    ids=["binary frames are base64", "frames of V1 go alone", "a line break goes alone", "512 KiB a POST", "a larger frame alone"],
)
def test_frames_are_packed_as_phoenix_reads_them(frames, posts):
    """A line that begins with "[" is text to Phoenix, every other one base64."""
    found, rest = [], list(frames)
    while rest:
        post = next_post(rest)
        found.append((post.body, post.content_type))
        del rest[: post.count]
    assert found == posts


def test_a_connection_that_has_idled_is_not_posted_on(monkeypatch):
    """The server may be closing it at that very moment, and a POST that meets its end cannot be repeated."""
    monkeypatch.setattr("rig.transport.longpoll_http._KEEP_ALIVE", 0.05)

    async def test():
        async with PollServer() as server:
            transport = await dial_longpoll(server.endpoint(), Owner())
            for count in (1, 2):
                transport.send([PUSH])
                await server.wait_until(lambda count=count: len(server.posted) == count)
                await asyncio.sleep(0.2)  # what is tested is that time passes
            await end(transport)
            assert server.posted[0].client != server.posted[1].client

    run(test)


# How a session ends.


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (says(status=410), 3410, "session_gone"),
        (says(status=403), 1008, "forbidden"),
        (says(status=500), 1011, "a poll was answered with 500"),
        (410, 3410, "session_gone"),
        (401, 1008, "forbidden"),
        (403, 1008, "forbidden"),
        (404, 1011, "a poll was answered with 404"),
        (leads_away, 1011, "a poll was answered with 307"),
        (500, 1011, "a poll was answered with 500"),
        (429, 1013, "the server is busy (429)"),
        (503, 1013, "the server is busy (503)"),
        (b"<html>", 1007, "a poll was answered with what is no answer of Phoenix"),
        (b"", 1007, "a poll was answered with what is no answer of Phoenix"),
        (b"[]", 1007, "a poll was answered with what is no answer of Phoenix"),
        (b'{"status":200,"messages":[1]}', 1007, "a poll was answered with what is no answer of Phoenix"),
        (b'{"status":200,"messages":["\xff"]}', 1007, "a poll was answered with what is no answer of Phoenix"),
        ({"status": 200, "token": "t\0"}, 1007, "a poll was answered with what is no answer of Phoenix"),
        (b'{"status":200,"messages":["\\ud800"]}', 1007, "a poll was answered with what is no answer of Phoenix"),
        (breaks, 1006, "a poll failed: the connection was closed without an answer"),
        (breaks_off, 1006, "a poll failed: the answer broke off"),
        (hangs, 1006, "no answer to a poll within 0.3 s"),
    ],
)
def test_a_poll_that_fails_ends_the_session(answer, code, reason):
    """What the poll may have taken off the server is gone: only the end makes the gap visible."""

    async def test():
        async with PollServer() as server:
            server.says("[1]")
            server.polls.put_nowait(answer)
            owner = await converse(server, answer_timeout=0.3)
            assert owner.heard == [("text", [b"[1]"]), ("closed", Closed(code, reason))]
            assert len(server.gets) == 3, "a poll is not repeated"

    run(test)


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        ({"status": 408}, 1011, "the server did not get a POST done in time (408)"),
        ({"status": 410}, 3410, "session_gone"),
        ({"status": 500}, 1011, "a POST was answered with 500"),
        (413, 1009, "a POST was too large"),
        (500, 1011, "a POST was answered with 500"),
        (b"thanks", 1007, "a POST was answered with what is no answer of Phoenix"),
        (breaks, 1006, "a POST failed: the connection was closed without an answer"),
        (hangs, 1006, "no answer to a POST within 0.3 s"),
    ],
)
def test_a_post_that_fails_ends_the_session(answer, code, reason):
    """Whether the server acted is unknown: nothing is posted twice, and later frames do not overtake."""

    async def test():
        async with PollServer() as server:
            server.posts.append(answer)
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner, answer_timeout=0.3)
            server.polls.put_nowait(hangs)
            transport.send([b"[1]"])
            await server.wait_until(lambda: server.posted)
            transport.send([b"[2]"])
            closed = await owner.wait_closed()
            # A poll that hangs as long as the POST may be found first.
            assert closed.code == code
            assert closed.reason in (reason, reason.replace("POST within", "poll within"))
            assert server.frames == [b"[1]"]

    run(test)


def test_an_answer_beyond_every_measure_ends_the_session(monkeypatch):
    """No server can fill our memory."""
    monkeypatch.setattr("rig.transport.longpoll_http._LARGEST_ANSWER_BYTES", 10_000)

    async def test():
        async with PollServer() as server:
            server.says("[" + "x" * 20_000 + "]")
            owner = await converse(server)
            assert owner.heard == [("closed", Closed(1009, "an answer is larger than 10000 bytes"))]

    run(test)


def test_frames_sent_after_the_end_are_dropped():
    """The owner learns of the end by transport_closed, and not by an exception."""

    async def test():
        async with PollServer() as server:
            server.says(status=410)
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner)
            await owner.wait_closed()
            transport.send([PUSH])
            transport.close()
            transport.abort()
            await asyncio.sleep(0.05)
            assert not server.posted
            assert owner.closed == Closed(3410, "session_gone")

    run(test)


# Pausing.


def test_while_paused_nothing_is_handed_on_and_polling_goes_on():
    """The server keeps the session, and what came meanwhile arrives in order afterwards."""

    async def test():
        async with PollServer() as server:
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner)
            transport.pause_reading()
            for i in range(3):
                server.says(f"[{i}]")
            server.says(status=204)
            await server.wait_until(lambda: len(server.gets) == 6)
            assert owner.heard == []
            transport.resume_reading()
            await owner.wait_until(lambda: len(owner.texts) == 3)
            assert owner.texts == [b"[0]", b"[1]", b"[2]"]
            await end(transport)

    run(test)


def test_a_pause_from_within_a_batch_takes_effect_at_once():
    """What one poll has brought in several batches waits from the next one on."""

    async def test():
        async with PollServer() as server:

            class Full(Owner):
                def text_received(self, frames):
                    super().text_received(frames)
                    transport.pause_reading()

            owner = Full()
            transport = await dial_longpoll(server.endpoint(), owner)
            server.says(*(f"[{i}]" for i in range(1000)))
            await owner.wait_until(lambda: owner.texts)
            await asyncio.sleep(0.02)
            assert len(owner.texts) == 512
            transport.resume_reading()
            await owner.wait_until(lambda: len(owner.texts) == 1000)
            await end(transport)

    run(test)


def test_while_paused_no_more_than_4_mib_is_taken_off_the_server():
    """Beyond that the server keeps what comes, until it ends the session."""

    async def test():
        async with PollServer() as server:
            for i in range(8):
                server.says(f"[{i}" + "x" * MIB + "]")
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner, max_frame_bytes=2 * MIB)
            transport.pause_reading()
            await server.wait_until(lambda: server.polls.qsize() <= 4)
            await asyncio.sleep(0.1)
            assert server.polls.qsize() == 4
            server.says(status=410)
            transport.resume_reading()
            await owner.wait_closed()
            assert [text[1:2] for text in owner.texts] == [b"%d" % i for i in range(8)]

    run(test)


def test_the_end_waits_behind_what_is_held():
    """A session that ends while reading is paused takes nothing with it."""

    async def test():
        async with PollServer() as server:
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner)
            transport.pause_reading()
            server.says("[1]")
            server.says(status=410)
            await server.wait_until(lambda: len(server.gets) == 3)
            await asyncio.sleep(0.05)
            assert owner.heard == []
            transport.send([PUSH])
            transport.resume_reading()
            await owner.wait_closed()
            assert owner.heard == [("text", [b"[1]"]), ("closed", Closed(3410, "session_gone"))]
            assert not server.posted

    run(test)


# Closing.


def test_a_close_sends_what_was_queued_first():
    """A leave that was sent just before arrives."""

    async def test():
        async with PollServer() as server:
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner)
            transport.send(frames_of(0, 150))
            transport.close(1000, "done")
            transport.send([b"[9]"])
            transport.close(3000)
            assert await owner.wait_closed() == Closed(1000, "done", by_us=True)
            assert server.frames == frames_of(0, 150)
            assert [kind for kind, _ in owner.heard] == ["closed"]

    run(test)


def test_a_close_waits_for_the_post_on_its_way():
    """What arrives meanwhile is still handed on."""

    async def test():
        async with PollServer() as server:
            answer = asyncio.Event()

            async def slow(request):
                await answer.wait()
                return await server._answer(request, {"status": 200})

            server.posts.append(slow)
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner)
            transport.send([b"[1]"])
            await server.wait_until(lambda: server.posted)
            transport.close()
            server.says("[2]")
            await owner.wait_until(lambda: owner.texts)
            assert owner.closed is None
            answer.set()
            assert await owner.wait_closed() == Closed(1000, by_us=True)

    run(test)


def test_a_close_does_not_wait_longer_than_its_time():
    """A server that swallows what is posted cannot keep us."""

    async def test():
        async with PollServer() as server:
            server.posts.append(hangs)
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner, close_timeout=0.1)
            transport.send([b"[1]"])
            transport.close()
            started = asyncio.get_running_loop().time()
            closed = await owner.wait_closed()
            assert asyncio.get_running_loop().time() - started < 1
            assert (closed.code, closed.by_us) == (1006, True)

    run(test)


def test_a_close_while_paused_ends_in_its_time():
    """What is held and was not asked for any more is dropped, since the owner wanted the end."""

    async def test():
        async with PollServer() as server:
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner, close_timeout=0.1)
            transport.pause_reading()
            server.says("[1]")
            await server.wait_until(lambda: len(server.gets) == 3)
            transport.close()
            closed = await owner.wait_closed()
            assert owner.heard == [("closed", closed)]
            assert (closed.code, closed.by_us) == (1006, True)

    run(test)


def test_a_code_that_may_not_be_sent_is_refused():
    """The same codes as with a WebSocket, though here nothing is sent."""

    async def test():
        async with PollServer() as server:
            transport = await dial_longpoll(server.endpoint(), Owner())
            with pytest.raises(LocalProtocolError, match="1006"):
                transport.close(1006)
            await end(transport)

    run(test)


def test_an_abort_ends_everything_at_once():
    """Nothing more is heard, though a poll's messages were waiting, and a POST was on its way."""

    async def test():
        async with PollServer() as server:
            server.posts.append(hangs)
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner)
            transport.pause_reading()
            server.says("[1]")
            transport.send([b"[1]"])
            await server.wait_until(lambda: len(server.gets) == 3)
            transport.abort()
            assert owner.heard == []
            assert await owner.wait_closed() == Closed(1006, by_us=True)
            assert [kind for kind, _ in owner.heard] == ["closed"]

    run(test)


def test_an_abort_from_within_a_batch_is_the_last_word():
    """An owner that has had enough hears of nothing but the end."""

    async def test():
        async with PollServer() as server:

            class Done(Owner):
                def frames_rejected(self, count, reason):
                    super().frames_rejected(count, reason)
                    transport.abort()

            owner = Done()
            transport = await dial_longpoll(server.endpoint(), owner, max_frame_bytes=10)
            server.says("[" + "x" * 20 + "]", "[1]")
            await owner.wait_closed()
            assert [kind for kind, _ in owner.heard] == ["rejected", "closed"]

    run(test)


@pytest.mark.parametrize("end", ["close", "abort", "server"])
def test_nothing_is_left_behind(end):
    """Task, socket and descriptor are gone when the owner hears of the end."""

    async def test():
        async with PollServer() as server:
            await converse_and_end(server, end)  # what a first session leaves in caches is not counted
            await until(lambda: not server_connections(server))
            before = psutil.Process().num_fds()
            for _ in range(5):
                await converse_and_end(server, end)
            await until(lambda: not server_connections(server))
            assert psutil.Process().num_fds() <= before
            assert not [task for task in asyncio.all_tasks() if task.get_name() == "longpoll"]

    run(test)


def server_connections(server):
    return server._runner.server.connections


async def converse_and_end(server, end):
    owner = Owner()
    transport = await dial_longpoll(server.endpoint(), owner)
    server.says("[1]")
    transport.send([PUSH])
    await owner.wait_until(lambda: owner.texts)
    if end == "server":
        server.says(status=410)
    else:
        await server.wait_until(lambda: server.gets[-1].headers.get("X-Phoenix-Longpoll-Token"))
        getattr(transport, end)()
    await owner.wait_closed()
    server.asked.clear()
    server.polls = asyncio.Queue()


# Faults on our side.


def test_an_owner_that_raises_ends_the_session(caplog):
    """What the owner has not seen is not passed over in silence."""

    async def test():
        async with PollServer() as server:

            class Broken(Owner):
                def text_received(self, frames):
                    raise ValueError("a bug")

            server.says("[1]")
            server.says("[2]")
            owner = await converse(server, Broken())
            assert owner.heard == [("closed", Closed(1011, "an exception on our side, see the log"))]

    with caplog.at_level(logging.ERROR):
        run(test)
    assert "the owner of a connection raised" in caplog.text


def test_an_owner_that_raises_at_the_end_does_no_harm(caplog):
    """The session is closed all the same."""

    async def test():
        async with PollServer() as server:

            class Broken(Owner):
                def transport_closed(self, closed):
                    super().transport_closed(closed)
                    raise ValueError("a bug")

            server.says(status=410)
            await converse(server, Broken())

    with caplog.at_level(logging.ERROR):
        run(test)
    assert "the owner of a connection raised" in caplog.text


def test_a_fault_of_ours_in_a_loop_ends_the_session(caplog, monkeypatch):
    """A session whose polls have stopped does not look alive."""

    def broken(frames):
        raise ValueError("a bug")

    monkeypatch.setattr("rig.transport.longpoll.next_post", broken)

    async def test():
        async with PollServer() as server:
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner)
            transport.send([PUSH])
            assert (await owner.wait_closed()).code == 1011

    with caplog.at_level(logging.ERROR):
        run(test)
    assert "a loop of long-poll ended" in caplog.text


# Any conversation.

TEXTS = st.binary(max_size=40).map(lambda text: b'["%s"]' % text.hex().encode())
SENT = st.one_of(TEXTS, st.binary(max_size=40).map(BinaryFrame), TEXTS.map(lambda text: b"{" + text), st.just(b"[1,\n2]"))
SAID = st.one_of(TEXTS.map(bytes.decode), st.text(max_size=20).map(lambda text: "\x01" + text))


@settings(max_examples=30, deadline=None)
@given(sends=st.lists(st.lists(SENT, max_size=130), max_size=6), polls=st.lists(st.lists(SAID, max_size=8), max_size=6))
def test_while_the_session_lives_nothing_is_lost_repeated_or_out_of_order(sends, polls):
    """However sends are grouped by us, and messages by the server."""

    async def test():
        async with PollServer() as server:
            owner = Owner()
            transport = await dial_longpoll(server.endpoint(), owner)
            for sent in sends:
                transport.send(sent)
                await asyncio.sleep(0)
            for said in polls:
                server.says(*said)
            await server.wait_until(lambda: len(server.frames) == sum(map(len, sends)))
            await owner.wait_until(lambda: len(owner.flow) == sum(map(len, polls)))
            server.says(status=410)
            await owner.wait_closed()

            assert server.frames == [frame for sent in sends for frame in sent]
            assert [isinstance(frame, BinaryFrame) for frame in server.frames] == [
                isinstance(frame, BinaryFrame) for sent in sends for frame in sent
            ]
            said = [message for said in polls for message in said]
            assert owner.flow == [("text" if text.startswith("[") else "binary", text.encode()) for text in said]

    run(test)
