"""The way of a push through the io process: taken once, answered once, whatever stands in its way."""

import asyncio
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
import structlog

from rig.counters import Page
from rig.io.relay import Relay
from rig.phoenix import Push, events
from rig.records import Kind, Outcome, PushRequest, PushResult, decode_reset, decode_results, encode_requests
from rig.ring import Consumer, Doorbell, Producer, RingMemory

CAPACITY = 64 * 1024
LARGEST = CAPACITY // 8


class Line:
    """Two rings with their doorbells, and the worker's ends of them."""

    def __init__(self, page: Page) -> None:
        self.pushes, self.replies = RingMemory.create(CAPACITY), RingMemory.create(CAPACITY)
        self.pushes_bell, self.replies_bell = Doorbell.create(), Doorbell.create()
        self.producer, self.consumer = Producer(self.pushes), Consumer(self.replies)
        self.page = page
        self.sent: list[Push] = []
        self.committed: list[int] = []
        self.arrived = asyncio.Event()
        self.unsent = 0

    def close(self) -> None:
        for part in (self.pushes, self.replies, self.pushes_bell, self.replies_bell):
            part.close()

    def relay(self) -> Relay:
        """Start the io process's ends; it must be made on the loop."""
        relay = Relay(
            (self.pushes, self.pushes_bell),
            (self.replies, self.replies_bell),
            page=self.page,
            send=self._send,
            unsent_bytes=lambda: self.unsent,
        )
        relay.start()
        return relay

    def _send(self, pushes: Sequence[Push]) -> None:
        self.sent += pushes
        self.committed.append(Consumer(self.pushes).position)
        self.arrived.set()

    async def push(self, *requests: PushRequest) -> list[Push]:
        """Push as a worker does, and return what the connection got."""
        self.sent.clear()
        self.arrived.clear()
        self.producer.put(encode_requests(requests), kind=Kind.PUSHES, count=len(requests))
        self.pushes_bell.ring()
        await self.arrived.wait()
        return list(self.sent)

    def results(self) -> list[PushResult]:
        """Take the results that are in the replies ring; a RESET is passed over."""
        found: list[PushResult] = []
        for record in self.consumer.poll(1_000_000):
            if record.kind == Kind.RESULTS:
                results = decode_results(record.payload)
                assert record.count == len(results)
                found += results
            self.consumer.commit(record)
        return found

    def resets(self) -> list[int]:
        """Take the positions of the RESETs that are in the replies ring."""
        return [decode_reset(record.payload) for record in self.consumer.poll(1_000_000) if record.kind == Kind.RESET]


def request(identity: int, payload: bytes = b"{}", *, binary: bool = False, reply: bool = True) -> PushRequest:
    return PushRequest(identity, "room:1", "ack", payload, binary, 2.5, reply)


def replied(push: Push, response: Any = None, status: str = "ok") -> events.ReplyReceived:
    return events.ReplyReceived(push, status, response)


@pytest.fixture
def line(page: Page) -> Iterator[Line]:
    line = Line(page)
    yield line
    line.close()


def relaying(line: Line, run: Callable[..., None]) -> Callable[[Callable[[Relay], Any]], None]:
    """Run a coroutine function with a relay that is stopped afterwards."""

    def with_relay(test: Callable[[Relay], Any]) -> None:
        async def main() -> None:
            relay = line.relay()
            await test(relay)
            relay.stop()

        run(main)

    return with_relay


def test_push_reaches_the_connection_as_it_was_made(line: Line, run: Callable[..., None]) -> None:
    """Topic, event, payload as JSON text or bytes, time limit and wish for a reply."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        text, binary, note = await line.push(
            request(1, b'{"a":1}'), request(2, b"\x00\xff", binary=True), request(3, b"[]", reply=False)
        )
        assert (text.topic, text.event, text.timeout, text.wants_reply) == ("room:1", "ack", 2.5, True)
        assert msgspec.json.encode(text.payload) == b'{"a":1}'
        assert binary.payload == b"\x00\xff"
        assert (note.wants_reply, note.timeout) == (False, 2.5)
        assert all(relay.owns(push) for push in (text, binary, note))
        assert not relay.owns(Push("room:1", "ack", {}))


def test_record_is_committed_before_it_is_handed_on(line: Line, run: Callable[..., None]) -> None:
    """A push is sent at most once: an io process that dies while it sends leaves nothing to send again."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        await line.push(request(1))
        assert line.committed == [line.producer.tail]


