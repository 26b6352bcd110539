"""A worker's end of the storage ring."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from rig.errors import LocalProtocolError, OutboxFull, StoreFailed
from rig.records import EnqueueRequest, Kind, Outcome, PushResult, decode_enqueues
from rig.ring import Consumer, Doorbell, Record, RingMemory
from rig.worker import storage as module
from rig.worker.storage import Storage
from tests.running import until

CAPACITY = 64 * 1024


class Line:
    """A storage ring, and the io process's end of it."""

    def __init__(self) -> None:
        self.memory, self.bell = RingMemory.create(CAPACITY), Doorbell.create()
        self.consumer = Consumer(self.memory)

    def close(self) -> None:
        self.memory.close()
        self.bell.close()

    def storage(self, *, field: str = "idempotency_key", ttl: float = 0.0) -> Storage:
        """Start a worker's end; it must be made on the loop."""
        storage = Storage(self.memory, self.bell, field=field, ttl=ttl)
        storage.start()
        return storage

    def records(self) -> list[Record]:
        found = self.consumer.poll(1_000)
        if found:
            self.consumer.commit(found[-1])
        return found

    def requests(self) -> list[EnqueueRequest]:
        return [request for record in self.records() for request in decode_enqueues(record.payload)]


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


def enqueue(storage: Storage, payload: Any = None, *, key: str | None = None, ttl: float | None = None) -> "asyncio.Task[str]":
    call = storage.enqueue("room:1", "seen", {} if payload is None else payload, key=key, ttl=ttl)
    return asyncio.create_task(call)


async def flushed() -> None:
    """Let the tasks start, and what they add be put into the ring."""
    for _ in range(3):
        await asyncio.sleep(0)


def stored(request: EnqueueRequest) -> PushResult:
    return PushResult(request.id, Outcome.STORED, "", b"", True)


def test_it_returns_the_key_once_the_push_is_stored(line: Line, run: Callable[..., None]) -> None:
    """Not before: in between it could be lost."""

    async def main() -> None:
        storage = line.storage()
        task = enqueue(storage, {"id": 7})
        await flushed()
        [request] = line.requests()
        await asyncio.sleep(0.01)
        assert not task.done()
        storage.resolve(stored(request))
        assert await task == request.key
        assert msgspec.json.decode(request.payload) == {"idempotency_key": request.key, "id": 7}
        assert (request.topic, request.event, request.binary, request.expires_at) == ("room:1", "seen", False, None)

    run(main)


def test_pushes_of_one_turn_travel_as_one_record(line: Line, run: Callable[..., None]) -> None:
    """Those of many handlers share it, and a commit; each gets its own answer."""

    async def main() -> None:
        storage = line.storage()
        tasks = [enqueue(storage, {"id": number}) for number in range(20)]
        await flushed()
        [record] = line.records()
        assert (record.kind, record.count) == (Kind.ENQUEUE, 20)
        requests = decode_enqueues(record.payload)
        for request in reversed(requests):
            storage.resolve(stored(request))
        assert await asyncio.gather(*tasks) == [request.key for request in requests]
        assert len({request.key for request in requests}) == 20

    run(main)


def test_structs_dataclasses_and_own_keys(line: Line, run: Callable[..., None]) -> None:
    """Whatever makes a JSON object; a key that is given is used as it is."""

    @dataclass
    class Order:
        id: int

    async def main() -> None:
        storage = line.storage(field="key")
        tasks = [enqueue(storage, Order(3), key="order/3"), enqueue(storage, msgspec.Raw(b' {"a" : 1}'), key="ä")]
        await flushed()
        first, second = line.requests()
        assert (first.key, first.payload) == ("order/3", b'{"key":"order/3","id":3}')
        assert (second.key, msgspec.json.decode(second.payload)) == ("ä", {"key": "ä", "a": 1})
        for request in (first, second):
            storage.resolve(stored(request))
        assert await asyncio.gather(*tasks) == ["order/3", "ä"]

    run(main)


def test_without_a_field_anything_is_stored_as_it_is(line: Line, run: Callable[..., None]) -> None:
    """Lists, bytes, and objects without a key in them."""

    async def main() -> None:
        storage = line.storage(field="")
        tasks = [enqueue(storage, payload) for payload in ([1], b"\x00\xff", {"idempotency_key": 1})]
        await flushed()
        requests = line.requests()
        assert [(request.payload, request.binary) for request in requests] == [
            (b"[1]", False),
            (b"\x00\xff", True),
            (b'{"idempotency_key":1}', False),
        ]
        for request in requests:
            storage.resolve(stored(request))
        await asyncio.gather(*tasks)

    run(main)


@pytest.mark.parametrize(
    ("payload", "options", "says"),
    [
        ([1], {}, "no JSON object"),
        ("text", {}, "no JSON object"),
        (b"bytes", {}, "binary payload cannot carry"),
        ({"idempotency_key": "mine"}, {}, "of its own"),
        (object(), {}, "cannot be written as JSON"),
        ({1: float}, {}, "cannot be written as JSON"),
        ({"a": "x" * CAPACITY}, {}, "too large to be stored: the limit is 8"),
        ({}, {"key": ""}, "write a text of 1 to 255"),
        ({}, {"key": "x" * 256}, "write a text of 1 to 255"),
        ({}, {"key": 5}, "write a text of 1 to 255"),
        ({}, {"key": "\udcff"}, "write a text of 1 to 255"),
        ({}, {"ttl": 0}, "more than 0"),
        ({}, {"ttl": -1}, "more than 0"),
        ({}, {"ttl": float("nan")}, "more than 0"),
        ({}, {"ttl": float("inf")}, "more than 0"),
        ({}, {"ttl": "soon"}, "more than 0"),
    ],
)
def test_what_cannot_be_stored_is_refused_where_it_was_asked_for(
    line: Line, run: Callable[..., None], payload: Any, options: dict[str, Any], says: str
) -> None:
    """With a sentence that says what to do, and nothing in the ring: the pushes of others are not spoiled."""

    async def main() -> None:
        storage = line.storage()
        with pytest.raises(LocalProtocolError, match=says):
            await storage.enqueue("room:1", "seen", payload, **{"key": None, "ttl": None, **options})
        await flushed()
        assert line.records() == []

    run(main)


