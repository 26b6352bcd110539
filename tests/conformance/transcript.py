"""The golden transcripts as data: what to send, and what has to be compared with what came."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from tests.conformance.raw_client import OPCODES, Received, client_frame

GOLDEN = Path(__file__).parents[1] / "golden"

# Jason keeps the first of two equal keys, msgspec the last.
DUPLICATE_KEYS = json.loads('["1","14","room:lobby","phx_reply",{"response":{"a":1},"status":"ok"}]')
DUPLICATE_KEYS_V1 = json.loads('{"event":"phx_reply","payload":{"response":{"a":1},"status":"ok"},"ref":"14","topic":"room:lobby"}')

_DURATION = re.compile(r"in \d+ us")
_PHX_REF = re.compile(r'("phx_ref(_prev)?": ?")[^"]*')

Frame = dict[str, Any]


def names(pattern: str) -> list[str]:
    """Return the names of the transcripts that fit a pattern."""
    return sorted(path.stem for path in GOLDEN.glob(f"{pattern}.json"))


def load(name: str) -> dict[str, Any]:
    """Read one transcript."""
    transcript: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return transcript


def sent_bytes(frame: Frame) -> bytes:
    """Return the bytes of a recorded WebSocket frame; what was too long to record is made again."""
    opcode = OPCODES.get(frame["opcode"])
    if opcode is None:
        opcode = int(frame["opcode"])
    options = {key: frame[key] for key in ("fin", "rsv", "masked") if key in frame}
    return client_frame(opcode, _sent_payload(frame), **options)


def _sent_payload(frame: Frame) -> bytes:
    if frame["opcode"] == "close":
        if "1-byte" in frame["conn"]:
            return b"\x03"
        return b"" if frame["code"] is None else frame["code"].to_bytes(2, "big") + frame["reason"].encode()
    if "elide" in frame:
        return _long_payload(frame)
    return frame["data"].encode() if "data" in frame else base64.b64decode(frame["b64"])


def _long_payload(frame: Frame) -> bytes:
    """Return a heartbeat with a pad, or a part of one of 90,043 bytes."""
    whole = frame["bytes"] if "heartbeat" in frame["elide"] else 90_043
    empty = b'[null,"1","phoenix","heartbeat",{"pad":""}]'
    heartbeat = empty[:-3] + b"x" * (whole - len(empty)) + empty[-3:]
    start = {"first": 0, "next": 40_000, "the r": 80_000}.get(frame["elide"][:5].strip(), 0)
    return heartbeat[start : start + frame["bytes"]]


def anonymous(value: Any) -> Any:
    """Replace what differs from run to run: phx_ref values."""
    return json.loads(_PHX_REF.sub(r"\1", json.dumps(value)))


def recorded_message(text: str) -> Any:
    """Return a recorded message, as the mock server may send it."""
    message = json.loads(text)
    if message == DUPLICATE_KEYS:
        message[4]["response"]["a"] = 2
    elif message == DUPLICATE_KEYS_V1:
        message["payload"]["response"]["a"] = 2
    return anonymous(message)


def recorded_frame(frame: Frame) -> Any:
    """Return what a recorded frame of the server has to be compared with."""
    opcode = frame["opcode"]
    if opcode == "close":
        return ["close", frame["code"]]
    if opcode in ("tcp_eof", "tcp_reset"):
        return ["eof"]
    if "b64" in frame:
        return [opcode, frame.get("rsv", 0), frame["b64"]]
    return [opcode, recorded_message(frame["data"])]


def received_frame(frame: Received) -> Any:
    """Return the same of what came."""
    if frame.opcode == "close":
        assert len(frame.payload) == 2, "Phoenix never gives a reason"
        return ["close", frame.code]
    if frame.opcode == "eof":
        return ["eof"]
    if frame.opcode != "text" or frame.rsv:
        return [frame.opcode, frame.rsv, base64.b64encode(frame.payload).decode()]
    return ["text", anonymous(frame.json)]


def comparable_body(text: str, tokens: dict[str, str]) -> Any:
    """Return an HTTP body with its messages read, and recorded session tokens in the place of the new ones."""
    try:
        body = json.loads(text)
    except ValueError:
        return _DURATION.sub("in N us", text)
    if "token" in body:
        body["token"] = tokens.get(body["token"], body["token"])
    body["messages"] = [recorded_message(message) for message in body.get("messages", [])]
    return body
