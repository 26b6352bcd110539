"""The mock server answers every recorded transcript as the real Phoenix did."""

import asyncio
import base64
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mock_server import MockServer

GOLDEN = Path(__file__).parents[1] / "golden"

NOT_REPLAYED = {
    "longpoll_": "long-poll is not built yet",
    "origin_check": "the allow-list of origins is not built yet",
    "server_sigterm": "needs long-poll; test_program.py shows the close codes of SIGTERM",
    "server_sigkill": "needs long-poll, and a killed process says nothing that a server could get wrong",
    "slow_reader": "floods here wait for the reader; test_server.py shows how a stalled reader is cut",
}

# Two processes of the real server send these, so their order varies from recording to recording.
UNORDERED = {"presence", "join_duplicate_pipelined", "leave_pipelined_rejoin"}

# Jason keeps the first of two equal keys, msgspec the last.
DUPLICATE_KEYS = json.loads('["1","14","room:lobby","phx_reply",{"response":{"a":1},"status":"ok"}]')
DUPLICATE_KEYS_V1 = json.loads('{"event":"phx_reply","payload":{"response":{"a":1},"status":"ok"},"ref":"14","topic":"room:lobby"}')

HEADERS = ("sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions")
TIME_SCALES = {"heartbeat_timeout_ws_ping_only": 0.15, "heartbeat_timeout": 0.07, "push_late_replies_reordered": 0.1}
TIME_SCALE = 0.02
PAUSE_MS = 50


def transcripts(*, races: bool) -> list[Any]:
    """Return the recordings to replay."""
    names = sorted(path.stem for path in GOLDEN.glob("phx1.[78]-v*.json"))
    chosen = [name for name in names if ("-race_" in name) == races and not any(part in name for part in NOT_REPLAYED)]
    return [pytest.param(name, id=name) for name in chosen]


def load(name: str) -> dict[str, Any]:
    transcript: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return transcript


