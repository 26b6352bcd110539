"""
The way of a push through the io process: from a worker's ring to the connection, and its result back.

A record of pushes is committed before it is handed on, so a push is sent at most once; what becomes of those that a dead io
process had taken, nobody knows, and its successor says so with a RESET. At the end of a run, what the server does not take in time
is counted as unsent: nobody is left to be told.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from rig.counters import Page
from rig.errors import RingFull
from rig.log import Throttle
from rig.phoenix import Push, events
from rig.records import Kind, Outcome, PushRequest, PushResult, decode_requests, encode_reset, encode_results
from rig.ring import Consumer, Doorbell, Producer, Record, RingMemory

_LOOK_AGAIN = 0.001
"""Seconds after which a full ring is looked at again."""

_MOST_IN_HAND = 10_000
"""Pushes of one worker that wait for their results, or for the join, before the others wait in the ring."""
_MOST_UNSENT_BYTES = 4 * 1024 * 1024
"""Bytes that the server has not taken, likewise."""
_REPORT_INTERVAL = 5.0
"""Seconds between two lines about the same fault."""

log = structlog.get_logger()


class _Unanswered(Push):
    """A push whose result nobody awaits; it knows its relay, which would else have to keep it for ever."""

    __slots__ = ("relay",)

    def __init__(self, relay: "Relay", topic: str, event: str, payload: Any, timeout: float) -> None:
        super().__init__(topic, event, payload, timeout, wants_reply=False)
        self.relay = relay


class Relay:
    """The io process's ends of one worker's rings for pushes and replies."""

    def __init__(
        self,
        pushes: tuple[RingMemory, Doorbell],
        replies: tuple[RingMemory, Doorbell],
        *,
        page: Page,
        send: Callable[[Sequence[Push]], None],
        unsent_bytes: Callable[[], int],
    ) -> None:
        """
        Take two rings.

        Args:
            pushes: Where requests come from, and our doorbell.
            replies: Where results go, and the worker's doorbell.
            page: The io process's counters.
            send: Hands pushes to the connection.
            unsent_bytes: What the connection has not written yet.
        """
        (pushes_memory, self._pushes_bell), (replies_memory, self._replies_bell) = pushes, replies
        self._consumer, self._producer = Consumer(pushes_memory), Producer(replies_memory)
        self._largest = replies_memory.max_payload
        self._page, self._send, self._unsent_bytes = page, send, unsent_bytes
        self._loop = asyncio.get_running_loop()
        self._requests: dict[Push, PushRequest] = {}
        self._results: list[PushResult] = []
        self._waiting: deque[tuple[bytes, Kind, int, Callable[[], None]]] = deque()
        self._looking: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._throttle = Throttle(_REPORT_INTERVAL)
        self._last = False

    def start(self) -> None:
        """Tell the worker that we are new, then take pushes whenever the doorbell rings."""
        self._waiting.append((encode_reset(self._consumer.position), Kind.RESET, 0, _nothing))
        self._put()
        self._loop.add_reader(self._pushes_bell.fd, self._rung)
        self._rung()

    def take_last(self) -> bool:
        """Take what the worker has left, which is gone, as the server takes it; False if something is still in the ring."""
        self._last = True
        if self._reading is not None:
            self._reading.cancel()
        self._read()
        return not self._consumer.pending

    def stop(self) -> None:
        """Take what the server has room for, and no more: the rest is lost, and counted."""
        self._loop.remove_reader(self._pushes_bell.fd)
        self.take_last()
        for timer in (self._looking, self._reading):
            if timer is not None:
                timer.cancel()
        while records := self._consumer.poll():
            self._page.add("pushes_unsent", sum(record.count for record in records))
            self._consumer.commit(records[-1])

    def owns(self, push: Push) -> bool:
        """Return True if the push came from this worker."""
        return push in self._requests or (isinstance(push, _Unanswered) and push.relay is self)

    def resolve(self, event: events.PushEvent) -> None:
        """Note the result of a push; `flush` sends it. One that nobody waits for can only have failed: the log says so."""
        request = self._requests.pop(event.push, None)
        result = self._result(request.id if request else 0, event)
        if request is not None:
            self._results.append(result)
        else:
            self._lost(event.push, result)

    def flush(self) -> None:
        """Publish the results noted so far."""
        if self._results:
            results, self._results = self._results, []
            self._waiting.extend((*record, _nothing) for record in self._records(results))
            self._put()

    def tell_state(self, payload: bytes) -> None:
        """Pass on a STATE record; one that waits for room gives way to it, since only the latest counts then."""
        self._waiting = deque(record for record in self._waiting if record[1] is not Kind.STATE)
        self._waiting.append((payload, Kind.STATE, 0, _nothing))
        self._put()

    def answer(self, results: list[PushResult], published: Callable[[], None]) -> None:
        """
        Publish results that are not of pushes of ours.

        Args:
            results: At least one.
            published: Called once they are in the ring.
        """
        *records, last = self._records(results)
        self._waiting.extend((*record, _nothing) for record in records)
        self._waiting.append((*last, published))
        self._put()

    @property
    def idle(self) -> bool:
        """True if no push waits for its result, and no result for room."""
        return not self._requests and not self._waiting and not self._consumer.pending

    def _rung(self) -> None:
        self._pushes_bell.clear()
        if self._reading is None:
            self._read()

    def _read(self) -> None:
        """Take records one by one, while the server takes what is sent; else look again in a moment, so that the ring fills."""
        self._reading = None
        while records := self._consumer.poll(0 if self._congested() else 1):
            self._consumer.commit(records[0])
            self._take(records[0])
        if self._consumer.pending:
            self._reading = self._loop.call_later(_LOOK_AGAIN, self._read)

    def _congested(self) -> bool:
        many = len(self._requests) >= _MOST_IN_HAND and not self._last  # at the end nobody waits for their results
        return many or self._unsent_bytes() > _MOST_UNSENT_BYTES

    def _take(self, record: Record) -> None:
        try:
            requests = decode_requests(record.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            self._page.add("pushes_failed", record.count)
            log.error("a record of pushes was given up: it cannot be read", pushes=record.count, reason=str(exc))
            return
        self._send([self._push(request) for request in requests])

    def _push(self, request: PushRequest) -> Push:
        payload: Any = request.payload if request.binary else msgspec.Raw(request.payload)
        if not request.reply:
            return _Unanswered(self, request.topic, request.event, payload, request.timeout)
        push = Push(request.topic, request.event, payload, request.timeout)
        self._requests[push] = request
        return push

    def _result(self, identity: int, event: events.PushEvent) -> PushResult:
        match event:
            case events.ReplyReceived(status=status, response=response):
                self._page.add("pushes_replied")
                binary = isinstance(response, bytes)
                return PushResult(identity, Outcome.REPLIED, status, response if binary else msgspec.json.encode(response), binary)
            case events.PushTimedOut():
                self._page.add("pushes_timed_out")
                return PushResult(identity, Outcome.TIMED_OUT, "", b"", True)
            case events.PushRejected(reason=reason):
                self._page.add("pushes_failed")
                return PushResult(identity, Outcome.REJECTED, reason, b"", True)
            case events.PushInterrupted(reason=reason):
                self._page.add("pushes_unsent" if self._last and event.push.ref is None else "pushes_failed")
                return PushResult(identity, Outcome.INTERRUPTED, reason, b"", True)

    def _records(self, results: list[PushResult]) -> list[tuple[bytes, Kind, int]]:
        payload = encode_results(results)
        if len(payload) <= self._largest:
            return [(payload, Kind.RESULTS, len(results))]
        if len(results) == 1:
            too_large = f"the reply of {len(results[0].response)} bytes does not fit the replies ring: raise --ring-bytes"
            return self._records([PushResult(results[0].id, Outcome.REJECTED, too_large, b"", True)])
        half = len(results) // 2
        return self._records(results[:half]) + self._records(results[half:])

    def _lost(self, push: Push, result: PushResult) -> None:
        reason = result.text or "its channel was not joined in time"
        about = (push.topic, push.event, result.outcome)
        fields = {"topic": push.topic, "event_name": push.event, "reason": reason}
        self._throttle.say(log.warning, "push not sent", self._loop.time(), about=about, **fields)

    def _put(self) -> None:
        if self._looking is not None:  # one timer at a time, however often results are flushed meanwhile
            self._looking.cancel()
            self._looking = None
        try:
            while self._waiting:
                payload, kind, count, published = self._waiting[0]
                self._producer.put(payload, kind=kind, count=count)
                self._waiting.popleft()
                published()
        except RingFull:
            self._looking = self._loop.call_later(_LOOK_AGAIN, self._put)
        self._replies_bell.ring()


def _nothing() -> None:
    """Nobody wants to know when it is in the ring."""
