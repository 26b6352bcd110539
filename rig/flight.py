"""
The flight recorder: the latest frames and what happened to the connection, to be read when it was lost.

What must stay true: no payload is ever written down, only envelopes and sizes, and these masked; what is kept is bounded in frames
and in bytes; recording costs a few steps a batch, because frames are taken as they are and read only when somebody wants to see
them; whatever goes wrong with a file harms nothing else.
"""

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from rig.errors import RemoteProtocolError
from rig.log import mask
from rig.phoenix import events
from rig.phoenix.message import REPLY, AnyMessage, BinaryFrame, BinaryMessage
from rig.phoenix.serializer import SERIALIZERS, decode_binary, decode_reply
from rig.private import keep_newest

KEPT_BYTES = 1024 * 1024
"""Of all frames that are kept; one that is larger by itself is kept without its content."""
FILES_KEPT = 20
_BETWEEN_FILES = 30.0
"""Seconds between two files that nobody has asked for."""
_LONGEST_TEXT = 200
_CONTENTS = ("response", "payload", "sample", "messages", "frames", "push")
"""Fields of an event that hold what was in a payload."""
_NOT_NOTED = (events.HeartbeatReplied, events.MessagesDropped)
"""What a frame says already, or what a server can say in any number."""

log = structlog.get_logger()


class Flight:
    """
    What is recorded. Frames and happenings are kept apart, so that a flood of the first does not push out the second.

    Attributes:
        recording: False if it was told to keep nothing.
    """

    def __init__(self, frames: int, *, vsn: str = "2.0.0") -> None:
        """
        Keep nothing yet.

        Args:
            frames: How many frames, and how many happenings, are kept; 0 turns the recorder off.
            vsn: How text frames are to be read.
        """
        self.recording = frames > 0
        self._limit = frames
        self._decode = SERIALIZERS[vsn]().decode
        self._batches: deque[tuple[int, str, Sequence[bytes], int]] = deque()
        self._happenings: deque[tuple[int, events.Event | dict[str, Any]]] = deque(maxlen=frames)
        self._count = self._bytes = 0

    def received(self, frames: Sequence[bytes], *, binary: bool = False) -> None:
        """Keep the frames of one batch."""
        self._keep("binary in" if binary else "in", frames)

    def sent(self, frames: Sequence[bytes]) -> None:
        """Keep the frames of one turn; binary ones are `BinaryFrame`."""
        self._keep("out", frames)

    def note(self, event: events.Event | dict[str, Any]) -> None:
        """Keep a happening: an event of the core, or fields that say what it was."""
        if not isinstance(event, _NOT_NOTED):
            self._happenings.append((time.monotonic_ns(), event))

    def entries(self) -> list[dict[str, Any]]:
        """Return all that is kept, oldest first, as it may be shown: `at` is in unix seconds."""
        now, now_ns = time.time(), time.monotonic_ns()
        timed = [(at_ns, _shown(event)) for at_ns, event in self._happenings]
        for at_ns, direction, frames, _ in self._batches:
            timed += [(at_ns, self._envelope(direction, frame)) for frame in frames]
        timed.sort(key=lambda entry: entry[0])
        return [{"at": round(now - (now_ns - at_ns) / 1e9, 6), **entry} for at_ns, entry in timed[-2 * self._limit :]]

    def _keep(self, direction: str, frames: Sequence[bytes]) -> None:
        limit = self._limit
        if len(frames) > limit:
            frames = frames[-limit:]
        size = sum(map(len, frames))
        if size > KEPT_BYTES:
            frames, size = [_Dropped(len(frame)) for frame in frames], 0
        batches = self._batches
        batches.append((time.monotonic_ns(), direction, frames, size))
        self._count += len(frames)
        self._bytes += size
        while self._count - len(batches[0][2]) >= limit or self._bytes > KEPT_BYTES:
            _, _, gone, gone_size = batches.popleft()
            self._count -= len(gone)
            self._bytes -= gone_size

    def _envelope(self, direction: str, frame: bytes) -> dict[str, Any]:
        what: dict[str, Any] = {"what": f"frame {direction.removeprefix('binary ')}", "size": len(frame)}
        if isinstance(frame, _Dropped):
            return what | {"size": frame.size, "kept": False}
        try:
            if direction == "binary in":
                message: AnyMessage = decode_binary(frame)
            else:
                message = _read_push(frame) if isinstance(frame, BinaryFrame) else self._decode(frame)
            status = decode_reply(message)[0] if message.event == REPLY else None
        except RemoteProtocolError:
            return what | {"unreadable": True}
        binary = isinstance(message, BinaryMessage)
        fields = {
            "join_ref": message.join_ref,
            "ref": message.ref,
            "topic": message.topic,
            "event": message.event,
            "status": status,
        }
        told = {name: _masked(value) for name, value in fields.items() if value is not None}
        return what | told | {"payload_size": len(message.payload), "binary": binary}


