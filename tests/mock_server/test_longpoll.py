"""Long-poll over real HTTP: what no transcript shows, or shows only once."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mock_server import MockServer

NDJSON = {"Content-Type": "application/x-ndjson"}
FAST = 0.05


class Poller:
    """A client that polls, and shows every answer."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url
        self.token = ""

    async def request(self, method: str, *, url: str = "", body: bytes = b"", **headers: str) -> tuple[int, str]:
        """Make a request as it is; returns HTTP status and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, url or self.url, data=body or None, headers=named) as response:
            return response.status, await response.text()

    async def call(self, method: str, **options: Any) -> dict[str, Any]:
        """Make a request with the token; returns the body of an answer that is HTTP 200."""
        url = f"{self.url}&token={self.token}" if self.token else self.url
        status, body = await self.request(method, **{"url": url, **options})
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    async def open(self) -> None:
        """Open a session."""
        answer = await self.call("GET")
        assert (answer["status"], answer["messages"]) == (410, [])
        self.token = answer["token"]

    async def post(self, *messages: Any) -> int:
        """Send messages as one batch; returns the status."""
        body = "\n".join(json.dumps(message) for message in messages).encode()
        status: int = (await self.call("POST", body=body, **NDJSON))["status"]
        return status

    async def poll(self) -> list[Any]:
        """Poll once; returns the messages."""
        answer = await self.call("GET")
        assert answer["status"] == (200 if answer["messages"] else 204)
        return [json.loads(text) for text in answer["messages"]]

    async def join(self, topic: str, ref: str = "1") -> Any:
        """Join; returns the reply's payload."""
        assert await self.post([ref, ref, topic, "phx_join", {}]) == 200
        (reply,) = await self.poll()
        return reply[4]


@asynccontextmanager
async def serving(path: str = "/socket/longpoll?vsn=2.0.0", **options: Any) -> AsyncIterator[tuple[MockServer, Poller]]:
    async with MockServer(**options) as server, aiohttp.ClientSession() as http:
        yield server, Poller(http, server.http_url + path)


Run = Callable[[Any], None]


def test_join_push_and_broadcast_are_polled_back(run: Run) -> None:
    """A session is a socket like any other: replies and broadcasts come, in order, with the next poll."""

    async def main() -> None:
        async with serving() as (server, poller):
            await poller.open()
            assert (await poller.join("room:a"))["status"] == "ok"
            assert await poller.post(["1", "2", "room:a", "echo", {"n": 2}], ["1", "3", "room:a", "echo", {"n": 3}]) == 200
            assert server.publish("room:a", "news", {}) == 1
            assert [(message[1], message[3]) for message in await poller.poll()] == [
                ("2", "phx_reply"),
                ("3", "phx_reply"),
                (None, "news"),
            ]

    run(main())


def test_parked_poll_returns_with_the_first_message(run: Run) -> None:
    """A poll that waits is answered as soon as there is something."""

    async def main() -> None:
        async with serving() as (server, poller):
            await poller.open()
            await poller.join("room:a")
            poll = asyncio.create_task(poller.poll())
            await asyncio.sleep(0.05)
            assert not poll.done()
            server.publish("room:a", "news", {"n": 1})
            assert await asyncio.wait_for(poll, 1) == [[None, None, "room:a", "news", {"n": 1}]]

    run(main())


def test_binary_line_of_a_batch_is_base64(run: Run) -> None:
    """A binary push reaches the channel; its payload of plain text comes back as a message, not as an error."""
    push = bytes((0, 1, 1, 6, 11)) + b"12room:abinary_echo" + b"hello"

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.join("room:a")
            answer = await poller.call("POST", body=base64.b64encode(push), **NDJSON)
            assert answer == {"status": 200}
            answer = await poller.call("GET")
            assert answer["messages"] == ["\x01\x01\x01\x06\x0212room:aokhello"]

    run(main())


def test_later_of_two_polls_gets_the_messages(run: Run) -> None:
    """The earlier one runs into its window."""

    async def main() -> None:
        async with serving(time_scale=0.2) as (server, poller):
            await poller.open()
            await poller.join("room:a")
            earlier = asyncio.create_task(poller.poll())
            await asyncio.sleep(0.05)
            later = asyncio.create_task(poller.poll())
            await asyncio.sleep(0.05)
            server.publish("room:a", "news", {})
            assert len(await later) == 1
            assert await earlier == []

    run(main())


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_other_methods_are_http_400(method: str, run: Run) -> None:
    """Only GET, POST and OPTIONS mean something."""

    async def main() -> None:
        async with serving() as (_, poller):
            assert await poller.request(method) == (400, "")

    run(main())
