"""What no Phoenix server would send: it is counted and reported, and costs neither the connection nor any other event."""

import asyncio
import struct

import pytest

from mock_server.frames import BINARY, TEXT, encode_frame

GOOD = 20
DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000


def text(payload):
    """Encode a text frame."""
    return encode_frame(TEXT, payload)


def message(topic, event, payload):
    """Encode a broadcast whose payload is any text."""
    return text(b'[null,null,"%b","%b",%b]' % (topic, event, payload))


GARBAGE = {
    "malformed JSON": (text(b'[null,null,"room:0","tick",{"i":'), "malformed"),
    "no JSON at all": (text(b"hello"), "malformed"),
    "four fields": (text(b'[null,null,"room:0","tick"]'), "malformed"),
    "an object": (text(b'{"topic":"room:0","event":"tick","payload":{}}'), "malformed"),
    "a number for a topic": (text(b'[null,null,7,"tick",{"i":0}]'), "malformed"),
    "null for an event": (text(b'[null,null,"room:0",null,{"i":0}]'), "malformed"),
    "a reply that is none": (text(b'["1","1","room:0","phx_reply",{"stat":1}]'), "malformed"),
    "binary garbage": (encode_frame(BINARY, b"\x07\xff\x00garbage"), "malformed"),
    "a binary frame cut short": (encode_frame(BINARY, b"\x02\x06\xffroom:0"), "malformed"),
    "a huge frame": (message(b"room:0", b"tick", b'{"i":0,"pad":"%b"}' % (b"x" * 100_000)), "oversize"),
    "a topic that nobody joined": (message(b"room:nowhere", b"tick", b'{"i":0}'), "dropped"),
    "an event that nobody handles": (message(b"room:0", b"unknown", b'{"i":0}'), "unrouted"),
    "a payload of another type": (message(b"room:0", b"tick", b'{"i":"one"}'), "invalid"),
    "a payload that is no object": (message(b"room:0", b"tick", b"null"), "invalid"),
    "bytes for a typed payload": (encode_frame(BINARY, b"\x02\x06\x04room:0tick\x00"), "invalid"),
    "an escape that is no character": (message(b"room:0", b"person", b'{"name":"\\ud800","age":1}'), "malformed"),
}
REPORTS = {
    "malformed": "frame dropped",
    "oversize": "frame dropped",
    "dropped": "message dropped: its topic is not joined",
    "invalid": "event given up",
}


def test_garbage_costs_nothing_but_itself(play, until):
    """Each kind of garbage between good events: all good ones are handled in order, on one connection, and the sums are right."""

    async def test(stage):
        rig = await stage.run_worker("--max-frame-bytes", "64KiB")
        client, topics = stage.client, stage.topics_of(0, 4)
        [connection] = stage.server.sockets
        for frame, _ in GARBAGE.values():
            connection.write(frame)
            expected = await stage.flood("slow", GOOD, topics=topics)
            connection.write(frame + frame)
        await until(lambda: len(stage.ledger.all("slow")) == GOOD * len(GARBAGE))
        await stage.until_received()
        assert stage.client == client
        summary = await rig.drain()

        assert stage.ledger.repeats("slow", expected) == 0
        for kind in ("malformed", "oversize", "dropped", "unrouted", "invalid"):
            assert summary[kind] == 3 * sum(of == kind for _, of in GARBAGE.values()), kind
        assert summary["unfinished"] == 0
        for kind, report in REPORTS.items():
            assert rig.said(report), kind
        assert all(entry["reason"] for entry in rig.said("frame dropped"))

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("name", GARBAGE)
def test_each_kind_of_garbage_is_counted_as_what_it_is(name, play, until):
    """Alone in its batch, too, it is told apart: what is counted, and that something is said."""
    frame, kind = GARBAGE[name]

    async def test(stage):
        rig = await stage.run_worker("--max-frame-bytes", "64KiB", workers=1, topics=2)
        [connection] = stage.server.sockets
        connection.write(frame)
        stage.server.publish("room:1", "tick", {"i": 0})
        await until(lambda: stage.ledger.all("tick") == [["room:1", 0]])
        summary = await rig.drain()

        counted = {kind: summary[kind] for kind in ("malformed", "oversize", "dropped", "unrouted", "invalid") if kind in summary}
        assert counted == {kind: 1}
        assert "reconnects" not in summary
        if kind in REPORTS:
            assert rig.said(REPORTS[kind])

    play(test)


def test_deep_nesting_breaks_nobody(play, until):
    """A payload of thousands of levels is too deep for anybody; what comes with it in one batch is not."""

    async def test(stage):
        rig = await stage.run_worker(workers=1, topics=4)
        client = stage.client
        [connection] = stage.server.sockets
        good = message(b"room:1", b"tick", b'{"i":0}'), message(b"room:1", b"tick", b'{"i":1}')
        for event in (b"tick", b"threaded", b"hang"):
            connection.write(good[0] + message(b"room:0", event, DEEP) + good[1])
            await until(lambda: stage.ledger.all("tick")[-2:] == [["room:1", 0], ["room:1", 1]])
        await until(lambda: len(stage.ledger.all("tick")) == 6)
        assert stage.client == client
        summary = await rig.drain()

        assert summary.get("malformed", 0) + summary.get("invalid", 0) == 3
        assert not rig.said("process died, and is started again")

    play(test)


