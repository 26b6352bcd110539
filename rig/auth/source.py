"""
The token of the moment: asks the provider, remembers, and looks ahead.

What must stay true: a token that has expired is never given out; nobody asks a provider that is being asked; whoever stops
waiting for an answer does not take it from the others; what the provider says is gone is forgotten at once.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from rig.auth.provider import NoToken, Provider, ReadyProvider
from rig.auth.token import Token
from rig.errors import TokenMissing, TokenUnavailable

_LEAST_MARGIN, _MOST_MARGIN = 5.0, 60.0
_MARGIN_SHARE = 0.1
_LEAST_PAUSE = 1.0
"""Seconds between two looks ahead, however short tokens live."""
_LONGEST_TIMER = 3600.0
"""Seconds after which the wall clock is looked at again, whatever became of it: somebody set it, or the machine slept."""
_BETWEEN_RENEWALS = 5.0
"""Seconds between two questions that nobody waits for."""

log = structlog.get_logger()


class Timer(Protocol):
    """What `loop.call_later` returns."""

    def cancel(self) -> None:
        """Call nothing."""


class TokenSource:
    """One provider's tokens, for one connection. All methods are called on the loop's thread."""

    def __init__(
        self,
        provider: Provider,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], Timer] | None = None,
    ) -> None:
        """
        Remember whom to ask; nothing is asked yet.

        Args:
            provider: Where tokens come from.
            clock: Wall-clock seconds, in which tokens expire.
            monotonic: Seconds for the pause between two questions.
            call_later: Instead of the running loop's.
        """
        self._provider, self._clock, self._monotonic, self._call_later = provider, clock, monotonic, call_later
        self._latest: Token | None = None
        self._reason: str | None = "it has not answered yet: it is tried again"
        self._margin = 0.0
        self._refused: str | None = None
        self._asked_at = self._renewed_at = float("-inf")
        self._flight: asyncio.Task[Token | None] | None = None
        self._timer: Timer | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """The provider's name, for logs and errors."""
        return self._provider.name

    @property
    def gives_tokens(self) -> bool:
        """False if there is never a token."""
        return not isinstance(self._provider, NoToken)

    async def get(self) -> Token | None:
        """
        Return a token to connect with: the provider's answer, or the last one if it says itself that it is still good for long.

        If the provider fails, the last one goes on as long as it has not expired.

        Raises:
            TokenUnavailable: If there is none that may be sent.
        """
        if self._good_for_long():
            return self._latest
        return await self._ask()

    async def renew(self, old: Token | None) -> Token | None:
        """
        Return the token that is to take the place of one that was refused; it is the same where the provider has no other.

        Args:
            old: What the server refused.

        Raises:
            TokenUnavailable: If there is none that may be sent.
        """
        if old is not None:
            self._refused = old.value
        if self._flight is not None:  # it may have begun before the refusal
            token = await self._ask()
            if token is not None and token.value != self._refused:
                return token
        return await self._ask()

    def peek(self) -> str | None:
        """
        Return the newest token without waiting, None if none is needed.

        A provider that needs no waiting is asked now. Another one is asked in the background, for the next time.

        Raises:
            TokenUnavailable: If there is none that may be sent now.
        """
        if isinstance(self._provider, ReadyProvider):
            self._answer(self._provider.read)
        elif not self._good_for_long():
            self.ask()
        if self._reason is not None:
            raise TokenUnavailable(self.name, self._reason)
        token = self._latest
        if token is None:
            return None
        if token.expired(self._clock()):
            raise TokenUnavailable(self.name, "the last one has expired, and the next one is not there yet: it is tried again")
        return token.value

    def ask(self, *, refused: bool = False) -> None:
        """
        Ask the provider in the background, if it was not asked just now.

        Args:
            refused: True if the server did not take the latest token. All refusals within five seconds are one.
        """
        now = self._monotonic()
        if self._closed or now - (self._renewed_at if refused else self._asked_at) < _BETWEEN_RENEWALS:
            return
        if refused:
            self._renewed_at = now
            self._refused = None if self._latest is None else self._latest.value
        self._in_background()

    async def close(self) -> None:
        """Stop asking."""
        self._closed = True
        self._arm(None)
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    # The one question at a time.

    async def _ask(self) -> Token | None:
        return await asyncio.shield(self._flying())

    def _flying(self) -> "asyncio.Task[Token | None]":
        if self._flight is None:
            self._flight = asyncio.get_running_loop().create_task(self._fetch(), name="fetch-token")
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, flight: "asyncio.Task[Token | None]") -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()  # whoever waits has it; if nobody does, asyncio must not complain

    def _in_background(self) -> None:
        if self._flight is None:
            self._flying().add_done_callback(self._report)

    def _report(self, flight: "asyncio.Task[Token | None]") -> None:
        error = None if flight.cancelled() else flight.exception()
        if isinstance(error, TokenUnavailable):
            log.warning("no new token", provider=self.name, reason=error.reason)
        elif error is not None:
            log.error("the provider is broken", provider=self.name, exc_info=error)

    async def _fetch(self) -> Token | None:
        self._asked_at = self._monotonic()
        try:
            token = await self._provider.fetch()
        except TokenUnavailable as exc:
            return self._failed(exc)
        return self._accepted(token)

    def _answer(self, read: Callable[[], Token | None]) -> Token | None:
        self._asked_at = self._monotonic()
        try:
            token = read()
        except TokenUnavailable as exc:
            return self._failed(exc)
        return self._accepted(token)

    # What comes of the answer.

    def _accepted(self, token: Token | None) -> Token | None:
        now = self._clock()
        if token is not None and token.expired(now):
            return self._failed(TokenUnavailable(self.name, "the token that it gave has expired: let it give a new one"))
        known = self._latest is not None and token is not None and token.value == self._latest.value
        self._latest, self._reason = token, None
        if token is None or token.expires_at is None:
            self._arm(None)
            return token
        left = token.expires_at - now
        if known and left <= self._margin:
            self._arm(max(_LEAST_MARGIN, left / 2))  # it has no new one yet
        else:
            self._margin = min(max(left * _MARGIN_SHARE, _LEAST_MARGIN), _MOST_MARGIN, left / 2)
            self._arm(max(_LEAST_PAUSE, left - self._margin))
        return token

    def _failed(self, error: TokenUnavailable) -> Token | None:
        """Go on with the last token if it may still be sent."""
        now, old = self._clock(), self._latest
        if isinstance(error, TokenMissing) or old is None or old.expired(now):
            self._latest, self._reason = None, error.reason
            self._arm(None)
            raise error
        log.warning("no new token; going on with the last one", provider=self.name, reason=error.reason)
        self._arm(None if old.expires_at is None else max(_LEAST_MARGIN, (old.expires_at - now) / 2))
        return old

    def _good_for_long(self) -> bool:
        token = self._latest
        if token is None or token.expires_at is None or token.value == self._refused:
            return False
        return token.expires_at - self._clock() > self._margin

    # Looking ahead.

    def _arm(self, delay: float | None) -> None:
        """Look again after so many seconds, or not at all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay is not None and not self._closed:
            call_later = self._call_later or asyncio.get_running_loop().call_later
            self._timer = call_later(min(delay, _LONGEST_TIMER), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._good_for_long() and self._latest is not None and self._latest.expires_at is not None:
            # Early: the timer was cut to an hour, or the two clocks do not agree to the millisecond.
            self._arm(self._latest.expires_at - self._margin - self._clock())
        else:
            self._in_background()