def test_results_go_back_as_one_record(line: Line, run: Callable[..., None], page: Page) -> None:
    """What is resolved in one turn is one record, with each result under the worker's own number."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        a, b, c, d, e = await line.push(*(request(number) for number in (11, 12, 13, 14, 15)))
        line.results()
        relay.resolve(replied(b, msgspec.Raw(b'{"x":1}')))
        relay.resolve(replied(a, b"\x00\xff", "error"))
        relay.resolve(events.PushTimedOut(c))
        relay.resolve(events.PushRejected(d, "not joined"))
        relay.resolve(events.PushInterrupted(e, "cut"))
        line.replies_bell.clear()
        relay.flush()
        assert line.replies_bell.clear() == 1
        assert line.results() == [
            PushResult(12, Outcome.REPLIED, "ok", b'{"x":1}', False),
            PushResult(11, Outcome.REPLIED, "error", b"\x00\xff", True),
            PushResult(13, Outcome.TIMED_OUT, "", b"", True),
            PushResult(14, Outcome.REJECTED, "not joined", b"", True),
            PushResult(15, Outcome.INTERRUPTED, "cut", b"", True),
        ]
        assert not any(relay.owns(push) for push in (a, b, c, d, e))
        assert relay.idle

    assert [page.get(name) for name in ("pushes_replied", "pushes_timed_out", "pushes_failed")] == [2, 1, 2]


def test_nothing_resolved_is_nothing_written(line: Line, run: Callable[..., None]) -> None:
    """A turn without results neither writes nor wakes the worker."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        line.replies_bell.clear()
        relay.flush()
        assert line.replies_bell.clear() == 0


def test_reply_that_is_too_large_fails_its_push_alone(line: Line, run: Callable[..., None]) -> None:
    """The handler is told what to set; the results beside it arrive, in order."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        pushes = await line.push(*(request(number) for number in range(5)))
        for number, push in enumerate(pushes):
            relay.resolve(replied(push, b"x" * (LARGEST if number == 2 else 10)))
        relay.flush()
        results = line.results()
        assert [result.id for result in results] == [0, 1, 2, 3, 4]
        assert [result.outcome for result in results] == [0, 0, Outcome.REJECTED, 0, 0]
        assert results[2].text == "the reply of 8192 bytes does not fit the replies ring: raise --ring-bytes"


def test_results_are_cut_to_fit_the_ring(line: Line, run: Callable[..., None]) -> None:
    """Results of one turn that are too many for one record go as several, in order."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        for number, push in enumerate(await line.push(*(request(number) for number in range(20)))):
            relay.resolve(replied(push, b"%d" % number + b"x" * 1_500))
        relay.flush()
        assert [result.id for result in line.results()] == list(range(20))


def test_full_replies_ring_waits(line: Line, run: Callable[..., None]) -> None:
    """Results of a worker that does not read wait in order, and arrive when it does; the connection goes on meanwhile."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        pushes = [push for start in range(0, 200, 20) for push in await line.push(*map(request, range(start, start + 20)))]
        for push in pushes:
            relay.resolve(replied(push, b"x" * 1_000))
            relay.flush()
        assert not relay.idle
        got: list[int] = []
        while len(got) < 200:
            got += [result.id for result in line.results()]
            await asyncio.sleep(0.001)
        assert got == list(range(200))
        assert relay.idle


def test_answers_to_what_was_stored_take_the_same_ring(line: Line, run: Callable[..., None]) -> None:
    """In order with results of pushes, cut to fit; each says when it is in the ring, also where that had to be waited for."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        published: list[int] = []
        reason = msgspec.json.encode(["/state/rig.db", "x" * 1_000, "y"])
        many = [PushResult(number, Outcome.STORE_FAILED, "", reason, False) for number in range(20)]
        relay.answer(many, lambda: published.append(0))
        assert published == [0]
        for number in range(1, 100):
            relay.answer(
                [PushResult(100 + number, Outcome.STORED, "", b"x" * 1_000, True)], functools.partial(published.append, number)
            )
        assert 0 < len(published) < 100
        got: list[int] = []
        while len(got) < 119:
            got += [result.id for result in line.results()]
            await asyncio.sleep(0.001)
        assert got == [*range(20), *range(101, 200)]
        assert published == list(range(100))


def test_full_replies_ring_is_looked_at_by_one_timer(line: Line, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many results come while it is full, the io process does not look ever more often."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        pushes = [push for start in range(0, 200, 20) for push in await line.push(*map(request, range(start, start + 20)))]
        for push in pushes:
            relay.resolve(replied(push, b"x" * 1_000))
            relay.flush()
        looks = 0
        put = relay._producer.put

        def counted(*args: Any, **options: Any) -> None:
            nonlocal looks
            looks += 1
            put(*args, **options)

        monkeypatch.setattr(relay, "_producer", type("Fake", (), {"put": staticmethod(counted)}))
        await asyncio.sleep(0.02)
        assert 0 < looks < 100


def test_new_io_process_says_where_it_starts(line: Line, run: Callable[..., None]) -> None:
    """RESET names the commit: what was taken before it will get no result, what comes after it is ours."""

    async def main() -> None:
        relay = line.relay()
        assert line.resets() == [0]
        await line.push(request(1))
        end = line.producer.tail
        relay.stop()
        line.producer.put(encode_requests([request(2)]), kind=Kind.PUSHES)
        line.sent.clear()
        successor = line.relay()
        assert line.resets() == [end]
        assert len(line.sent) == 1
        assert not relay.owns(line.sent[0])
        assert successor.owns(line.sent[0])
        successor.stop()

    run(main)


def test_reset_comes_before_every_result_even_if_the_ring_is_full(line: Line, run: Callable[..., None]) -> None:
    """A worker that has not read gets the predecessor's results, then the RESET, then ours."""

    async def main() -> None:
        filler = Producer(line.replies)
        while filler.fits(4_000):
            filler.put(b"x" * 4_000, kind=99)
        while filler.fits(1):
            filler.put(b"x", kind=99)
        relay = line.relay()
        (push,) = await line.push(request(1))
        relay.resolve(replied(push))
        relay.flush()
        kinds: list[int] = []
        while Kind.RESULTS not in kinds:
            for record in line.consumer.poll():
                line.consumer.commit(record)
                kinds += [record.kind] if record.kind != 99 else []
            await asyncio.sleep(0.001)
        assert kinds == [Kind.RESET, Kind.RESULTS]
        relay.stop()

    run(main)


def test_pushes_that_lie_in_the_ring_are_taken_at_the_start(line: Line, run: Callable[..., None]) -> None:
    """What workers pushed while there was no io process needs no doorbell."""

    async def main() -> None:
        for number in range(9):
            line.producer.put(encode_requests([request(number)]), kind=Kind.PUSHES)
        relay = line.relay()
        assert len(line.sent) == 9
        assert line.pushes.used_bytes == 0
        relay.stop()

    run(main)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (functools.partial(events.PushRejected, reason="'room:1' is not joined"), "'room:1' is not joined"),
        (functools.partial(events.PushInterrupted, reason="the connection was closed"), "the connection was closed"),
        (events.PushTimedOut, "its channel was not joined in time"),
    ],
)
def test_push_that_nobody_awaits_does_not_fail_silently(
    line: Line, run: Callable[..., None], page: Page, event: Callable[..., Any], reason: str
) -> None:
    """A push without a reply that could not be sent is counted, and the log says so once a while."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        pushes = await line.push(*(request(number, reply=False) for number in range(30)))
        line.results()
        with structlog.testing.capture_logs() as logs:
            for push in pushes:
                assert relay.owns(push)
                relay.resolve(event(push))
        relay.flush()
        assert line.results() == []
        assert [(entry["event"], entry["topic"], entry["reason"]) for entry in logs] == [("push not sent", "room:1", reason)]

    assert page.get("pushes_failed") + page.get("pushes_timed_out") == 30


def test_push_that_nobody_awaits_is_not_kept(line: Line, run: Callable[..., None]) -> None:
    """A push without a reply that was sent is forgotten: no event will ever come for it."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        await line.push(*(request(number, reply=False) for number in range(30)))
        assert relay.idle
        assert not relay._requests


