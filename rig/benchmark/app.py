"""
The application that is measured: a typed async handler that checks each event's place and counts it.

It posts its count with every 256th event of a topic, so a flood that ends at a multiple of that is timed to its last event.
At its end a worker writes its account, which is exact.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

import rig
from rig.benchmark.board import DIRECTORY_VARIABLE, Board
from rig.benchmark.tally import Tally

TOPICS = tuple(f"room:bench-{number}" for number in range(64))
POSTED_EVERY = 256
"""Events of one topic between two posts; a power of two."""
_MASK = POSTED_EVERY - 1


class Tick(msgspec.Struct):
    """One event: its number in its topic, when it was meant to be sent (ns, monotonic), and padding."""

    i: int
    t: int
    pad: str


_tally = Tally(TOPICS)
_next = _tally.next
_latency_ns: list[int] = []
_board: Board


@asynccontextmanager
async def _lifespan(app: rig.App) -> AsyncIterator[None]:
    global _board  # noqa: PLW0603 - a handler has no other way to its worker's state
    _board = Board.create(os.environ)
    yield
    account = _tally.account()
    account.latency_ns = _latency_ns
    path = Path(os.environ[DIRECTORY_VARIABLE]) / f"account-{os.getpid()}"
    path.write_bytes(msgspec.json.encode(account))
    _board.close()


app = rig.App("benchmark", lifespan=_lifespan)
app.join(*TOPICS)


@app.on("room:*", "flood")
async def flood(event: rig.Event[Tick]) -> None:
    """Count an event of a throughput run."""
    topic, number = event.topic, event.payload.i
    if number == _next[topic]:
        _next[topic] = number + 1
    else:
        _tally.note_unexpected(topic, number)
    if number & _MASK == _MASK:
        _board.post(_tally.handled)


@app.on("room:*", "pace")
async def pace(event: rig.Event[Tick]) -> None:
    """Time an event of a latency run."""
    _latency_ns.append(time.monotonic_ns() - event.payload.t)
    _tally.note(event.topic, event.payload.i)
    _board.post(len(_latency_ns))
