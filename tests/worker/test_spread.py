"""Pushes of a worker that has several io processes."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rig.counters import WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.errors import ConnectionLost, LocalProtocolError
from rig.records import (
    EnqueueRequest,
    Kind,
    Outcome,
    PushRequest,
    PushResult,
    decode_enqueues,
    decode_requests,
    encode_reset,
    encode_results,
)
from rig.ring import Consumer, Doorbell, Producer, RingMemory
from rig.routing import rendezvous
from rig.worker.context import WorkerContext
from rig.worker.spread import SpreadContext
from rig.worker.storage import Storage

SOCKETS = 3
OWNED = {rendezvous(topic, SOCKETS): topic for topic in map("room:{}".format, range(30))}
"""For each io process one topic that is its own."""


class Lines:
    """The rings for pushes, replies and storage to each of three io processes, and their ends of them."""

    def __init__(self) -> None:
        self.pushes, self.replies, self.storage = ([RingMemory.create(64 * 1024) for _ in range(SOCKETS)] for _ in range(3))
        self.bells = [(Doorbell.create(), Doorbell.create()) for _ in range(SOCKETS)]
        self.storage_bells = [Doorbell.create() for _ in range(SOCKETS)]
        self.page = Page.create(WORKER_COUNTERS, WORKER_HISTOGRAMS)

    def close(self) -> None:
        for memory in (*self.pushes, *self.replies, *self.storage):
            memory.close()
        for bell in (*(bell for pair in self.bells for bell in pair), *self.storage_bells):
            bell.close()
        self.page.close()

    def contexts(self) -> list[WorkerContext]:
        """Start a worker's contexts; they must be made on the loop."""
        storages = [Storage(memory, bell, field="", ttl=0) for memory, bell in zip(self.storage, self.storage_bells, strict=True)]
        contexts = [
            WorkerContext((pushes, pushes_bell), (replies, replies_bell), page=self.page, timeout=9, storage=storage)
            for pushes, replies, (pushes_bell, replies_bell), storage in zip(
                self.pushes, self.replies, self.bells, storages, strict=True
            )
        ]
        for context in contexts:
            context.start()
        return contexts

    def requests(self, socket: int) -> list[PushRequest]:
        """Return the pushes that an io process has got."""
        return [request for record in Consumer(self.pushes[socket]).poll(100) for request in decode_requests(record.payload)]

    def stored(self, socket: int) -> list[EnqueueRequest]:
        """Return what an io process is to store, and say that it has."""
        found = [request for record in Consumer(self.storage[socket]).poll(100) for request in decode_enqueues(record.payload)]
        results = [PushResult(request.id, Outcome.STORED, "", b"", True) for request in found]
        if results:
            Producer(self.replies[socket]).put(encode_results(results), kind=Kind.RESULTS, count=len(results))
            self.bells[socket][1].ring()
        return found

    def reset(self, socket: int) -> None:
        """Say, as the successor of an io process, that its predecessor had taken all that was pushed."""
        Producer(self.replies[socket]).put(encode_reset(Producer(self.pushes[socket]).tail), kind=Kind.RESET)
        self.bells[socket][1].ring()


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


def test_a_push_goes_to_the_io_process_that_owns_its_topic(lines: Lines, run: Callable[..., None]) -> None:
    """Whether the topic is joined or not: the owner knows, and refuses it if not. The order of a topic's pushes stays."""
    topics = [f"any:{number % 20}" for number in range(60)]

    async def main() -> None:
        contexts = lines.contexts()
        spread = SpreadContext(contexts)
        for number, topic in enumerate(topics):
            await spread.push(topic, "note", number, timeout=2, reply=False)
        for context in contexts:
            await context.wait_flushed()
            context.stop()

    run(main)
    for socket in range(SOCKETS):
        found = [(request.topic, int(request.payload)) for request in lines.requests(socket)]
        assert found == [(topic, number) for number, topic in enumerate(topics) if rendezvous(topic, SOCKETS) == socket]
        assert found, "each has a part"


def test_the_death_of_one_io_process_fails_its_own_pushes_only(lines: Lines, run: Callable[..., None]) -> None:
    """Those that went to others are still awaited."""

    async def main() -> None:
        contexts = lines.contexts()
        spread = SpreadContext(contexts)
        tasks = {
            socket: asyncio.create_task(spread.push(topic, "ask", {}, timeout=None, reply=True)) for socket, topic in OWNED.items()
        }
        await asyncio.sleep(0)
        for context in contexts:
            await context.wait_flushed()
        lines.reset(1)
        with pytest.raises(ConnectionLost, match="the io process was restarted"):
            await tasks.pop(1)
        assert not any(task.done() for task in tasks.values())
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for context in contexts:
            context.stop()

    run(main)


@pytest.mark.parametrize("topic", [None, 5, b"room:1", ["room:1"], "\udcff"])
def test_a_topic_that_is_no_text_is_refused_as_always(lines: Lines, run: Callable[..., None], topic: Any) -> None:
    """The handler gets the same sentence as where there is one io process."""

    async def main() -> None:
        contexts = lines.contexts()
        with pytest.raises(LocalProtocolError, match="must be text"):
            await SpreadContext(contexts).push(topic, "note", {}, timeout=None, reply=False)
        for context in contexts:
            context.stop()

    run(main)


def test_what_is_to_be_stored_goes_to_the_owner_of_its_topic(lines: Lines, run: Callable[..., None]) -> None:
    """The io process that sends it later is the one that stores it, so that nobody sends a topic's pushes beside it."""

    async def main() -> None:
        contexts = lines.contexts()
        spread = SpreadContext(contexts)
        waiting = [
            asyncio.create_task(spread.enqueue(topic, "e", {}, key=topic, ttl=None)) for topic in (*OWNED.values(), *OWNED.values())
        ]
        for _ in range(3):  # the tasks start, and what they add is flushed
            await asyncio.sleep(0)
        for socket, topic in OWNED.items():
            assert [request.topic for request in lines.stored(socket)] == [topic, topic]
            assert spread.storage_of(topic) is contexts[socket].storage
        assert await asyncio.gather(*waiting) == [*OWNED.values(), *OWNED.values()]
        for context in contexts:
            context.stop()

    run(main)


@pytest.mark.parametrize("topic", [None, 5, "\udcff"])
def test_what_is_no_topic_is_not_stored(lines: Lines, run: Callable[..., None], topic: Any) -> None:
    """It is refused as with one io process."""

    async def main() -> None:
        contexts = lines.contexts()
        with pytest.raises(LocalProtocolError, match="must be text"):
            await SpreadContext(contexts).enqueue(topic, "e", {}, key=None, ttl=None)
        for context in contexts:
            context.stop()

    run(main)
