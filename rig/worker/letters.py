"""
Dead letters on their way: events that a handler was given up on, with the raw payload and the traceback.

What must stay true: `bury` returns when the letter is in the storage ring, or in the database, and not before; a lane marks its
event as finished only then. A letter that does not fit yet waits, and its lane with it. Nothing is dropped.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from rig.errors import StoreFailed
from rig.log import Throttle, mask
from rig.records import DeadLetter, encode_letters
from rig.worker.binding import Call
from rig.worker.storage import Storage

_LOOK_AGAIN = 0.001
"""Seconds after which a full ring is looked at again."""
_REPORT_INTERVAL = 5.0
"""Seconds between two lines about the same fault."""
_TRACEBACK_LIMIT = 8_000
"""Characters of a traceback that are kept: the last ones, which say where it was raised."""

log = structlog.get_logger()


class Letters:
    """Buries the events of one worker."""

    def __init__(
        self,
        worker: int,
        storage_of: Callable[[str], Storage],
        *,
        store_large: Callable[[DeadLetter], Awaitable[None]],
    ) -> None:
        """
        Take the ways to the store.

        Args:
            worker: Our number.
            storage_of: Topic → the ring to the io process that owns it.
            store_large: Stores a letter that no ring takes; raises `StoreFailed`.
        """
        self._worker, self._storage_of, self._store_large = worker, storage_of, store_large
        self._throttle = Throttle(_REPORT_INTERVAL)

    async def bury(self, call: Call, raw: Any, reason: str, exc: BaseException | None, received_ns: int) -> None:
        """Make an event a dead letter, and say so once a while; see `GiveUp`."""
        letter = self._letter(call, raw, reason, exc, received_ns)
        # By what is before the first colon: what follows is text of the handler's, or of the peer's.
        self._say("event given up", reason.partition(":")[0], letter, reason)
        storage, record = self._storage_of(call.topic), encode_letters([letter])
        if len(record) > storage.limit:
            await self._bury_large(letter)
            return
        while not storage.put(record, 1):
            self._say("a dead letter waits: the io process takes nothing", "", letter, "the storage ring is full")
            await asyncio.sleep(_LOOK_AGAIN)

    async def _bury_large(self, letter: DeadLetter) -> None:
        pause = _LOOK_AGAIN
        while True:
            try:
                await self._store_large(letter)
            except StoreFailed as exc:
                self._say("a dead letter waits: it could not be stored", "", letter, str(exc))
                pause = min(2 * pause, 1.0)
                await asyncio.sleep(pause)
            else:
                return

    def _letter(self, call: Call, raw: Any, reason: str, exc: BaseException | None, received_ns: int) -> DeadLetter:
        received_at = time.time() - (time.monotonic_ns() - received_ns) / 1e9
        binary = isinstance(raw, bytes)
        story = "" if exc is None else _traceback(exc)
        return DeadLetter(call.topic, call.event, call.route.name, reason, story, bytes(raw), binary, self._worker, received_at)

    def _say(self, message: str, about: str, letter: DeadLetter, reason: str) -> None:
        fields = {"topic": letter.topic, "event_name": letter.event, "reason": reason}
        self._throttle.say(log.error, message, time.monotonic(), about=(letter.handler, about), **fields)


def _traceback(exc: BaseException) -> str:
    """Return the traceback of a user's exception, whose own `__str__` may fail, without what must not be stored."""
    try:
        text = "".join(traceback.format_exception(exc))
    except Exception:
        text = "".join(traceback.format_tb(exc.__traceback__)) + type(exc).__name__
    return mask(text[-_TRACEBACK_LIMIT:]).encode(errors="replace").decode()
