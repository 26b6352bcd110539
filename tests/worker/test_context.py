"""What a handler reaches through its event: pushes out by one ring, replies in by another."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from rig.counters import WORKER_COUNTERS, WORKER_HISTOGRAMS, Page
from rig.errors import ConnectionLost, LocalProtocolError, PushRefused, PushTimeout, RemoteProtocolError
from rig.records import Kind, Outcome, PushRequest, PushResult, decode_requests, encode_requests, encode_reset, encode_results
from rig.ring import Consumer, Doorbell, Producer, Record, RingMemory
from rig.worker.context import WorkerContext
from rig.worker.storage import Storage

CAPACITY = 64 * 1024
TIMEOUT = 9.0


class Line:
    """Two rings with their doorbells, and the io process's ends of them."""

    def __init__(self) -> None:
        self.pushes, self.replies = RingMemory.create(CAPACITY), RingMemory.create(CAPACITY)
        self.pushes_bell, self.replies_bell = Doorbell.create(), Doorbell.create()
        self.storage, self.storage_bell = RingMemory.create(CAPACITY), Doorbell.create()
        self.page = Page.create(WORKER_COUNTERS, WORKER_HISTOGRAMS)
        self.consumer, self.producer = Consumer(self.pushes), Producer(self.replies)

    def close(self) -> None:
        for part in (self.pushes, self.replies, self.storage, self.pushes_bell, self.replies_bell, self.storage_bell, self.page):
            part.close()

    def context(self) -> WorkerContext:
        """Start a worker's context; it must be made on the loop."""
        storage = Storage(self.storage, self.storage_bell, field="idempotency_key", ttl=0.0)
        rings = (self.pushes, self.pushes_bell), (self.replies, self.replies_bell)
        context = WorkerContext(*rings, page=self.page, timeout=TIMEOUT, storage=storage)
        context.start()
        return context

    def records(self, *, commit: bool = True) -> list[Record]:
        """Take the records of pushes that are in the ring."""
        found = []
        while records := self.consumer.poll():
            found += records
        if found and commit:
            self.consumer.commit(found[-1])
        return found

    def requests(self) -> list[PushRequest]:
        """Take the pushes that are in the ring."""
        return [request for record in self.records() for request in decode_requests(record.payload)]

    def answer(self, *results: PushResult) -> None:
        self.producer.put(encode_results(results), kind=Kind.RESULTS, count=len(results))
        self.replies_bell.ring()

    def reset(self, position: int) -> None:
        self.producer.put(encode_reset(position), kind=Kind.RESET)
        self.replies_bell.ring()


def replied(request: PushRequest, response: Any = None, status: str = "ok") -> PushResult:
    return PushResult(request.id, Outcome.REPLIED, status, msgspec.json.encode(response), False)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


def push(context: WorkerContext, number: Any, *, reply: bool = True, timeout: float | None = None) -> "asyncio.Task[Any]":
    return asyncio.create_task(context.push("room:1", "ack", number, timeout=timeout, reply=reply))


def test_pushes_of_one_turn_travel_as_one_record(line: Line, run: Callable[..., None]) -> None:
    """However many handlers push in one turn of the loop, there is one record and one ring of the doorbell."""

    async def main() -> None:
        context = line.context()
        line.pushes_bell.clear()
        tasks = [push(context, number) for number in range(20)]
        await context.wait_flushed()
        await asyncio.sleep(0)
        await context.wait_flushed()
        (record,) = line.records()
        assert (record.kind, record.count, line.pushes_bell.clear()) == (Kind.PUSHES, 20, 1)
        requests = decode_requests(record.payload)
        assert [request.payload for request in requests] == [b"%d" % number for number in range(20)]
        line.answer(*(replied(request, request.id) for request in reversed(requests)))
        assert await asyncio.gather(*tasks) == [request.id for request in requests]
        context.stop()

    run(main)
    assert line.page.get("pushes") == 20


def test_request_says_everything_the_io_process_needs(line: Line, run: Callable[..., None]) -> None:
    """Topic, event, payload as JSON or bytes, the time limit of the push or of the settings, and whether a reply is wanted."""

    @dataclass
    class Payload:
        id: int

    async def main() -> None:
        context = line.context()
        await context.push("room:1", "a", Payload(1), timeout=2, reply=False)
        await context.push("room:1", "b", bytearray(b"\x00\xff"), timeout=None, reply=False)
        await context.push("room:1", "c", memoryview(b"{}"), timeout=0, reply=False)
        await context.wait_flushed()
        context.stop()

    run(main)
    found = [(r.topic, r.event, r.payload, r.binary, r.timeout, r.reply) for r in line.requests()]
    assert found == [
        ("room:1", "a", b'{"id":1}', False, 2.0, False),
        ("room:1", "b", b"\x00\xff", True, TIMEOUT, False),
        ("room:1", "c", b"{}", True, 0.0, False),
    ]


@pytest.mark.parametrize(
    ("outcome", "text", "response", "binary", "expected"),
    [
        (Outcome.REPLIED, "ok", b'{"a":1}', False, {"a": 1}),
        (Outcome.REPLIED, "ok", b"\x00\xff", True, b"\x00\xff"),
        (Outcome.REPLIED, "error", b'{"reason":"no"}', False, PushRefused("room:1", "ack", "error", {"reason": "no"})),
        (Outcome.REPLIED, "odd", b"\x00", True, PushRefused("room:1", "ack", "odd", b"\x00")),
        (Outcome.REPLIED, "ok", b"{", False, RemoteProtocolError("")),
        (Outcome.REPLIED, "ok", b"[1", False, RemoteProtocolError("")),
        (Outcome.TIMED_OUT, "", b"", True, PushTimeout("room:1", "ack", TIMEOUT)),
        (Outcome.REJECTED, "not joined", b"", True, LocalProtocolError("not joined")),
        (Outcome.INTERRUPTED, "cut", b"", True, ConnectionLost("cut")),
    ],
)
def test_result_decides_what_the_handler_sees(
    line: Line, run: Callable[..., None], outcome: Outcome, text: str, response: bytes, binary: bool, expected: Any
) -> None:
    """A reply of status ok is returned; everything else is raised as what it is. A reply behind a bad one still comes."""

    async def main() -> None:
        context = line.context()
        task, other = push(context, 0), push(context, 1)
        await asyncio.sleep(0)
        await context.wait_flushed()
        first, second = line.requests()
        line.answer(PushResult(first.id, outcome, text, response, binary))
        line.answer(replied(second, "fine"))
        assert await other == "fine"
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(expected, Exception):
            assert type(result) is type(expected)
            assert str(result).startswith(str(expected))
        else:
            assert result == expected
        context.stop()

    run(main)
    assert line.replies.used_bytes == 0


def test_result_resolves_its_own_push_only(line: Line, run: Callable[..., None]) -> None:
    """Replies in any order, unknown ones and doubles reach the right handler or nobody."""

    async def main() -> None:
        context = line.context()
        tasks = [push(context, number) for number in range(3)]
        await asyncio.sleep(0)
        await context.wait_flushed()
        a, b, c = line.requests()
        line.answer(PushResult(12345, Outcome.REPLIED, "ok", b"0", False), replied(c, "c"), replied(c, "again"))
        line.answer(replied(a, "a"))
        assert await tasks[0] == "a"
        assert await tasks[2] == "c"
        assert not tasks[1].done()
        line.answer(replied(c, "late"), replied(b, "b"))
        assert await tasks[1] == "b"
        context.stop()

    run(main)


def test_reply_to_a_dead_worker_is_not_taken_for_an_own_one(line: Line, run: Callable[..., None]) -> None:
    """A successor's pushes have other numbers than its predecessor's, whose results may still come."""

    async def main() -> None:
        first = line.context()
        tasks = [push(first, number) for number in range(5)]
        await asyncio.sleep(0)
        await first.wait_flushed()
        old = line.requests()
        first.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        second = line.context()
        task = push(second, "new")
        await asyncio.sleep(0)
        await second.wait_flushed()
        (new,) = line.requests()
        line.answer(*(replied(request, "of the dead") for request in old))
        line.answer(replied(new, "own"))
        assert await task == "own"
        second.stop()

    run(main)


def test_push_without_reply_returns_at_once(line: Line, run: Callable[..., None]) -> None:
    """It is on its way, and nothing waits for it."""

    async def main() -> None:
        context = line.context()
        assert await context.push("room:1", "note", {}, timeout=None, reply=False) is None
        assert not context._pending
        await context.wait_flushed()
        context.stop()

    run(main)
    assert [request.reply for request in line.requests()] == [False]


