"""The JavaScript client and the mock server have the same conversations that the client had with the real Phoenix."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[2] / "golden"
HEARTBEATS = ("heartbeats",)
ATTEMPTS = {"js-phx1.7-auth_token": 3, "js-phx1.8-connect_refused_retries": 3, "js-phx1.7-connect_refused_retries": 3}
POLLED = ("longpoll", "longpoll_auth_token")


def names(*, polled: bool) -> list[str]:
    """List the recordings of one transport."""
    return sorted(path.stem for path in GOLDEN.glob("js-*.json") if (scenario(path.stem) in POLLED) == polled)


def scenario(name: str) -> str:
    return name.split("-", 2)[2]


def load(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_bytes())


class Conversation:
    """
    What of a record can be compared: no clock, no port, no key.

    Refs are numbered in the order of their appearance, since the client also counts its callbacks and heartbeats.
    """

    def __init__(self, frames: list[dict[str, Any]], *, heartbeats: bool) -> None:
        self._refs: dict[str, str] = {}
        self._heartbeats = heartbeats
        kept = (self._reduced(frame) for frame in frames)
        self.frames = [frame for frame in kept if frame is not None]

    def _reduced(self, frame: dict[str, Any]) -> list[Any] | None:
        head = [frame["conn"], frame["dir"], frame["opcode"]]
        match frame["opcode"]:
            case "connect":
                return [*head, frame["url"].split("/socket", 1)[1], frame["protocols"]]
            case "http":
                headers = dict(frame.get("headers", []))
                return [*head, frame["status"], frame.get("protocol", headers.get("sec-websocket-protocol"))]
            case "text":
                message = json.loads(re.sub(r'("phx_ref(_prev)?": ?")[^"]*', r"\1", frame["data"]))
                if message[2] == "phoenix" and not self._heartbeats:
                    return None
                return [*head, *map(self._ref, message[:2]), *message[2:]]
            case "binary":
                return [*head, *self._binary(base64.b64decode(frame["b64"]))]
            case "error":
                return [*head, frame["data"]]
            case "closed":
                return [*head, frame["code"]]
        return None

    def _ref(self, ref: str | None) -> str | None:
        return None if ref is None else self._refs.setdefault(ref, f"ref {len(self._refs)}")

    def _binary(self, frame: bytes) -> list[Any]:
        """Take a push or a reply of the V2 serializer apart: four lengths, then what they count."""
        kind, lengths, rest = frame[0], frame[1:5], frame[5:]
        parts = []
        for length in lengths:
            parts.append(rest[:length].decode())
            rest = rest[length:]
        return [kind, *map(self._ref, parts[:2]), *parts[2:], rest.hex()]


@pytest.mark.parametrize("name", names(polled=False))
def test_the_conversation_is_the_recorded_one(name: str, play: Any) -> None:
    """Every frame both ways, every handshake and every close, in the same order."""
    recorded = load(name)
    beats = scenario(name) in HEARTBEATS
    played = play(scenario(name), phoenix=recorded["phoenix"])["frames"]
    expected = Conversation(recorded["frames"], heartbeats=beats).frames
    came = Conversation(played, heartbeats=beats).frames
    if name in ATTEMPTS:  # it was tried for as long as it was recorded
        connections = {f"ws{i + 1}" for i in range(ATTEMPTS[name])}
        expected = [frame for frame in expected if frame[0] in connections]
        came = [frame for frame in came if frame[0] in connections]
    assert came in outcomes(name, expected)
    assert len(expected) >= 5


def outcomes(name: str, recorded: list[Any]) -> list[list[Any]]:
    """
    List what may come: the recording, and what a race can make of it.

    The client sends a leave and a join at once. Where the server reads both together, the leave gets no reply, and the close of
    the old channel follows the reply of the new one: tests/golden/phx1.8-v2-leave_pipelined_rejoin.json. The client pushes as soon
    as it has that reply, so the close can come behind the push.
    """
    if scenario(name) != "duplicate_topic_two_channels":
        return [recorded]
    start = next(i for i, frame in enumerate(recorded) if frame[5:7] == ["room:js", "phx_leave"]) + 2
    left, closed, joined = recorded[start : start + 3]
    assert (left[6], closed[6], joined[6]) == ("phx_reply", "phx_close", "phx_reply")
    before, (echo, *after) = recorded[:start], recorded[start + 3 :]
    return [recorded, [*before, joined, closed, echo, *after], [*before, joined, echo, closed, *after]]


@pytest.mark.parametrize("name", names(polled=True))
def test_the_polls_are_the_recorded_ones(name: str, play: Any) -> None:
    """Every session, message and window that long-poll saw; how the server spreads its messages over polls is its own affair."""
    recorded = load(name)
    played = play(scenario(name), phoenix=recorded["phoenix"])["requests"]
    answered = [frame for frame in recorded["frames"] if frame["dir"] == "recv"]
    asked = [frame for frame in recorded["frames"] if frame["dir"] == "send"]
    assert messages(request["answer"] for request in played if "answer" in request) == messages(frame["body"] for frame in answered)
    assert {request["status"] for request in played if "status" in request} == {frame["status"] for frame in answered} == {200}
    sent = [request["body"] for request in played if request["method"] == "POST"]
    assert sent == [frame["body"] for frame in asked if frame["method"] == "POST"]


def messages(bodies: Any) -> dict[str, Any]:
    """Return which statuses came, and all messages in their order."""
    answers = [json.loads(body) for body in bodies]
    return {
        "statuses": {answer["status"] for answer in answers},
        "first": (answers[0]["status"], answers[0]["messages"]),
        "messages": [json.loads(text) for answer in answers for text in answer.get("messages", [])],
    }
