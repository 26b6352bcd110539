"""
Pushes of a worker that has several io processes: each goes to the one that owns its topic, joined or not, and so do dead letters.
"""

import functools
from collections.abc import Sequence
from typing import Any

from rig.routing import rendezvous
from rig.worker.context import WorkerContext
from rig.worker.storage import Storage

_REMEMBERED = 100_000
"""Topics whose owner is remembered."""


class SpreadContext:
    """Implements `rig.app.Context` over one context for each io process."""

    def __init__(self, contexts: Sequence[WorkerContext]) -> None:
        """Take them in the order in which topics are spread over the io processes."""
        self._contexts = contexts
        self._owner = functools.lru_cache(_REMEMBERED)(self._find)

    async def push(self, topic: str, event: str, payload: Any, *, timeout: float | None, reply: bool) -> Any:
        """
        Push to a topic; see `Event.push`.

        Raises:
            LocalProtocolError: If an argument cannot be sent, or the topic is not joined.
            PushRefused: If the reply's status is not ok.
            PushTimeout: If no reply came in time.
            ConnectionLost: If the connection or the channel ended before the reply came.
        """
        return await self._of(topic).push(topic, event, payload, timeout=timeout, reply=reply)

    async def enqueue(self, topic: str, event: str, payload: Any, *, key: str | None, ttl: float | None) -> str:
        """
        Store a push; see `rig.enqueue`.

        Raises:
            LocalProtocolError: If an argument cannot be sent.
            StoreFailed: If it could not be stored.
        """
        return await self._of(topic).enqueue(topic, event, payload, key=key, ttl=ttl)

    def storage_of(self, topic: str) -> Storage:
        """Return the way to the store that the topic's dead letters take."""
        return self._of(topic).storage

    def _of(self, topic: str) -> WorkerContext:
        try:
            return self._owner(topic)
        except (TypeError, AttributeError, UnicodeEncodeError):
            return self._contexts[0]  # any of them refuses a topic that is no text

    def _find(self, topic: str) -> WorkerContext:
        return self._contexts[rendezvous(topic, len(self._contexts))]