def test_push_belongs_to_the_relay_that_took_it(page: Page, run: Callable[..., None]) -> None:
    """With several workers each result finds its own, for pushes without a reply too."""
    first, second = Line(page), Line(page)

    async def main() -> None:
        relays = [first.relay(), second.relay()]
        for reply in (True, False):
            (push,) = await second.push(request(1, reply=reply))
            assert [relay.owns(push) for relay in relays] == [False, True]
        for relay in relays:
            relay.stop()

    run(main)
    first.close()
    second.close()


def test_record_that_cannot_be_read_is_counted(line: Line, run: Callable[..., None], page: Page) -> None:
    """It is given up with a line in the log, and the pushes after it are taken."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        with structlog.testing.capture_logs() as logs:
            line.producer.put(b"\xc1junk", kind=Kind.PUSHES, count=3)
            assert len(await line.push(request(1))) == 1
        assert [(entry["log_level"], entry["pushes"]) for entry in logs] == [("error", 3)]

    assert page.get("pushes_failed") == 3


def test_idle_knows_what_waits(line: Line, run: Callable[..., None]) -> None:
    """A relay is idle if no push waits for its result, and no result for room."""

    @relaying(line, run)
    async def _(relay: Relay) -> None:
        assert relay.idle
        (push,) = await line.push(request(1))
        assert not relay.idle
        relay.resolve(replied(push))
        relay.flush()
        assert relay.idle
        line.producer.put(encode_requests([request(2)]), kind=Kind.PUSHES)
        assert not relay.idle


def test_pushes_wait_in_the_ring_while_the_server_does_not_take_them(line: Line, run: Callable[..., None]) -> None:
    """A server that does not read makes the ring fill, not the io process grow; then everything goes, in order."""

    async def main() -> None:
        relay = line.relay()
        line.unsent = 1 << 30
        for number in range(3):
            request = PushRequest(number, "room:1", f"event-{number}", b"{}", False, 1.0, True)
            line.producer.put(encode_requests([request]), kind=Kind.PUSHES, count=1)
        line.pushes_bell.ring()
        await asyncio.sleep(0.01)
        assert not line.sent
        assert line.producer.used_bytes > 0

        line.unsent = 0
        while len(line.sent) < 3:
            line.arrived.clear()
            await line.arrived.wait()
        assert [push.event for push in line.sent] == ["event-0", "event-1", "event-2"]
        assert line.producer.used_bytes == 0
        relay.stop()

    run(main)


def test_of_the_states_that_wait_for_room_only_the_latest_is_kept(line: Line, run: Callable[..., None]) -> None:
    """A worker that takes nothing is not sent every change later, only where the connection stands; results are all kept."""

    async def main() -> None:
        relay = line.relay()
        [*pushes] = await line.push(*(request(number) for number in range(200)))
        for push in pushes:
            relay.resolve(events.ReplyReceived(push, "ok", "x" * 1000))
            relay.flush()
        for number in range(100):
            relay.tell_state(b"state %d" % number)
        states, results = [], 0
        while not states or results < 200:
            for record in line.consumer.poll(1_000_000):
                if record.kind == Kind.STATE:
                    states.append(bytes(record.payload))
                elif record.kind == Kind.RESULTS:
                    results += record.count
                line.consumer.commit(record)
            await asyncio.sleep(0.001)
        relay.stop()
        assert (states, results) == ([b"state 99"], 200)

    run(main)
