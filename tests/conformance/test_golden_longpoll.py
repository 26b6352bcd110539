"""
The recorded long-poll conversations, through `LongPollTransport`: it asks what the recorded client asked, is answered what
Phoenix answered, byte for byte, and must hand on what Phoenix said, and end when and how the session ended.

What phoenix.js sent (`js-*`) rig must send, too: the same targets, bodies and headers, and besides its session's token in the
header that Phoenix reads from 1.8.10 on. The raw conversations hold things that rig does not do; of those the frames and the
answers count:

- `longpoll_batch`: 130 lines in a POST, of which Phoenix read 100; rig makes two POSTs.
- `v1-longpoll_flow`: a V1 frame as NDJSON, which Phoenix answered with HTTP 500; rig posts V1 frames as JSON, which the same
  recording shows to work, so that answer is replaced.
- Raw clients poll now and then; rig always does. What was recorded after the end of the session is not asked.
"""

import asyncio
import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import web

from rig.transport import BinaryFrame, Closed
from rig.transport.longpoll import dial_longpoll
from tests.running import run
from tests.transport.longpoll_server import PollServer
from tests.transport.raw_server import Owner

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NAMES = [path.stem for path in sorted(GOLDEN.glob("*longpoll*.json"))]
ENDS = {410: 3410, 403: 1008, 408: 1011, 500: 1011}
"""What each status means for a session that is open, in the body or in HTTP."""


@dataclass
class Exchange:
    """A request of the recorded client, and what Phoenix answered; None where the recording ended first."""

    method: str
    target: str
    headers: dict[str, str]
    body: str
    status: int | None = None
    answer: str | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def frames(self):
        """What the POST holds, read as Phoenix reads it, but for its limit of 100 lines."""
        if self.headers.get("content-type") != "application/x-ndjson" or self.body.startswith("{"):
            return [self.body.encode()] if "\n" not in self.body else self.body.encode().split(b"\n")
        lines = self.body.split("\n")
        return [line.encode() if line.startswith("[") else BinaryFrame(base64.b64decode(line)) for line in lines]

    @property
    def meaning(self):
        """The status that counts."""
        return json.loads(self.answer)["status"] if self.status == 200 else self.status

    async def respond(self, request):
        await self.answered.wait()
        status, answer = self.status, self.answer
        if self.body.startswith("{") and self.headers.get("content-type") == "application/x-ndjson":
            status, answer = 200, '{"status":200}'
        return web.Response(status=status, body=answer.encode(), content_type="application/json", charset="utf-8")


def read(name):
    """Return the conversation's steps, in the order in which they were recorded: (a request or an answer, its exchange)."""
    steps, waiting = [], {}
    for frame in json.loads((GOLDEN / f"{name}.json").read_text())["frames"]:
        if frame["conn"] == "control" or frame["opcode"] != "http":
            continue
        pending = waiting.setdefault(frame["conn"], [])
        if frame["dir"] == "send":
            headers = {key.lower(): value for key, value in frame["headers"]}
            exchange = Exchange(frame["method"], frame["target"], headers, frame["body"])
            pending.append(exchange)
            steps.append(("send", exchange))
        else:
            method = "GET" if "messages" in frame["body"] else "POST"
            exchange = next((one for one in pending if one.method == method), pending[0])
            pending.remove(exchange)
            exchange.status, exchange.answer = frame["status"], frame["body"]
            steps.append(("recv", exchange))
    return steps


def expected(steps):
    """Return what the owner must hear: the messages, and the code with which the session ends, or None if it does not."""
    flow = []
    for kind, exchange in steps[2:]:
        replaced = exchange.body.startswith("{") and exchange.status == 500
        if kind != "recv" or replaced:
            continue
        if exchange.meaning not in (200, 204):
            return flow, ENDS[exchange.meaning]
        flow += [("text", message.encode()) for message in json.loads(exchange.answer).get("messages", [])]
    return flow, None