def sent_bytes(frame: dict[str, Any], frame_bytes: Any) -> bytes:
    """Return the bytes of a recorded send; what was too long to record is made again."""
    opcode = {"continuation": 0, "text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}.get(frame["opcode"])
    if opcode is None:
        opcode = int(frame["opcode"])
    options = {key: frame[key] for key in ("fin", "rsv", "masked") if key in frame}
    return frame_bytes(opcode, sent_payload(frame), **options)


def sent_payload(frame: dict[str, Any]) -> bytes:
    if frame["opcode"] == "close":
        if "1-byte" in frame["conn"]:
            return b"\x03"
        return b"" if frame["code"] is None else frame["code"].to_bytes(2, "big") + frame["reason"].encode()
    if "elide" in frame:
        return long_payload(frame)
    return frame["data"].encode() if "data" in frame else base64.b64decode(frame["b64"])


def long_payload(frame: dict[str, Any]) -> bytes:
    """Return a heartbeat with a pad, or a part of one of 90,043 bytes."""
    whole = frame["bytes"] if "heartbeat" in frame["elide"] else 90_043
    empty = b'[null,"1","phoenix","heartbeat",{"pad":""}]'
    heartbeat = empty[:-3] + b"x" * (whole - len(empty)) + empty[-3:]
    start = {"first": 0, "next": 40_000, "the r": 80_000}.get(frame["elide"][:5].strip(), 0)
    return heartbeat[start : start + frame["bytes"]]


def sort_key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def anonymous(value: Any) -> Any:
    """Replace what differs from run to run: phx_ref values."""
    return json.loads(re.sub(r'("phx_ref(_prev)?": ?")[^"]*', r"\1", json.dumps(value)))


def as_received(frame: dict[str, Any]) -> Any:
    """Return what a recorded frame has to be compared with."""
    opcode = frame["opcode"]
    if opcode == "close":
        return ["close", frame["code"]]
    if opcode in ("tcp_eof", "tcp_reset"):
        return ["eof"]
    if "b64" in frame:
        return [opcode, frame.get("rsv", 0), frame["b64"]]
    message = json.loads(frame["data"])
    if message == DUPLICATE_KEYS:
        message[4]["response"]["a"] = 2
    elif message == DUPLICATE_KEYS_V1:
        message["payload"]["response"]["a"] = 2
    return [opcode, anonymous(message)]


def as_recorded(frame: Any) -> Any:
    """Return the same of what came."""
    if frame.opcode == "close":
        assert len(frame.payload) == 2, "Phoenix never gives a reason"
        return ["close", frame.code]
    if frame.opcode == "eof":
        return ["eof"]
    if frame.opcode != "text" or frame.rsv:
        return [frame.opcode, frame.rsv, base64.b64encode(frame.payload).decode()]
    return ["text", anonymous(frame.json)]


class Replay:
    """Plays the client's part of one transcript and compares the server's."""

    def __init__(self, transcript: dict[str, Any], server: MockServer, *, dial: Any, frame_bytes: Any, time_scale: float) -> None:
        self.scenario = transcript["scenario"]
        self.frames = transcript["frames"]
        self.server, self.dial, self.frame_bytes = server, dial, frame_bytes
        self.time_scale = time_scale
        self.clients: dict[str, Any] = {}
        self.last_ms = 0

    async def run(self) -> None:
        """Play run after run of frames with one direction, one connection and no pause between."""
        groups: list[list[dict[str, Any]]] = []
        for frame in self.frames:
            last = groups[-1][-1] if groups else None
            together = last is not None and last["dir"] == frame["dir"] and last["conn"] == frame["conn"]
            pause = last is not None and frame.get("t_ms", 0) - last.get("t_ms", 0) > 5 and frame["dir"] == "send"
            if together and not pause and "http" not in (frame["opcode"], last["opcode"]):
                groups[-1].append(frame)
            else:
                groups.append([frame])
        for group in self.merged(groups):
            await self.play(group)

    def merged(self, groups: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        """Where order does not count, join what one connection receives before anything is sent again."""
        if self.scenario not in UNORDERED:
            return groups
        merged: list[list[dict[str, Any]]] = []
        for sends, stretch in itertools.groupby(
            groups, key=lambda group: group[0]["dir"] == "send" or group[0]["opcode"] == "http"
        ):
            if sends:
                merged += stretch
                continue
            by_connection: dict[str, list[dict[str, Any]]] = {}
            for group in stretch:
                by_connection.setdefault(group[0]["conn"], []).extend(group)
            merged += by_connection.values()
        return merged

    async def play(self, group: list[dict[str, Any]]) -> None:
        first = group[0]
        if first["dir"] == "recv":
            await self.compare(group)
        else:
            gap = first.get("t_ms", 0) - self.last_ms
            if gap > PAUSE_MS:
                await asyncio.sleep(gap / 1000 * self.time_scale)
            await self.send(group)
        self.last_ms = group[-1].get("t_ms", 0)

    async def send(self, group: list[dict[str, Any]]) -> None:
        first = group[0]
        name = first["conn"]
        if first["opcode"] == "http":
            self.clients[name] = await self.dial(self.server.port, None)
            await self.clients[name].request(first["target"], first["headers"], method=first["method"])
        elif first["opcode"] == "tcp_drop":
            self.clients[name].close()
        else:
            data = b"".join(sent_bytes(frame, self.frame_bytes) for frame in group)
            await self.clients[name].write(data)

    async def compare(self, group: list[dict[str, Any]]) -> None:
        client = self.clients[group[0]["conn"]]
        if group[0]["opcode"] == "http":
            self.compare_http(client, group[0])
            return
        came = [as_recorded(await client.receive()) for _ in group]
        expected = [as_received(frame) for frame in group]
        if self.scenario in UNORDERED:
            came.sort(key=sort_key)
            expected.sort(key=sort_key)
        assert came == expected

    def compare_http(self, client: Any, recorded: dict[str, Any]) -> None:
        headers = dict(recorded["headers"])
        assert client.status == recorded["status"]
        for name in HEADERS:
            assert client.headers.get(name) == headers.get(name), name
        assert client.body.decode() == recorded["body"]


def server_like(transcript: dict[str, Any], time_scale: float) -> MockServer:
    return MockServer(phoenix=transcript["phoenix"], time_scale=time_scale)


@pytest.mark.parametrize("name", transcripts(races=False))
def test_transcript_is_answered_as_recorded(name: str, run: Any, dial: Any, frame_bytes: Any) -> None:
    """Every frame, close code and HTTP answer is the recorded one, and nothing else comes."""
    transcript = load(name)
    time_scale = TIME_SCALES.get(transcript["scenario"], TIME_SCALE)

    async def main() -> None:
        async with server_like(transcript, time_scale) as server:
            await Replay(transcript, server, dial=dial, frame_bytes=frame_bytes, time_scale=time_scale).run()

    run(main())


@pytest.mark.parametrize("gapped", [False, True], ids=["together", "gapped"])
@pytest.mark.parametrize("name", transcripts(races=True))
def test_race_ends_in_a_recorded_variant(name: str, gapped: bool, run: Any, dial: Any, frame_bytes: Any) -> None:
    """What a race leads to is something that the real server was seen to do with the same timing."""
    transcript = load(name)
    join, _, *sends = transcript["frames"]
    variants = [variant["recv"] for variant in transcript["variants_gapped" if gapped else "variants"]]

    async def main() -> None:
        async with server_like(transcript, 1.0) as server:
            client = await dial(server.port)
            await client.write(sent_bytes(join, frame_bytes))
            await client.receive()
            frames = [sent_bytes(frame, frame_bytes) for frame in sends]
            for data in frames if gapped else [b"".join(frames)]:
                await client.write(data)
                await asyncio.sleep(0.002)
            came = [frame.json for frame in await client.receive_until_silent(0.05)]
        assert came in [[json.loads(text) for text in variant] for variant in variants]

    run(main())


def test_every_transcript_is_replayed_or_excused() -> None:
    """A recording that is neither replayed nor listed with a reason would go unnoticed."""
    names = {path.stem for path in GOLDEN.glob("phx1.[78]-v*.json")}
    replayed = {param.values[0] for races in (False, True) for param in transcripts(races=races)}
    excused = {name for name in names if any(part in name for part in NOT_REPLAYED)}
    assert names == replayed | excused
    assert len(replayed) > 150
