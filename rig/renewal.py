"""
What follows from a join that is refused: a fresh token, and where the token is the connection's, a new connection for it.

Phoenix reads the token of a connection once, when it opens: a channel that finds it too old refuses every join, until there is
another connection. So one is made, if the provider has another token by now. What must stay true: a topic that is never ours, and a
provider that makes a new token for each question, cost the other topics one reconnect, and not one a minute.

Source: Phoenix.Socket, `connect/3` (`auth_token` is part of what it is called with, once).
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from rig.errors import TokenUnavailable
from rig.phoenix import events

_BETWEEN_QUESTIONS = 5.0
_BETWEEN_RECONNECTS = 60.0

log = structlog.get_logger()


class Holder(Protocol):
    """What knows the token of the connection; `rig.dialling.Dialler` does."""

    @property
    def sends_token(self) -> bool:
        """True if the connection was opened with a token."""

    async def has_another_token(self) -> bool:
        """
        Ask the provider whether it has another token than that.

        Raises:
            TokenUnavailable: If there is none that may be sent.
        """

    def renew(self, *, refused: bool) -> None:
        """Ask for a token in the background."""


class Renewal:
    """Watches the joins of one connection. All methods are called on the loop's thread."""

    def __init__(self, dialler: Holder, reconnect: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Remember whom to ask and whom to tell.

        Args:
            dialler: Has the provider, and knows the token of the connection.
            reconnect: Ends the connection so that the next one follows; called with the reason.
            clock: Returns seconds.
        """
        self._dialler, self._reconnect, self._clock = dialler, reconnect, clock
        self._refused: set[str] = set()
        self._tried: set[str] = set()
        self._not_before = -math.inf
        self._asking: asyncio.Task[None] | None = None

    def note(self, event: events.Event) -> None:
        """Look at what happened to a channel; everything else is passed over."""
        match event:
            case events.JoinRejected(topic=topic, unauthorized=unauthorized):
                self._dialler.renew(refused=unauthorized)
                if unauthorized:
                    self._join_refused(topic)
            case events.ChannelErrored():
                self._dialler.renew(refused=False)
            case events.ChannelClosed(topic=topic, left=left):
                self._forget(topic)
                if not left:
                    self._dialler.renew(refused=False)
            case events.Joined(topic=topic):
                self._forget(topic)

    @property
    def asking(self) -> bool:
        """True while a token is asked for because of a join that was refused."""
        return self._asking is not None and not self._asking.done()

    async def close(self) -> None:
        """Stop what goes on in the background."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _join_refused(self, topic: str) -> None:
        self._refused.add(topic)
        if topic in self._tried or self._clock() < self._not_before or not self._dialler.sends_token:
            return
        self._not_before = self._clock() + _BETWEEN_QUESTIONS
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask(), name="renew-token")

    async def _ask(self) -> None:
        try:
            if not await self._dialler.has_another_token():
                return
        except TokenUnavailable as exc:
            log.warning("a join was refused, and there is no new token", reason=str(exc))
            return
        except Exception:
            log.exception("the provider is broken")
            return
        self._tried |= self._refused
        self._not_before = self._clock() + _BETWEEN_RECONNECTS
        log.info("a join was refused with the token of the connection; reconnecting with a fresh one", topics=len(self._refused))
        self._reconnect("a fresh token")

    def _forget(self, topic: str) -> None:
        self._refused.discard(topic)
        self._tried.discard(topic)
