"""Whatever a client sends, the server lives on, and ends the connection only as it should."""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_server import MockServer
from mock_server.reference import PresenceRoom, Room
from tests.conformance.raw_client import BINARY, TEXT, Client, Dialler, Received, client_frame

CLOSE_CODES = {1000, 1002, 1007, 1008, 1009, 1011}
HEARTBEAT = [None, "alive", "phoenix", "heartbeat", {}]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
topics = st.sampled_from(["room:a", "room:b", "room:forbidden", "room:crash_on_join", "exact", "presence:a", "nowhere", "phoenix"])
events = st.sampled_from(["phx_join", "phx_leave", "phx_close", "heartbeat", *sorted({*Room.handlers, *PresenceRoom.handlers})])
messages = st.tuples(json_values, json_values, topics | json_values, events | json_values, json_values).map(list)


class Complaints(logging.Handler):
    """Keeps what the server logs of its own failures: an exception in a handler is not an answer to anything."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


Example = Callable[[Callable[[MockServer, Dialler], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def example() -> Iterator[Example]:
    """Run a coroutine against one server that must outlive all examples, and check afterwards that it is well."""
    server = MockServer(time_scale=0.01)
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)

    async def play(main: Callable[[MockServer, Dialler], Awaitable[None]]) -> None:
        with Dialler() as dial:
            async with asyncio.timeout(10):
                await main(server, dial)
                witness = await dial(server.port)
                await witness.send(*HEARTBEAT)
                assert (await witness.receive_json())[1] == "alive"
        assert complaints.records == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.start())
        yield lambda main: runner.run(play(main))
        runner.run(server.stop())
    logging.getLogger().removeHandler(complaints)


async def last_words(client: Client) -> list[Received]:
    """Send no more; return what still comes before the connection ends."""
    client.sock.shutdown(socket.SHUT_WR)
    frames = []
    while (frame := await client.receive()).opcode != "eof":
        frames.append(frame)
    return frames


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes_end_in_a_documented_close_code_or_in_silence(data: bytes, example: Example) -> None:
    """They may be the start of a frame that never ends, or break the protocol."""

    async def main(server: MockServer, dial: Dialler) -> None:
        client = await dial(server.port)
        await client.write(data)
        frames = await last_words(client)
        assert {frame.code for frame in frames if frame.opcode == "close"} <= CLOSE_CODES
        assert all(frame.opcode != "close" for frame in frames[:-1])

    example(main)


@settings(deadline=None)
@given(payload=st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()), vsn=st.sampled_from([1, 2]))
def test_text_that_is_no_message_closes_with_1007_or_1011(payload: bytes, vsn: int, example: Example) -> None:
    """1007 if it is no text at all, 1011 if it is text but no message."""

    async def main(server: MockServer, dial: Dialler) -> None:
        client = await dial(server.port, f"/socket/websocket?vsn={vsn}.0.0")
        await client.write(client_frame(TEXT, payload))
        codes = [frame.code for frame in await last_words(client) if frame.opcode == "close"]
        assert codes == expected_codes(payload, vsn)

    example(main)


def expected_codes(payload: bytes, vsn: int) -> list[int]:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return [1007]
    try:
        message = json.loads(payload)
    except ValueError:
        return [1011]
    if vsn == 2:
        readable = isinstance(message, list) and len(message) >= 5
    else:
        readable = isinstance(message, dict) and {"topic", "event", "payload", "ref"} <= message.keys()
    return [] if readable else [1011]


@settings(deadline=None)
@given(payload=st.binary(max_size=60))
def test_binary_that_is_no_push_closes_with_1011(payload: bytes, example: Example) -> None:
    """A push begins with a zero, and its lengths fit into it."""

    async def main(server: MockServer, dial: Dialler) -> None:
        client = await dial(server.port)
        await client.write(client_frame(BINARY, payload))
        codes = [frame.code for frame in await last_words(client) if frame.opcode == "close"]
        assert codes in ([], [1011])
        if len(payload) < 5 or payload[0] or sum(payload[1:5]) > len(payload) - 5:
            assert codes == [1011]

    example(main)


@settings(deadline=None, max_examples=60)
@given(sent=st.lists(messages.filter(lambda message: message[3] != "kill_transport"), max_size=12))
def test_no_sequence_of_messages_ends_the_connection(sent: list[Any], example: Example) -> None:
    """Channels may crash, the socket does not: a heartbeat behind all of it is answered."""

    async def main(server: MockServer, dial: Dialler) -> None:
        client = await dial(server.port)
        for message in [*sent, HEARTBEAT]:
            await client.send(*message)
        while (frame := await client.receive()).opcode != "text" or frame.json[1] != "alive":
            assert frame.opcode in ("text", "binary"), frame

    example(main)


@settings(deadline=None, max_examples=60)
@given(
    body=st.binary(max_size=60)
    | st.lists(messages, max_size=4).map(lambda batch: b"\n".join(json.dumps(m).encode() for m in batch)),
    content_type=st.sampled_from(["application/json", "application/x-ndjson", "x"]),
    method=st.sampled_from(["POST", "GET", "PUT", "OPTIONS"]),
    token=st.sampled_from(["own", "", "made up"]),
)
def test_random_requests_to_long_poll_get_a_documented_status(
    body: bytes, content_type: str, method: str, token: str, example: Example
) -> None:
    """HTTP 200 with a status in the body, or 400 or 500."""

    async def main(server: MockServer, dial: Dialler) -> None:
        url = f"{server.http_url}/socket/longpoll?vsn=2.0.0"
        async with aiohttp.ClientSession() as http:
            async with http.get(url) as response:
                own = (await response.json())["token"]
            shown = own if token == "own" else token
            async with http.request(
                method, url, params={"token": shown}, data=body, headers={"Content-Type": content_type}
            ) as response:
                assert response.status in (200, 400, 500)
                if response.status == 200 and method != "OPTIONS":
                    assert (await response.json())["status"] in (200, 204, 408, 410)

    example(main)