@pytest.mark.parametrize(("topic", "event"), [(None, "e"), ("t", 5), ("\udcff", "e")])
def test_topic_and_event_are_text(line: Line, run: Callable[..., None], topic: Any, event: Any) -> None:
    """As with any push."""

    async def main() -> None:
        storage = line.storage()
        with pytest.raises(LocalProtocolError, match="must be text"):
            await storage.enqueue(topic, event, {}, key=None, ttl=None)

    run(main)


def test_the_time_to_live_is_that_of_the_push_or_of_the_settings(
    line: Line, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In unix seconds, so that it holds over a restart."""
    monkeypatch.setattr("rig.durable.time.time", lambda: 1_000.0)

    async def main() -> None:
        storage = line.storage(ttl=60)
        tasks = [enqueue(storage), enqueue(storage, ttl=5)]
        await flushed()
        requests = line.requests()
        assert [request.expires_at for request in requests] == [1_060.0, 1_005.0]
        for request in requests:
            storage.resolve(stored(request))
        await asyncio.gather(*tasks)

    run(main)


def test_a_store_that_fails_is_told_to_the_caller(line: Line, run: Callable[..., None]) -> None:
    """As the io process had it; the next push is tried as any."""

    async def main() -> None:
        storage = line.storage()
        tasks = [enqueue(storage), enqueue(storage), enqueue(storage)]
        await flushed()
        full, failed, fine = line.requests()
        storage.resolve(PushResult(full.id, Outcome.OUTBOX_FULL, "", b'["/state/rig.db",1000]', False))
        storage.resolve(PushResult(failed.id, Outcome.STORE_FAILED, "", b'["/state/rig.db","disk is full","free some"]', False))
        storage.resolve(stored(fine))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[0], OutboxFull)
        assert (outcomes[0].path, outcomes[0].limit_bytes) == ("/state/rig.db", 1000)
        assert type(outcomes[1]) is StoreFailed
        assert str(outcomes[1]) == "/state/rig.db failed (disk is full): free some"
        assert outcomes[2] == fine.key

    run(main)


def test_a_result_that_nobody_waits_for_is_passed_over(line: Line, run: Callable[..., None]) -> None:
    """It belongs to a predecessor, came twice, or its handler was cancelled."""

    async def main() -> None:
        storage = line.storage()
        storage.resolve(PushResult(1, Outcome.STORED, "", b"", True))
        task, cancelled = enqueue(storage), enqueue(storage)
        await flushed()
        request, gone = line.requests()
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        for _ in range(2):
            storage.resolve(stored(request))
            storage.resolve(stored(gone))
        assert await task == request.key
        await storage.wait_settled()

    run(main)


def test_settled_is_when_every_push_is_stored(line: Line, run: Callable[..., None]) -> None:
    """So that a worker does not end before."""

    async def main() -> None:
        storage = line.storage()
        await storage.wait_settled()
        task = enqueue(storage)
        await flushed()
        settled = asyncio.create_task(storage.wait_settled())
        await flushed()
        assert not settled.done()
        storage.resolve(stored(line.requests()[0]))
        await settled
        await task

    run(main)


def test_a_full_ring_makes_pushes_wait_and_then_refuses_them(
    line: Line, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the io process takes nothing for long; a push that comes then is refused at once, and all is well when it takes again."""
    monkeypatch.setattr(module, "_PATIENCE", 0.05)

    async def main() -> None:
        storage = line.storage()
        tasks = []
        while line.memory.used_bytes < CAPACITY - 3_000:
            tasks.append(enqueue(storage, {"pad": "x" * 2_000}))
            await flushed()
        waiting = [enqueue(storage, {"pad": "x" * 4_000}) for _ in range(3)]
        for task in waiting:
            with pytest.raises(StoreFailed, match="taken nothing"):
                await task
        refused = enqueue(storage, {"pad": "x" * 4_000})
        await flushed()
        assert refused.done()
        with pytest.raises(StoreFailed, match="taken nothing"):
            await refused
        requests = line.requests()
        assert len(requests) == len(tasks), "what was refused never was in the ring"
        late = enqueue(storage, {"pad": "x" * 4_000})
        await until(lambda: requests.extend(line.requests()) or len(requests) > len(tasks))
        for request in requests:
            storage.resolve(stored(request))
        await asyncio.gather(*tasks, late)

    run(main)


def test_letters_go_at_once_or_not_at_all(line: Line, run: Callable[..., None]) -> None:
    """The caller is told whether there was room."""

    async def main() -> None:
        storage = line.storage()
        line.bell.clear()
        count = 0
        while storage.put(b"x" * 8_000, 1):
            count += 1
        assert 7 <= count <= 8
        records = line.records()
        assert {record.kind for record in records} == {Kind.DEAD_LETTERS}
        assert len(records) == count
        assert line.bell.clear() == count
        assert storage.put(b"x", 1)

    run(main)


def test_what_a_predecessor_left_is_announced(line: Line, run: Callable[..., None]) -> None:
    """It may have died between the ring and its doorbell."""

    async def main() -> None:
        line.storage()
        assert line.bell.clear() == 1

    run(main)
