"""
What a handler reaches through its event: pushes that leave by the pushes ring, and replies that come back by theirs.

A reply never waits behind events: it has a ring of its own. Pushes of one turn of the loop travel as one record.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from rig.counters import Page
from rig.errors import ConnectionLost, LocalProtocolError, PushRefused, PushTimeout, RemoteProtocolError
from rig.records import Kind, Outcome, PushRequest, PushResult, decode_reset, decode_results, encode_requests
from rig.ring import Consumer, Doorbell, RingMemory
from rig.worker.arguments import check_names, encode_payload
from rig.worker.outgoing import OVERHEAD, Outgoing
from rig.worker.storage import Storage


class _Pending:
    """A push whose result is awaited."""

    __slots__ = ("future", "position", "request")

    def __init__(self, request: PushRequest, future: "asyncio.Future[Any]") -> None:
        self.request, self.future, self.position = request, future, -1


class WorkerContext:
    """Implements `rig.app.Context` for a worker process."""

    def __init__(
        self,
        pushes: tuple[RingMemory, Doorbell],
        replies: tuple[RingMemory, Doorbell],
        *,
        page: Page,
        timeout: float,
        storage: Storage,
        on_state: Callable[[bytes], None] = lambda payload: None,
    ) -> None:
        """
        Take the worker's ends of two rings.

        Args:
            pushes: Where pushes go, and the io process's doorbell.
            replies: Where results come, and the worker's doorbell.
            page: The worker's counters.
            timeout: Seconds that a push may take if it does not say.
            storage: The way to the store of the same io process; what becomes of it comes by the replies ring, too.
            on_state: Takes the payload of each STATE record.
        """
        self._on_state = on_state
        (pushes_memory, self._pushes_bell), (replies_memory, self._replies_bell) = pushes, replies
        self._outgoing = Outgoing(
            pushes_memory, self._pushes_bell, kind=Kind.PUSHES, encode=encode_requests, size=_size, placed=self._placed
        )
        self._consumer = Consumer(replies_memory)
        self._page, self._timeout = page, timeout
        self.storage = storage
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, _Pending] = {}
        # Numbers go on from the clock, so that the result of a predecessor's push is never taken for that of one of ours.
        self._count = time.monotonic_ns()

    def start(self) -> None:
        """Listen for replies, and announce what a predecessor pushed and died before it rang."""
        self._loop.add_reader(self._replies_bell.fd, self._rung)
        self._rung()
        self._pushes_bell.ring()
        self.storage.start()

    def stop(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(self._replies_bell.fd)

    async def push(self, topic: str, event: str, payload: Any, *, timeout: float | None, reply: bool) -> Any:
        """
        Push to a topic; see `Event.push`.

        Raises:
            LocalProtocolError: If an argument cannot be sent, or the topic is not joined.
            PushRefused: If the reply's status is not ok.
            PushTimeout: If no reply came in time.
            ConnectionLost: If the connection or the channel ended before the reply came.
        """
        seconds = self._timeout if timeout is None else timeout
        check_names(topic, event)
        _check_timeout(seconds)
        data, binary = encode_payload(payload)
        self._count += 1
        request = PushRequest(self._count, topic, event, data, binary, float(seconds), bool(reply))
        if _size(request) > self._outgoing.limit:
            raise LocalProtocolError(
                f"a push of {len(data)} bytes is too large: the limit is {self._outgoing.limit}; raise --ring-bytes"
            )
        await self._outgoing.room()
        self._outgoing.add(request)
        self._page.add("pushes")
        if not reply:
            return None
        pending = self._pending[request.id] = _Pending(request, self._loop.create_future())
        try:
            return await pending.future
        finally:
            self._pending.pop(request.id, None)

    async def enqueue(self, topic: str, event: str, payload: Any, *, key: str | None, ttl: float | None) -> str:
        """
        Store a push; see `rig.enqueue`.

        Raises:
            LocalProtocolError: If an argument cannot be sent.
            StoreFailed: If it could not be stored.
        """
        return await self.storage.enqueue(topic, event, payload, key=key, ttl=ttl)

    def storage_of(self, topic: str) -> Storage:
        """Return the way to the store that the topic's dead letters take."""
        return self.storage

    async def wait_flushed(self) -> None:
        """Return when every push is in the ring, and every one that is to be stored is stored, or could not be."""
        await self._outgoing.wait_flushed()
        await self.storage.wait_settled()

    def _placed(self, batch: Sequence[PushRequest], position: int) -> None:
        for request in batch:
            if request.id in self._pending:
                self._pending[request.id].position = position

    def _rung(self) -> None:
        self._replies_bell.clear()
        while records := self._consumer.poll():
            for record in records:
                if record.kind == Kind.RESULTS:
                    for result in decode_results(record.payload):
                        self._resolve(result)
                elif record.kind == Kind.RESET:
                    self._reset(decode_reset(record.payload))
                elif record.kind == Kind.STATE:
                    self._on_state(bytes(record.payload))
                self._consumer.commit(record)

    def _resolve(self, result: PushResult) -> None:
        if result.outcome >= Outcome.STORED:
            self.storage.resolve(result)
            return
        pending = self._pending.get(result.id)
        if pending is None or pending.future.done():
            return
        request = pending.request
        match result.outcome:
            case Outcome.REPLIED:
                self._reply(pending, result)
            case Outcome.TIMED_OUT:
                pending.future.set_exception(PushTimeout(request.topic, request.event, request.timeout))
            case Outcome.REJECTED:
                pending.future.set_exception(LocalProtocolError(result.text))
            case _:
                pending.future.set_exception(ConnectionLost(result.text))

    def _reply(self, pending: _Pending, result: PushResult) -> None:
        try:
            response = result.response if result.binary else msgspec.json.decode(result.response)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            pending.future.set_exception(RemoteProtocolError(f"the reply cannot be read: {exc}"))
            return
        if result.text == "ok":
            pending.future.set_result(response)
        else:
            request = pending.request
            pending.future.set_exception(PushRefused(request.topic, request.event, result.text, response))

    def _reset(self, head: int) -> None:
        """Give up on what the dead io process had taken; what is still in the ring goes to its successor."""
        for pending in list(self._pending.values()):
            if 0 <= pending.position <= head and not pending.future.done():
                pending.future.set_exception(ConnectionLost("the io process was restarted"))


def _size(request: PushRequest) -> int:
    return len(request.payload) + 4 * (len(request.topic) + len(request.event)) + OVERHEAD


def _check_timeout(seconds: float) -> None:
    if not isinstance(seconds, int | float) or math.isnan(seconds) or seconds < 0:
        raise LocalProtocolError(f"timeout={seconds!r}: it must be seconds, and not negative")