class _Dropped(bytes):
    """Stands for a frame that is too large to be kept."""

    size: int

    def __new__(cls, size: int) -> "_Dropped":
        dropped = super().__new__(cls)
        dropped.size = size
        return dropped


class FlightLog:
    """Writes down what a `Flight` holds, one private file each time, of which the newest are kept."""

    def __init__(self, flight: Flight, folder: Path | None, *, process: str, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Write nothing yet.

        Args:
            flight: What is recorded.
            folder: Where files go; None if there is no place for them.
            process: For the names of the files: "io", "io-0".
            clock: Returns seconds.
        """
        self._flight, self._folder, self._process, self._clock = flight, folder, process, clock
        self._not_before = -math.inf
        self._writing: set[asyncio.Task[None]] = set()

    async def dump(self, why: str) -> Path:
        """
        Write down what there is, and return the file.

        Args:
            why: One word for its name.

        Raises:
            OSError: If it cannot be written, or the recorder is off.
        """
        if self._folder is None or not self._flight.recording:
            raise FileNotFoundError("the flight recorder is off: set --flight-frames above 0")
        about = {"version": 1, "process": self._process, "why": why, "entries": self._flight.entries()}
        return await asyncio.to_thread(_write, self._folder, f"{self._process}-{why}", about)

    def lost(self, event: events.SocketClosed) -> None:
        """Write it down if a connection ended that we wanted, unless that was done a moment ago; what fails is logged."""
        wanted = event.code is not None and event.delay is not None and event.cause != "requested"
        if not wanted or self._folder is None or not self._flight.recording or self._clock() < self._not_before:
            return
        self._not_before = self._clock() + _BETWEEN_FILES
        task = asyncio.get_running_loop().create_task(self._dump_quietly(str(event.cause)), name="flight")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        """Return when nothing is being written any more."""
        await asyncio.gather(*self._writing)

    async def _dump_quietly(self, why: str) -> None:
        try:
            path = await self.dump(why)
        except Exception as exc:  # it is there to explain a fault, and must not be one
            log.warning("the flight recorder could not write", reason=str(exc))
        else:
            log.info("flight recorder written", path=str(path))


def _write(folder: Path, name: str, about: dict[str, Any]) -> Path:
    text = json.dumps({"written_at": datetime.now(UTC).isoformat(), **about}, indent=1)
    return keep_newest(folder, f"{name}.json", text, count=FILES_KEPT)


def _read_push(frame: bytes) -> BinaryMessage:
    """Read what rig itself has written as `00 jl rl tl el | join_ref ref topic event data`."""
    fields, start = [], 5
    for length in frame[1:5]:
        fields.append(frame[start : start + length].decode(errors="replace"))
        start += length
    join_ref, ref, topic, event = fields
    return BinaryMessage(join_ref or None, ref or None, topic, event, frame[start:])


def _shown(event: events.Event | dict[str, Any]) -> dict[str, Any]:
    if isinstance(event, dict):
        return {name: _masked(value) for name, value in event.items()}
    fields = msgspec.structs.asdict(event)
    return {"what": type(event).__name__} | {name: _masked(value) for name, value in fields.items() if name not in _CONTENTS}


def _masked(value: Any) -> Any:
    return mask(value[:_LONGEST_TEXT]) if isinstance(value, str) else value
