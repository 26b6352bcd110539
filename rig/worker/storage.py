"""
A worker's end of the storage ring: pushes that must not be lost, and dead letters, on their way to the store.

A push that is to be stored is answered by the replies ring, once it is in the database. A letter is not answered: once it is in the
ring it is safe, because the io process, or its successor, commits the record only when it has stored it.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from rig.durable import check_key, expiry, make_key, with_key
from rig.errors import LocalProtocolError, OutboxFull, RigError, StoreFailed
from rig.records import EnqueueRequest, Kind, Outcome, PushResult, encode_enqueues
from rig.ring import Doorbell, RingMemory
from rig.worker.arguments import check_names, encode_payload
from rig.worker.outgoing import OVERHEAD, Outgoing

_PATIENCE = 10.0
"""Seconds for which the io process may take nothing before what is to be stored is refused."""
_failure = msgspec.json.Decoder(tuple[str, str, str]).decode
_full = msgspec.json.Decoder(tuple[str, int]).decode


class Storage:
    """
    Pushes and letters to one io process.

    Attributes:
        limit: Bytes of a record, at most.
    """

    def __init__(self, memory: RingMemory, bell: Doorbell, *, field: str, ttl: float) -> None:
        """
        Take the ring.

        Args:
            memory: The ring.
            bell: The io process's doorbell.
            field: Where the idempotency key goes in a payload; empty for nowhere.
            ttl: Seconds that a push lives if it does not say; 0 for ever.
        """
        self._outgoing = Outgoing(
            memory, bell, kind=Kind.ENQUEUE, encode=encode_enqueues, size=_size, patience=_PATIENCE, refuse=self._refuse
        )
        self._bell, self._field, self._ttl = bell, field, ttl
        self.limit = memory.max_payload
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, asyncio.Future[None]] = {}
        self._settled = asyncio.Event()
        self._settled.set()
        self._count = time.monotonic_ns()  # goes on from the clock, as that of `WorkerContext`

    def start(self) -> None:
        """Announce what a predecessor put into the ring and died before it rang."""
        self._bell.ring()

    async def enqueue(self, topic: str, event: str, payload: object, *, key: str | None, ttl: float | None) -> str:
        """
        Have a push stored, and return its key once it is; see `rig.enqueue`.

        Raises:
            LocalProtocolError: If an argument cannot be sent, or the payload cannot carry the key.
            OutboxFull: If the outbox is.
            StoreFailed: If the database did not take it, or the io process takes nothing.
        """
        request = self._request(topic, event, payload, key=key, ttl=ttl)
        await self._outgoing.room()
        future = self._pending[request.id] = self._loop.create_future()
        self._settled.clear()
        self._outgoing.add(request)
        try:
            await future
        finally:
            if future.cancelled():
                self._forget(request.id)
        return request.key

    def put(self, letters: bytes, count: int) -> bool:
        """Put dead letters into the ring, encoded, and return False if it has no room for them now."""
        return self._outgoing.put(letters, Kind.DEAD_LETTERS, count)

    def resolve(self, result: PushResult) -> None:
        """Tell who waits what became of their push."""
        future = self._forget(result.id)
        if future is None or future.done():
            return
        match result.outcome:
            case Outcome.STORED:
                future.set_result(None)
            case Outcome.OUTBOX_FULL:
                future.set_exception(OutboxFull(*_full(result.response)))
            case _:
                future.set_exception(StoreFailed(*_failure(result.response)))

    async def wait_settled(self) -> None:
        """Return when every push is stored, or could not be."""
        await self._settled.wait()

    def _request(self, topic: str, event: str, payload: object, *, key: str | None, ttl: float | None) -> EnqueueRequest:
        check_names(topic, event)
        if key is None:
            key = make_key()
        else:
            check_key(key)
        data, binary = encode_payload(payload)
        if not binary:
            data = with_key(data, self._field, key)
        elif self._field:
            raise LocalProtocolError(
                f"a binary payload cannot carry the idempotency key as {self._field!r}: "
                "push an object, or send no key with an empty --idempotency-field"
            )
        self._count += 1
        request = EnqueueRequest(self._count, key, topic, event, data, binary, expiry(ttl, self._ttl))
        if _size(request) > self._outgoing.limit:
            raise LocalProtocolError(
                f"a push of {len(data)} bytes is too large to be stored: the limit is {self._outgoing.limit}; raise --ring-bytes"
            )
        return request

    def _forget(self, identity: int) -> "asyncio.Future[None] | None":
        future = self._pending.pop(identity, None)
        if not self._pending:
            self._settled.set()
        return future

    def _refuse(self, requests: Sequence[EnqueueRequest]) -> None:
        for request in requests:
            future = self._forget(request.id)
            if future is not None and not future.done():
                future.set_exception(_unheard())


def _unheard() -> RigError:
    reason = f"the io process has taken nothing for {_PATIENCE:g} s"
    return StoreFailed("the outbox", reason, "see what it logs: it has no store, or is not running; then try again")


def _size(request: EnqueueRequest) -> int:
    names = len(request.key) + len(request.topic) + len(request.event)
    return len(request.payload) + 4 * names + OVERHEAD
