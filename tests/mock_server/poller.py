"""A client that polls over real HTTP, and shows every answer."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from mock_server import MockServer

NDJSON = {"Content-Type": "application/x-ndjson"}


class Poller:
    """A client that polls, and shows every answer."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url
        self.token = ""

    async def request(self, method: str, *, url: str = "", body: bytes = b"", **headers: str) -> tuple[int, str]:
        """Make a request as it is; returns HTTP status and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, url or self.url, data=io.BytesIO(body) if body else None, headers=named) as response:
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

    async def poll_until_found(self) -> list[Any]:
        """Poll for messages of a session that is held up, and cannot be found while it is."""
        while True:
            answer = await self.call("GET")
            if answer["messages"]:
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
