"""
Plays what the official JavaScript client sent in a recording, and compares what the server says.

Only the client's own view was recorded: of the HTTP that opens a WebSocket just the answer, of a connection's end just the
code, and of long-poll not which answer belongs to which request; but only polls are answered with messages.
"""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.raw_client import UPGRADE, Client
from tests.conformance.transcript import Frame, comparable_body, received_frame, recorded_frame, sent_bytes

# What was done to the server is not part of the recording: on which received frame that was due, and the request.
INTERVENTIONS = {"js_server_disconnect": ("closed", "/disconnect/user:jsd"), "js_longpoll": ("news", "/broadcast/room:js/news?n=1")}

_VARYING_HEADERS = {"date", "sec-websocket-accept"}
_ABNORMAL = 1006
_PAUSE_MS = 50


class JsReplay:
    """
    One replay against one server.

    Args:
        transcript: What was recorded.
        port: Where the server listens.
        dial: Connects a client.
        time_scale: The server's; pauses are shortened likewise.
    """

    def __init__(self, transcript: dict[str, Any], port: int, *, dial: Any, time_scale: float) -> None:
        self.frames: list[Frame] = transcript["frames"]
        self.port, self.dial, self.time_scale = port, dial, time_scale
        self.intervention = INTERVENTIONS.get(transcript["scenario"])
        self.clients: dict[str, Client] = {}
        self.polls: list[asyncio.Task[Client]] = []
        self.posts: list[asyncio.Task[Client]] = []
        self.tokens: dict[str, str] = {}
        self.gave_up = False
        self.messages: dict[str, list[Any]] = {"recorded": [], "received": []}

    async def run(self) -> None:
        """Play frame after frame; what long-poll delivered is compared as a whole, since polls cut it as they happen to come."""
        last_ms = 0
        for frame in self.frames:
            gap = frame["t_ms"] - last_ms
            if frame["dir"] == "send" and gap > _PAUSE_MS:
                await asyncio.sleep(gap / 1000 * self.time_scale)
            await (self._send(frame) if frame["dir"] == "send" else self._compare(frame))
            last_ms = frame["t_ms"]
        assert self.messages["received"] == self.messages["recorded"]
        for task in self.polls:
            task.cancel()

    # sending

    async def _send(self, frame: Frame) -> None:
        match frame["opcode"]:
            case "connect":
                await self._connect(frame)
            case "http":
                await self._request(frame)
            case "close" if frame["code"] is not None:
                pass  # the client's library noting the server's close, which `closed` shows again
            case _:
                await self.clients[frame["conn"]].write(sent_bytes(frame))

    async def _connect(self, frame: Frame) -> None:
        client = self.clients[frame["conn"]] = await self.dial(self.port, None)
        protocols = [("Sec-WebSocket-Protocol", ", ".join(frame["protocols"]))] if frame["protocols"] else []
        await client.request(_target(frame["url"]), [*UPGRADE, *protocols])

    async def _request(self, frame: Frame) -> None:
        target = _target(frame["target"])
        for recorded, token in self.tokens.items():
            target = target.replace(recorded, token)
        body = (frame.get("body") or "").encode()
        headers = [*frame["headers"], ["Host", "localhost"], ["Content-Length", str(len(body))]]

        async def call() -> Client:
            client: Client = await self.dial(self.port, None)
            await client.request(target, headers, method=frame["method"], body=body)
            return client

        task = asyncio.get_running_loop().create_task(call())
        (self.polls if frame["method"] == "GET" else self.posts).append(task)

    # comparing

    async def _compare(self, frame: Frame) -> None:
        await self._intervene(frame)
        if frame["opcode"] == "http" and "body" in frame:
            await self._compare_answer(frame)
            return
        client = self.clients[frame["conn"]]
        match frame["opcode"]:
            case "http":
                assert client.status == frame["status"]
                assert _headers(client.headers) == _headers(dict(frame["headers"]))
            case "error":
                self._compare_error(client, frame["data"])
            case "closed":
                await self._compare_end(client, frame["code"])
            case _:
                assert received_frame(await client.receive()) == recorded_frame(frame)

    async def _intervene(self, frame: Frame) -> None:
        if self.intervention is not None and self.intervention[0] in json.dumps(frame):
            client = await self.dial(self.port, None)
            await client.request(self.intervention[1], [("Host", "localhost")])
            assert client.status == 200
            self.intervention = None

    def _compare_error(self, client: Client, reason: str) -> None:
        """What the client complained about is true here, too."""
        self.gave_up = True
        if reason == "Server sent no subprotocol":
            assert client.status == 101
            assert "sec-websocket-protocol" not in client.headers
        else:
            assert reason == f"Unexpected server response: {client.status}"

    async def _compare_end(self, client: Client, code: int) -> None:
        """Compare a connection's end; of an abnormal one the server sent nothing, or the client gave it up because of an error."""
        if code != _ABNORMAL:
            assert received_frame(await client.receive()) == ["close", code]
        elif client.status == 101 and not self.gave_up:
            assert received_frame(await client.receive()) == ["eof"]
        self.gave_up = False

    async def _compare_answer(self, frame: Frame) -> None:
        """Compare the answer of the oldest poll, or of the oldest POST."""
        body = json.loads(frame["body"])
        client = await (self.polls if "messages" in body else self.posts).pop(0)
        assert client.status == frame["status"]
        answer = json.loads(client.body)
        assert answer.keys() == body.keys()
        if "messages" not in body:
            assert answer == body
            return
        self._take_messages(answer, body)

    def _take_messages(self, answer: Any, recorded: Any) -> None:
        if recorded["status"] == 410:
            assert answer["status"] == 410
            self.tokens[recorded["token"]] = answer["token"]
        else:
            assert answer["token"] == self.tokens[recorded["token"]]
            assert answer["status"] == (200 if answer["messages"] else 204)
        self.messages["recorded"] += comparable_body(json.dumps(recorded), {})["messages"]
        self.messages["received"] += comparable_body(json.dumps(answer), {})["messages"]


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _headers(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _VARYING_HEADERS}