def test_full_ring_waits(line: Line, run: Callable[..., None]) -> None:
    """When the io process is slow, pushes wait for room, in order, and none is lost."""
    payload = "x" * 1000

    async def main() -> None:
        context = line.context()
        tasks = [push(context, [number, payload]) for number in range(200)]
        await asyncio.sleep(0)
        seen: list[int] = []
        drained = asyncio.create_task(context.wait_flushed())
        await asyncio.sleep(0.01)
        assert not drained.done()
        while len(seen) < 200:
            requests = line.requests()
            seen += [msgspec.json.decode(request.payload)[0] for request in requests]
            line.answer(*(replied(request) for request in requests)) if requests else None
            await asyncio.sleep(0.001)
        await drained
        await asyncio.gather(*tasks)
        assert seen == list(range(200))
        context.stop()

    run(main)


def test_pushes_without_reply_cannot_pile_up(line: Line, run: Callable[..., None]) -> None:
    """A handler that pushes in a loop waits when the ring is full; else it would fill the memory."""

    async def main() -> None:
        context = line.context()
        pushed = 0

        async def flood() -> None:
            nonlocal pushed
            for _ in range(10_000):
                await context.push("room:1", "note", "x" * 100, timeout=None, reply=False)
                pushed += 1

        task = asyncio.create_task(flood())
        await asyncio.sleep(0.02)
        assert not task.done()
        assert pushed < 2_000
        received = 0
        while received < 10_000:
            received += len(line.requests())
            await asyncio.sleep(0)
        await task
        context.stop()

    run(main)


def test_record_is_cut_to_fit_the_ring(line: Line, run: Callable[..., None]) -> None:
    """Pushes of one turn that are too many for one record go as several."""

    async def main() -> None:
        context = line.context()
        for number in range(10):
            await context.push("room:1", "note", [number, "x" * 3_000], timeout=None, reply=False)
        await context.wait_flushed()
        context.stop()

    run(main)
    records = line.records()
    assert all(len(record.payload) <= line.pushes.max_payload for record in records)
    requests = [request for record in records for request in decode_requests(record.payload)]
    assert [msgspec.json.decode(request.payload)[0] for request in requests] == list(range(10))
    assert sum(record.count for record in records) == 10


@pytest.mark.parametrize("event", ["e", "ä" * 500, "\U0001f600" * 500])
def test_largest_push_fits(line: Line, run: Callable[..., None], event: str) -> None:
    """A push of just the size that is accepted goes through the ring."""

    async def main() -> None:
        context = line.context()
        for size in range(line.pushes.max_payload, 0, -64):
            with contextlib.suppress(LocalProtocolError):
                await context.push("room:1", event, b"x" * size, timeout=None, reply=False)
                break
        await context.wait_flushed()
        context.stop()

    run(main)
    (request,) = line.requests()
    assert len(encode_requests([request])) <= line.pushes.max_payload


@pytest.mark.parametrize(
    ("event", "payload", "timeout", "sentence"),
    [
        ("a", object(), None, r"the payload cannot be written as JSON \(.*\): use plain objects, structs or bytes"),
        ("a", "\ud800", None, "the payload cannot be written as JSON"),
        ("a", {1j: 2}, None, "the payload cannot be written as JSON"),
        ("a", b"x" * CAPACITY, None, "a push of 65536 bytes is too large: the limit is .*; raise --ring-bytes"),
        (b"a", {}, None, "must be text"),
        (None, {}, None, "must be text"),
        ("\udcff", {}, None, "must be text"),
        ("a", {}, "5", "timeout='5': it must be seconds"),
        ("a", {}, -1, "timeout=-1: it must be seconds, and not negative"),
        ("a", {}, float("nan"), "timeout=nan"),
    ],
)
def test_push_that_cannot_be_sent_fails_alone(
    line: Line, run: Callable[..., None], event: Any, payload: Any, timeout: Any, sentence: str
) -> None:
    """Its own handler gets a sentence; pushes of others in the same turn are not touched."""

    async def main() -> None:
        context = line.context()
        other = push(context, "other")
        await asyncio.sleep(0)
        with pytest.raises(LocalProtocolError, match=sentence):
            await context.push("room:1", event, payload, timeout=timeout, reply=True)
        await context.wait_flushed()
        (request,) = line.requests()
        line.answer(replied(request, "fine"))
        assert await other == "fine"
        assert not context._pending
        context.stop()

    run(main)


