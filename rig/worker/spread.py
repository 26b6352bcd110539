"""
Pushes of a worker that has several io processes: each goes to the one that owns its topic, joined or not.
"""

import functools
from collections.abc import Sequence
from typing import Any

from rig.app import Context
from rig.routing import rendezvous

_REMEMBERED = 100_000
"""Topics whose owner is remembered."""


class SpreadContext:
    """Implements `rig.app.Context` over one context for each io process."""

    def __init__(self, contexts: Sequence[Context]) -> None:
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
        try:
            owner = self._owner(topic)
        except (TypeError, AttributeError, UnicodeEncodeError):
            owner = self._contexts[0]  # any of them refuses a topic that is no text
        return await owner.push(topic, event, payload, timeout=timeout, reply=reply)

    def _find(self, topic: str) -> Context:
        return self._contexts[rendezvous(topic, len(self._contexts))]
