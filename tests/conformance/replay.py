"""Plays the client's part of one raw transcript, over WebSocket and HTTP, and compares what the server says."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

from tests.conformance.raw_client import Client
from tests.conformance.transcript import Frame, comparable_body, received_frame, recorded_frame, sent_bytes

# Two processes of the real server send these, so their order varies from recording to recording.
UNORDERED = {"presence", "join_duplicate_pipelined", "leave_pipelined_rejoin"}

_VARYING_HEADERS = {"date", "content-length"}
_PAUSE_MS = 50
_NOTICEABLE_MS = 500

Signal = Callable[[str], Awaitable[None]]


class Replay:
    """
    One replay against one server.

    Args:
        transcript: What was recorded.
        port: Where the server listens.
        dial: Connects a client.
        time_scale: The server's; pauses are shortened likewise.
        signal: Does to the server what is recorded of it: `sigterm`, `sigkill`, and `process_gone` to wait for its end.
    """

    def __init__(
        self, transcript: dict[str, Any], port: int, *, dial: Any, time_scale: float, signal: Signal | None = None
    ) -> None:
        self.scenario = transcript["scenario"]
        self.frames: list[Frame] = transcript["frames"]
        self.port, self.dial, self.time_scale, self.signal = port, dial, time_scale, signal
        self.clients: dict[str, Client] = {}
        self.requests: dict[str, asyncio.Task[None]] = {}
        self.requested: dict[str, tuple[float, int]] = {}
        self.refused: set[str] = set()
        self.tokens: dict[str, str] = {}
        self.last_ms = 0

    async def run(self) -> None:
        """Play run after run of frames with one direction, one connection and no pause between."""
        for group in self._merged(self._groups()):
            await self._play(group)

    def _groups(self) -> list[list[Frame]]:
        groups: list[list[Frame]] = []
        for frame in self.frames:
            last = groups[-1][-1] if groups else None
            together = last is not None and last["dir"] == frame["dir"] and last["conn"] == frame["conn"]
            pause = last is not None and frame.get("t_ms", 0) - last.get("t_ms", 0) > 5 and frame["dir"] == "send"
            if together and not pause and "http" not in (frame["opcode"], last["opcode"]):
                groups[-1].append(frame)
            else:
                groups.append([frame])
        return groups

    def _merged(self, groups: list[list[Frame]]) -> list[list[Frame]]:
        """Where order does not count, join what one connection receives before anything is sent again."""
        if self.scenario not in UNORDERED:
            return groups
        merged: list[list[Frame]] = []
        for sends, stretch in itertools.groupby(
            groups, key=lambda group: group[0]["dir"] == "send" or group[0]["opcode"] == "http"
        ):
            if sends:
                merged += stretch
                continue
            by_connection: dict[str, list[Frame]] = {}
            for group in stretch:
                by_connection.setdefault(group[0]["conn"], []).extend(group)
            merged += by_connection.values()
        return merged

    async def _play(self, group: list[Frame]) -> None:
        first = group[0]
        if first["dir"] == "recv":
            await self._compare(group)
        else:
            gap = first.get("t_ms", 0) - self.last_ms
            if gap > _PAUSE_MS:
                await asyncio.sleep(gap / 1000 * self.time_scale)
            await self._send(group)
        self.last_ms = group[-1].get("t_ms", 0)

    # sending

    async def _send(self, group: list[Frame]) -> None:
        first = group[0]
        name = first["conn"]
        if name == "server":
            assert self.signal is not None
            await self.signal(first["opcode"])
        elif first["opcode"] == "http":
            await self._request(first)
        elif first["opcode"] == "tcp_drop":
            self.clients[name].close()
        else:
            await self.clients[name].write(b"".join(map(sent_bytes, group)))

    async def _request(self, frame: Frame) -> None:
        """Send a request on a connection of its own, and go on: its answer is recorded where it came."""
        name = frame["conn"]
        try:
            client = await self.dial(self.port, None)
        except ConnectionRefusedError:
            self.refused.add(name)
            return
        target = frame["target"]
        for recorded, token in self.tokens.items():
            target = target.replace(recorded, token)
        request = client.request(target, frame["headers"], method=frame["method"], body=frame["body"].encode())
        loop = asyncio.get_running_loop()
        self.clients[name], self.requests[name] = client, loop.create_task(request)
        self.requested[name] = loop.time(), frame["t_ms"]

    # comparing

    async def _compare(self, group: list[Frame]) -> None:
        first = group[0]
        name = first["conn"]
        if first["opcode"] == "tcp_ConnectionRefusedError":
            assert name in self.refused
            return
        await self.requests[name]
        client = self.clients[name]
        if first["opcode"] == "http":
            self._compare_http(client, first)
        elif first["opcode"] == "eof":
            assert client.status == 0
        else:
            came = [received_frame(await client.receive()) for _ in group]
            expected = [recorded_frame(frame) for frame in group]
            if self.scenario in UNORDERED:
                came.sort(key=_sort_key)
                expected.sort(key=_sort_key)
            assert came == expected

    def _compare_http(self, client: Client, recorded: Frame) -> None:
        assert client.status == recorded["status"]
        assert _headers(client.headers) == _headers(dict(recorded["headers"]))
        self._learn_token(client.body.decode(), recorded["body"])
        known = {token: name for name, token in self.tokens.items()}
        assert comparable_body(client.body.decode(), known) == comparable_body(recorded["body"], {})
        self._compare_duration(recorded)

    def _learn_token(self, body: str, recorded: str) -> None:
        """Note which token of ours is which of the recording: the server chooses one when it opens a session."""
        if '"status":410,"token"' in recorded:
            self.tokens[json.loads(recorded)["token"]] = json.loads(body)["token"]

    def _compare_duration(self, recorded: Frame) -> None:
        """An answer that took long because something was waited for takes as long here, scaled."""
        started, started_ms = self.requested[recorded["conn"]]
        recorded_ms = recorded["t_ms"] - started_ms
        if recorded_ms > _NOTICEABLE_MS and "flooded" not in recorded["body"]:
            assert asyncio.get_running_loop().time() - started > recorded_ms / 1000 * self.time_scale * 0.8


def _headers(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _VARYING_HEADERS}


def _sort_key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
