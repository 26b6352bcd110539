"""Floods: contiguous, of the size asked for, in order, to those who have joined."""

import asyncio
import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_server import MockServer
from mock_server.flood import EventTemplate, SizeTooSmall, encode_blocks


def parse(stream: bytes) -> list[Any]:
    """Return the messages of a run of server frames, whose payloads have all to be 200 bytes long."""
    messages, start = [], 0
    while start < len(stream):
        assert stream[start : start + 4] == b"\x81\x7e\x00\xc8"
        messages.append(json.loads(stream[start + 4 : start + 204]))
        start += 204
    return messages


@settings(deadline=None, max_examples=40)
@given(topics=st.integers(1, 5), count=st.integers(0, 4_000), starts=st.sampled_from([0, 7, 990, 1_000, 99_990]))
def test_every_topic_is_numbered_without_a_gap(topics: int, count: int, starts: int) -> None:
    """Whatever the blocks look like inside, the numbers of a topic are contiguous and the topics take turns."""
    names = [f"room:{'x' * index}" for index in range(topics)]
    templates = [EventTemplate("2.0.0", name, "tick", size=200) for name in names]
    whole, extra = divmod(count, topics)
    counts = [whole + (index < extra) for index in range(topics)]

    messages = parse(b"".join(encode_blocks(templates, [starts] * topics, counts)))

    assert [(m[2], m[4]["i"]) for m in messages] == [(names[k % topics], starts + k // topics) for k in range(count)]


def test_topics_that_have_got_unequally_far_go_on_where_they_were() -> None:
    """A topic that was flooded before does not start over."""
    templates = [EventTemplate("2.0.0", name, "tick", size=200) for name in ("room:a", "room:b")]
    messages = parse(b"".join(encode_blocks(templates, [5, 1_000], [1_500, 1_500])))
    numbers = defaultdict(list)
    for message in messages:
        numbers[message[2]].append(message[4]["i"])
    assert numbers == {"room:a": list(range(5, 1_505)), "room:b": list(range(1_000, 2_500))}


def test_size_without_room_for_the_fields_is_refused() -> None:
    """The size is exact or not at all."""
    with pytest.raises(SizeTooSmall, match="at least"):
        EventTemplate("2.0.0", "room:1", "tick", size=50)


def test_flood_reaches_each_client_on_its_own_topics(run: Any, dial: Any, post: Any) -> None:
    """A client gets the topics that it has joined, in its own serializer, and a heartbeat finds its place between."""

    async def main() -> None:
        async with MockServer() as server:
            both, one = await dial(server.port), await dial(server.port, "/socket/websocket?vsn=1.0.0")
            await both.join("room:a")
            await both.join("room:b", ref="2")
            await one.write(v1_join("room:b"))
            await one.receive()
            body = {"topics": ["room:a", "room:b"], "event": "tick", "count": 3_001, "id": "f1"}
            flood = asyncio.create_task(post(f"{server.control_url}/flood", body))
            await both.send(None, "9", "phoenix", "heartbeat", {})
            came = [await both.receive_json() for _ in range(3_002)]
            came_v1 = [await one.receive_json() for _ in range(1_500)]
            result = await flood
            ledger = await post(f"{server.control_url}/ledger")
            await post(f"{server.control_url}/flood", {"topics": ["room:a"], "event": "tick", "count": 1})
            following = await both.receive_json()

        events = [message for message in came if message[3] == "tick"]
        assert [(m[2], m[4]["i"]) for m in events] == [(f"room:{'ab'[k % 2]}", k // 2) for k in range(3_001)]
        assert events[0][4]["id"] == "f1"
        assert [m["payload"]["i"] for m in came_v1] == list(range(1_500))
        assert (result["sent"], result["deliveries"]) == (3_001, 4_501)
        assert ledger == {"room:a": {"count": 1_501, "last": 1_500}, "room:b": {"count": 1_500, "last": 1_499}}
        assert following[4]["i"] == 1_501

    run(main())


def test_flood_waits_for_a_slow_reader(run: Any, dial: Any, post: Any) -> None:
    """Memory stays bounded: nothing is encoded that nobody reads."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("room:a")
            body = {"topics": ["room:a"], "count": 100_000, "size": 1_000}
            flood = asyncio.create_task(post(f"{server.control_url}/flood", body))
            await asyncio.sleep(0.2)
            (described,) = server.clients
            assert described["bytes_sent"] < 30_000_000
            assert not flood.done()
            received = 0
            while received < 100_000 * 1_004:
                received += len(await asyncio.get_running_loop().sock_recv(client.sock, 1 << 20))
            assert (await flood)["sent"] == 100_000

    run(main())


def v1_join(topic: str) -> bytes:
    payload = json.dumps({"topic": topic, "event": "phx_join", "payload": {}, "ref": "1", "join_ref": "1"}).encode()
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload
