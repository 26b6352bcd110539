"""The application of these tests: it writes down what it handles."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from ledger import GATE, gate, note

import rig

TOPICS = int(os.environ.get("LEDGER_TOPICS", "16"))


@contextlib.asynccontextmanager
async def lifespan(_: rig.App) -> AsyncIterator[None]:
    """Store a push at each end of a worker's life, if the test wants it."""
    if target := os.environ.get("LEDGER_GREETINGS"):
        note("hello", target, await rig.enqueue(target, "record", {"i": "hello"}))
    yield
    if target:
        note("bye", target, await rig.enqueue(target, "record", {"i": "bye"}))


app = rig.App("ledger", lifespan=lifespan)
app.join(*(f"room:{number}" for number in range(TOPICS)))
_background: list[asyncio.Task[str]] = []


class Tick(msgspec.Struct):
    """What the mock server's floods send."""

    i: int


class Person(msgspec.Struct):
    """A payload with types."""

    name: str
    age: int


class Question(msgspec.Struct):
    """What to push back on the same channel."""

    event: str
    payload: Any = {}
    timeout: float | None = None


class Jug(msgspec.Struct):
    """How many pushes to pour out, and how large each is."""

    pushes: int
    size: int


class Deposit(msgspec.Struct):
    """What to store, and where it goes."""

    i: Any
    topic: str | None = None
    event: str = "record"
    ttl: float | None = None
    pad: int = 0


@app.on("room:*", "tick")
async def tick(event: rig.Event[Tick]) -> None:
    """Handle at once."""
    note("tick", event.topic, event.payload.i)


@app.on("room:*", "slow")
async def slow(event: rig.Event[Tick]) -> None:
    """Handle in about a millisecond, so that many are in hand at any time."""
    await asyncio.sleep(0.001)
    note("slow", event.topic, event.payload.i)


@app.on("room:*", "gated")
@app.on("room:*", "gated_block", overflow="block")
@app.on("room:*", "gated_latest", overflow="latest")
@app.on("room:*", "gated_oldest", overflow="drop_oldest")
@app.on("room:*", "gated_newest", overflow="drop_newest")
async def gated(event: rig.Event[Tick]) -> None:
    """Wait until the test opens the gate; what happens to further events meanwhile is each event's own policy."""
    await gate()
    note(event.event, event.topic, event.payload.i)


@app.on("room:*", "gated_ask")
async def gated_ask(event: rig.Event) -> None:
    """Wait for the gate, and then for a reply, which comes behind all that the server has sent."""
    note("waiting", event.topic, None)
    await gate()
    note("answer", event.topic, await event.push("echo", {"n": 1}))


@app.on("room:*", "threaded")
def threaded(event: rig.Event) -> None:
    """Say where a plain function runs."""
    note("threaded", event.topic, threading.current_thread().name.split("_")[0])


@app.on("room:*", "person")
async def person(event: rig.Event[Person]) -> None:
    """Use the types."""
    note("person", event.topic, [event.payload.name.upper(), event.payload.age + 1])


@app.on("room:*", "ask", retries=0)
async def ask(event: rig.Event[Question]) -> None:
    """Push, and write down what comes of it."""
    question = event.payload
    note("asking", event.topic, question.payload)
    started = time.monotonic()
    try:
        reply = await event.push(question.event, question.payload, timeout=question.timeout)
    except rig.RigError as exc:
        note("failed", event.topic, [type(exc).__name__, time.monotonic() - started])
    else:
        note("answer", event.topic, reply)


@app.on("room:*", "tell")
async def tell(event: rig.Event[Tick]) -> None:
    """Push without waiting for a reply."""
    await event.push("broadcast", {"event": "told", "payload": {"i": event.payload.i}}, reply=False)
    note("tell", event.topic, event.payload.i)


@app.on("room:*", "pour", retries=0)
async def pour(event: rig.Event[Jug]) -> None:
    """Push much, and wait for no reply."""
    for number in range(event.payload.pushes):
        await event.push("poured", {"i": number, "pad": "x" * event.payload.size}, reply=False)
    note("poured", event.topic, event.payload.pushes)


@app.on("room:*", "gated_tell")
async def gated_tell(event: rig.Event) -> None:
    """Wait for the gate, and then push without waiting for a reply."""
    note("waiting", event.topic, None)
    await gate()
    await event.push("broadcast", {"event": "told", "payload": {}}, reply=False)
    note("told", event.topic, None)


@app.on("room:*", "block")
async def block(event: rig.Event) -> None:
    """Block the whole worker, as no handler should."""
    note("blocking", event.topic, os.getpid())
    time.sleep(event.payload["seconds"])  # noqa: ASYNC251
    note("blocked", event.topic, None)


@app.on("room:*", "hang")
async def hang(event: rig.Event) -> None:
    """Never come to an end."""
    note("hanging", event.topic, None)
    await asyncio.sleep(3600)


@app.on("room:*", "poison", retries=0)
async def poison(event: rig.Event) -> None:
    """Take the whole worker down."""
    note("poison", event.topic, None)
    os.kill(os.getpid(), signal.SIGKILL)


@app.on("room:*", "leave_process", retries=0)
async def leave_process(event: rig.Event) -> None:
    """End the process the polite way, which is no better."""
    note("leaving", event.topic, None)
    raise SystemExit(0)


@app.on("room:*", "deposit", retries=0)
async def deposit(event: rig.Event[Deposit]) -> None:
    """Store a push, and write down what comes of it."""
    wish = event.payload
    try:
        key = await rig.enqueue(wish.topic or event.topic, wish.event, {"i": wish.i, "pad": "x" * wish.pad}, ttl=wish.ttl)
    except rig.RigError as exc:
        note("refused", event.topic, [type(exc).__name__, wish.i])
    else:
        note("stored", event.topic, [wish.i, key])


@app.on("room:*", "flooded_deposit", retries=0)
async def flooded_deposit(event: rig.Event[Tick]) -> None:
    """Store a push for each event of a flood."""
    key = await event.push("record", {"i": event.payload.i}, durable=True)
    note("stored", event.topic, [event.payload.i, key])


@app.on("room:*", "keyed_deposit", retries=0)
async def keyed_deposit(event: rig.Event[Tick]) -> None:
    """Store a push whose key is made of the event, so that an event handled twice stores one."""
    key = await event.push("record", {"i": event.payload.i}, durable=True, key=f"{event.topic}/{event.payload.i}")
    note("stored", event.topic, [event.payload.i, key])


@app.on("room:*", "other_ways", retries=0)
def other_ways(event: rig.Event) -> None:
    """Store from a plain function, which runs in a thread."""
    note("stored", event.topic, ["thread", asyncio.run(rig.enqueue(event.topic, "record", {"i": "thread"}))])


@app.on("room:*", "later", retries=0)
async def later(event: rig.Event) -> None:
    """Store in a task that outlives the handler, and is not waited for."""
    _background.append(asyncio.create_task(rig.enqueue(event.topic, "record", {"i": "later"})))


@app.on("room:*", "broken", retries=0)
async def broken(event: rig.Event[Tick]) -> None:
    """Fail until the test opens the gate."""
    if not GATE.exists():
        raise ValueError(f"event {event.payload.i} cannot be handled")
    note("mended", event.topic, event.payload.i)