async def replay(name, server, owner):
    """Take the recorded client's part, and let the server answer when Phoenix did."""
    steps = read(name)
    opening = steps[0][1]
    assert steps[1] == ("recv", opening)
    assert opening.meaning == 410
    query = dict(parse_qsl(urlsplit(opening.target).query))
    vsn = query.pop("vsn")
    opening.answered.set()
    server.opening.append(opening.respond)
    endpoint = server.endpoint(params=query, vsn=vsn, auth_token=opening.headers.get("x-phoenix-authtoken"))
    transport = await dial_longpoll(endpoint, owner)
    polls, posts = 1, 0
    for kind, exchange in steps[2:]:
        if owner.closed:
            break
        if kind == "send" and exchange.method == "GET":
            server.polls.put_nowait(exchange.respond)
            polls += 1
            await server.wait_until(lambda polls=polls: len(server.gets) >= polls)
        elif kind == "send":
            server.posts.append(exchange.respond)
            transport.send(exchange.frames)
            posts += 1
            await server.wait_until(lambda posts=posts: len(server.posted) >= posts)
        else:
            exchange.answered.set()
            await took(exchange, server, owner)
    if not owner.closed:
        transport.abort()
    return steps, await owner.wait_closed()


async def took(exchange, server, owner):
    """Wait until an answer has shown its effect."""
    if exchange.meaning in ENDS and not (exchange.body.startswith("{") and exchange.status == 500):
        await owner.wait_closed()
    elif exchange.method == "GET":
        heard = len(json.loads(exchange.answer)["messages"])
        last = json.loads(exchange.answer)["messages"][-1].encode() if heard else None
        await owner.wait_until(lambda: last is None or last in owner.texts)


@pytest.mark.parametrize("name", NAMES)
def test_what_phoenix_said_is_handed_on_and_ends_as_the_session_did(name):
    """Every message, in order, and the code that says why it is over."""

    async def test():
        owner = Owner()
        async with PollServer() as server:
            steps, closed = await replay(name, server, owner)
        flow, code = expected(steps)
        assert owner.flow == flow
        assert closed == (Closed(1006, by_us=True) if code is None else Closed(code, closed.reason))

    run(test)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_posted_are_the_recorded_frames(name):
    """All of those that were sent before the session's end, in order, in a form that Phoenix reads."""

    async def test():
        async with PollServer() as server:
            steps, _ = await replay(name, server, Owner())
            recorded = [frame for kind, one in steps if (kind, one.method) == ("send", "POST") for frame in one.frames]
            assert server.frames == recorded[: len(server.frames)]
            assert [type(frame) for frame in server.frames] == [type(frame) for frame in recorded[: len(server.frames)]]
            assert all(len(post.frames) <= 100 for post in server.posted)
            ended = expected(steps)[1] is not None
            assert ended or server.frames == recorded
            for post in server.posted:
                kind = "application/json" if post.body.startswith(b"{") else "application/x-ndjson"
                assert post.headers["Content-Type"] == kind

    run(test)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("js-")])
def test_the_requests_are_those_of_phoenix_js(name):
    """To the server rig is one more phoenix.js."""

    async def test():
        async with PollServer() as server:
            steps, _ = await replay(name, server, Owner())
            for method, asked in (("GET", server.gets), ("POST", server.posted)):
                recorded = [one for kind, one in steps if (kind, one.method) == ("send", method)]
                for ours, theirs in zip(asked, recorded, strict=False):
                    target = urlsplit(theirs.target)
                    assert ours.target == f"{target.path}?{target.query.rstrip('&')}"
                    assert ours.body == theirs.body.encode()
                    for header, value in theirs.headers.items():
                        assert ours.headers[header] == value
                    token = dict(parse_qsl(target.query)).get("token")
                    assert ours.headers.get("X-Phoenix-Longpoll-Token") == token
                assert len(asked) >= len(recorded) > 0

    run(test)