def test_cancelled_push_is_forgotten(line: Line, run: Callable[..., None]) -> None:
    """A handler that gives up on a push, or is cancelled, leaves nothing behind; its late reply is passed over."""

    async def main() -> None:
        context = line.context()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await context.push("room:1", "ack", 0, timeout=None, reply=True)
        assert not context._pending
        (request,) = line.requests()
        task = push(context, 1)
        await asyncio.sleep(0)
        await context.wait_flushed()
        (other,) = line.requests()
        line.answer(replied(request, "late"), replied(other, "own"))
        assert await task == "own"
        context.stop()

    run(main)


def test_reset_gives_up_what_the_dead_io_process_had_taken(line: Line, run: Callable[..., None]) -> None:
    """Its pushes fail; those that are still in the ring, or not yet there, go to the successor and are answered."""

    async def main() -> None:
        context = line.context()
        taken = [push(context, number) for number in range(2)]
        await asyncio.sleep(0)
        await context.wait_flushed()
        (record,) = line.records()
        in_ring = push(context, "in the ring")
        await asyncio.sleep(0)
        await context.wait_flushed()

        successor = Consumer(line.pushes)
        assert successor.position == record.end
        not_yet = push(context, "not yet")
        await asyncio.sleep(0)
        line.reset(successor.position)
        results = await asyncio.gather(*taken, return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionLost, ConnectionLost]
        assert "the io process was restarted" in str(results[0])
        await context.wait_flushed()
        assert not in_ring.done()
        assert not not_yet.done()
        requests = [request for record in successor.poll() for request in decode_requests(record.payload)]
        line.answer(*(replied(request, msgspec.json.decode(request.payload)) for request in requests))
        assert [await in_ring, await not_yet] == ["in the ring", "not yet"]
        context.stop()

    run(main)


def test_first_reset_changes_nothing(line: Line, run: Callable[..., None]) -> None:
    """The io process that starts with the run has no predecessor: no push is given up."""

    async def main() -> None:
        context = line.context()
        task = push(context, 0)
        await asyncio.sleep(0)
        await context.wait_flushed()
        line.reset(0)
        (request,) = line.requests()
        line.answer(replied(request, "fine"))
        assert await task == "fine"
        context.stop()

    run(main)


def test_replies_that_came_before_the_start_are_read(line: Line, run: Callable[..., None]) -> None:
    """What is left in the replies ring from a predecessor's time does not fill it up."""

    async def main() -> None:
        line.reset(0)
        line.answer(PushResult(1, Outcome.REPLIED, "ok", b"0", False))
        line.replies_bell.clear()
        context = line.context()
        assert line.replies.used_bytes == 0
        context.stop()

    run(main)


def test_start_announces_what_a_predecessor_pushed(line: Line, run: Callable[..., None]) -> None:
    """A worker that dies between the record and the doorbell leaves the ringing to its successor."""

    async def main() -> None:
        line.pushes_bell.clear()
        context = line.context()
        assert line.pushes_bell.clear() == 1
        context.stop()

    run(main)


def test_many_replies_are_all_read(line: Line, run: Callable[..., None]) -> None:
    """More records of results than one poll returns are read at one ring of the doorbell."""

    async def main() -> None:
        context = line.context()
        tasks = [push(context, number) for number in range(50)]
        await asyncio.sleep(0)
        await context.wait_flushed()
        for request in line.requests():
            line.producer.put(encode_results([replied(request, request.id)]), kind=Kind.RESULTS)
        line.replies_bell.ring()
        assert len(await asyncio.gather(*tasks)) == 50
        assert line.replies.used_bytes == 0
        context.stop()

    run(main)


def test_a_state_is_handed_on_and_never_waits_behind_events(line: Line, run: Callable[..., None]) -> None:
    """It comes by the ring of the replies, in order."""

    async def test() -> None:
        states: list[bytes] = []
        both = asyncio.Event()

        def on_state(payload: bytes) -> None:
            states.append(payload)
            if len(states) == 2:
                both.set()

        context = WorkerContext(
            (line.pushes, line.pushes_bell),
            (line.replies, line.replies_bell),
            page=line.page,
            timeout=TIMEOUT,
            storage=Storage(line.storage, line.storage_bell, field="", ttl=0.0),
            on_state=on_state,
        )
        context.start()
        for payload in (b"first", b"second"):
            line.producer.put(payload, kind=Kind.STATE)
        line.replies_bell.ring()
        await asyncio.wait_for(both.wait(), TIMEOUT)
        context.stop()

        assert states == [b"first", b"second"]
        assert not line.replies.used_bytes

    run(test)