def test_a_flood_of_garbage_is_a_few_lines_of_log(play, until):
    """The peer cannot fill the disk: each kind is reported once a while, with how many were not shown."""

    async def test(stage):
        rig = await stage.run_worker(workers=1, topics=2)
        [connection] = stage.server.sockets
        for number in range(300):
            connection.write(text(b" " * (number % 100) + b'[null,null,"room:0","tick",{"i":}]'))
            connection.write(message(b"room:%d" % (number + 10), b"tick", b"{}"))
            connection.write(message(b"room:0", b"tick", b'{"i":"%d"}' % number))
            await asyncio.sleep(0.001)  # not all in one batch, which has one report anyway
        stage.server.publish("room:1", "tick", {"i": 0})
        await until(lambda: stage.ledger.all("tick") == [["room:1", 0]])
        summary = await rig.drain()

        assert (summary["malformed"], summary["dropped"], summary["invalid"]) == (300, 300, 300)
        assert len(rig.err) < 30

    play(test)


def test_a_handler_that_raises_is_tried_again_and_given_up(play, until):
    """Other events go on; the log has the reason, and nothing that steers a terminal."""

    async def test(stage):
        rig = await stage.run_worker("--retries", "2", "--retry-backoff", "0.01", workers=1, topics=2)
        stage.server.publish("room:0", "block", {"seconds": "\x1b[31mred"})
        stage.server.publish("room:1", "tick", {"i": 0})
        given_up = await rig.hear("event given up")
        await until(lambda: stage.ledger.all("tick"))
        summary = await rig.drain()

        assert "failed after 3 attempts: TypeError" in given_up["reason"]
        assert (summary["failed"], summary["retried"], summary["unfinished"]) == (1, 2, 0)
        assert not any("\x1b" in line for line in rig.err)

    play(test)


def test_garbled_and_duplicate_replies_harm_no_push(play, until):
    """A push whose reply cannot be read times out; one that is answered twice has one answer."""

    async def test(stage):
        rig = await stage.run_worker(workers=1, topics=2)
        client = stage.client
        stage.server.faults.change({"garble_replies": True})
        stage.server.publish("room:0", "ask", {"event": "echo", "timeout": 0.1})
        await until(lambda: stage.ledger.all("failed"))
        stage.server.faults.change({"garble_replies": False, "duplicate_replies": True})
        stage.server.publish("room:0", "ask", {"event": "echo", "payload": {"n": 1}})
        await until(lambda: stage.ledger.all("answer") == [["room:0", {"n": 1}]])
        assert stage.client == client
        summary = await rig.drain()

        assert stage.ledger.all("failed")[0][1][0] == "PushTimeout"
        assert summary["malformed"] == 1

    play(test)


def test_text_that_is_not_utf8_ends_the_connection_and_reaches_no_handler(play, until):
    """RFC 6455 section 8.1: it reconnects, and says why; what came before it is handled."""

    async def test(stage):
        rig = await stage.run_worker(workers=1, topics=2)
        first = stage.client
        [connection] = stage.server.sockets
        connection.write(message(b"room:1", b"tick", b'{"i":1}') + message(b"room:1", b"tick", b'{"i":2,"text":"\xff"}'))
        lost = await rig.hear("connection lost")
        await until(lambda: stage.server.clients and stage.client != first and stage.joined() == set(stage.topics))
        stage.server.publish("room:1", "tick", {"i": 3})
        await until(lambda: len(stage.ledger.all("tick")) == 2)
        summary = await rig.drain()

        assert stage.ledger.all("tick") == [["room:1", 1], ["room:1", 3]]
        assert "not UTF-8" in lost["reason"]
        assert "malformed" not in summary

    play(test)


def test_a_frame_far_beyond_the_limit_ends_the_connection_and_no_event_is_lost_after_it(play, until):
    """Nobody reads gigabytes only to drop them: it reconnects, and says why."""

    async def test(stage):
        rig = await stage.run_worker("--max-frame-bytes", "1KiB", workers=1, topics=2)
        first = stage.client
        [connection] = stage.server.sockets
        header = bytes((0x81, 127)) + struct.pack(">Q", 1 << 40)
        connection.write(header)
        lost = await rig.hear("connection lost")
        await until(lambda: stage.server.clients and stage.client != first and stage.joined() == set(stage.topics))
        stage.server.publish("room:1", "tick", {"i": 0})
        await until(lambda: stage.ledger.all("tick"))
        await rig.drain()

        assert "a frame of 1099511627776 bytes is not read" in lost["reason"]

    play(test)
