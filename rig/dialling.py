"""
How a connection gets its transport: the token, then the endpoint that carries it, then WebSocket or long-poll.

One attempt goes over all endpoints until one takes us, the preferred one first unless it has failed lately. The provider is asked
anew for every attempt, unless the token itself says that it is good for long. A server that answers 401 or 403 may only have
found the token too old, so the provider is asked once more, and if it has another token the server is, before the endpoint counts
as one that refuses it.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import structlog

from rig.auth import Token, TokenSource, provider
from rig.backoff import Cause
from rig.config import Settings
from rig.endpoints import Candidate, Endpoints, endpoints_of, warn_of_risk
from rig.errors import AuthenticationRefused, ConfigError, RigError
from rig.log import hide
from rig.phoenix import events
from rig.transport import Endpoint, Transport, TransportChoice, TransportOwner

_IN_JOINS = "join:"
_GO_ELSEWHERE = (1008, 1012, 1013)
"""Close codes of a server that will not have us back at once: it drains, is busy, or does not like us."""

log = structlog.get_logger()


class Dialler:
    """
    The `Dial` of a connection. All methods are called on the loop's thread.

    Attributes:
        endpoints: Where it may connect, and how they have been.
        at: Where the latest connection was made to, None while there is none.
        fallback: Why its transport is not of the kind that was wanted; empty if it is. Another dialler of the same endpoints may
            have got one of another kind.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        *,
        tokens: TokenSource,
        token_mode: str,
        connect_timeout: float,
        max_frame_bytes: int,
        params: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        """
        Put the parts together.

        Args:
            candidates: Where to connect, at least one, the preferred one first.
            tokens: Where the token comes from.
            token_mode: How it travels: `join:NAME` puts it into the payload of every join, the others are those of
                `Endpoint.with_token`.
            connect_timeout: Seconds for one attempt at one endpoint, beside the time that the provider takes.
            max_frame_bytes: Limit of one message.
            params: Asked for the connect params of each attempt, instead of the endpoints'.

        Raises:
            ConfigError: If the token would travel unencrypted to another host, or `token_mode` is none that there is.
        """
        self.endpoints, self._params = Endpoints(candidates), params
        self._tokens, self._mode = tokens, token_mode
        self._connect_timeout, self._max_frame_bytes = connect_timeout, max_frame_bytes
        self._sent: Token | None = None
        self._among: Sequence[Candidate] | None = None
        self.at: Candidate | None = None
        self.fallback = ""
        in_joins = tokens.gives_tokens and token_mode.startswith(_IN_JOINS)
        self._join_field = token_mode.removeprefix(_IN_JOINS) if in_joins else None
        for candidate in candidates:
            self._check(candidate.endpoint)
            candidate.endpoint = replace(candidate.endpoint, token_follows=in_joins)

    @classmethod
    def of(
        cls, settings: Settings, *, tokens: TokenSource | None = None, params: Callable[[], Mapping[str, str]] | None = None
    ) -> "Dialler":
        """
        Make the dialler that the settings describe.

        Args:
            settings: With a URL at least.
            tokens: Instead of the provider that the settings name.
            params: As in the constructor.

        Raises:
            ConfigError: If a setting cannot be used.
        """
        endpoints = endpoints_of(settings)
        tokens = tokens or TokenSource(provider(settings.auth, timeout=settings.auth_timeout))
        for endpoint in endpoints:
            endpoint.ssl_context()  # a file that holds no certificate is an error now, and not at each attempt
            warn_of_risk(endpoint, gives_tokens=tokens.gives_tokens)
        return cls(
            [
                Candidate(endpoint, TransportChoice(settings.transport, fallback_timeout=settings.fallback_timeout))
                for endpoint in endpoints
            ],
            tokens=tokens,
            token_mode=settings.auth_mode,
            connect_timeout=settings.connect_timeout,
            max_frame_bytes=settings.max_frame_bytes,
            params=params,
        )

    def another(self, among: Sequence[Candidate] | None = None) -> "Dialler":
        """
        Return the dial of a second connection. The two share the provider, and what is known of the endpoints.

        Args:
            among: Where its first attempt may lead, anywhere if None. Once it has a connection it may go anywhere.
        """
        other = copy(self)
        other.at, other.fallback, other._sent, other._among = None, "", None, among
        return other

    async def __call__(self, owner: TransportOwner) -> Transport:
        """
        Return an open transport.

        Raises:
            ConnectError: If there is none, see `rig.transport.TransportChoice` and `rig.auth`; of several endpoints `NoEndpoint`.
                What `params` raises comes out too.
        """
        self.at = None
        token = await self._tokens.get()
        params = None if self._params is None else self._params()
        for candidate in self.endpoints.order(self._among):
            try:
                try:
                    transport = await self._dial(candidate, owner, token, params)
                except AuthenticationRefused as refusal:
                    token = await self._fresh(token, refusal)
                    transport = await self._dial(candidate, owner, token, params)
            except RigError as exc:
                candidate.failed(exc)
                if len(self.endpoints.all) > 1:
                    log.info("endpoint failed", endpoint=candidate.endpoint.display, reason=str(exc))
                continue
            candidate.opened()
            self.at, self.fallback, self._among = candidate, candidate.choice.fallback, None
            self._sent = token if self._join_field is None else None
            self._say_where(candidate)
            return transport
        raise self.endpoints.failure(self._among)

    def lost(self, event: events.SocketClosed) -> bool:
        """
        Note that the connection ended, and return True if there is nothing to wait for: its server said that it will not have us
        back at once, and another is well.
        """
        lost, self.at = self.at, None
        if lost is None or event.delay is None or event.cause is Cause.REQUESTED:
            return False
        lost.lost(event.reason or (str(event.cause) if event.code is None else f"close code {event.code}"), event.code)
        return event.code in _GO_ELSEWHERE and self.endpoints.another_is_well(lost)

    @property
    def endpoint(self) -> Endpoint:
        """Where the connection is, or where it goes first."""
        return (self.at or self.endpoints.first).endpoint

    def join_payload(self, payload: Any) -> Any:
        """
        Return the payload of a topic's joins: as it is, or with the token where the token travels so.

        What is returned then is a callable, asked at each join for the newest token. It raises `TokenUnavailable` where none
        may be sent: the core counts that as a refused join and tries again later.

        Args:
            payload: An object, or a callable that is asked at each join.

        Raises:
            ConfigError: If the payload has no place for the token, because it is not an object.
        """
        if self._join_field is None:
            return payload
        if not callable(payload) and not isinstance(payload, Mapping):
            raise ConfigError("the token travels in the payload of every join, so that must be an object: write {} at least")
        name = self._join_field

        def with_token() -> dict[str, Any]:
            fields = payload() if callable(payload) else payload
            token = self._tokens.peek()
            if token is None:
                return {**fields}
            hide(token)
            return {**fields, name: token}

        return with_token

    def renew(self, *, refused: bool) -> None:
        """
        Ask for a token in the background, so that the next join has a fresh one. Called as often as there are reasons to: it
        asks at most once in five seconds.

        Args:
            refused: True if the server said of a join that the token is not good; False before joins that nobody refused.
        """
        if self._join_field is not None:
            self._tokens.ask(refused=refused)

    @property
    def sends_token(self) -> bool:
        """True if the latest connection was opened with a token."""
        return self._sent is not None

    async def has_another_token(self) -> bool:
        """
        Ask the provider, and say whether it gives another token now than that of the latest connection; False if that had none.

        Raises:
            TokenUnavailable: If there is none that may be sent.
        """
        if self._sent is None:
            return False
        fresh = await self._tokens.renew(self._sent)
        return fresh is not None and fresh.value != self._sent.value

    async def close(self) -> None:
        """Stop what goes on in the background."""
        await self._tokens.close()

    def _check(self, endpoint: Endpoint) -> None:
        if not self._tokens.gives_tokens:
            return
        if not endpoint.may_carry_secrets:
            raise ConfigError(
                f"the token of {self._tokens.name} would travel unencrypted to {endpoint.host}: write wss:// instead of ws://, "
                "or allow it with --insecure"
            )
        if self._join_field is None:
            endpoint.with_token("any", self._mode)  # a mode that cannot be used is found now

    async def _fresh(self, token: Token | None, refusal: AuthenticationRefused) -> Token:
        """
        Return another token than the one that was refused.

        Raises:
            AuthenticationRefused: The refusal, if there is none, or it was not about the token.
            TokenUnavailable: If the provider fails.
        """
        if token is None or self._join_field is not None:
            raise refusal
        fresh = await self._tokens.renew(token)
        if fresh is None or fresh.value == token.value:
            raise refusal
        log.info("the token was refused; trying the fresh one", provider=self._tokens.name)
        return fresh

    async def _dial(
        self, candidate: Candidate, owner: TransportOwner, token: Token | None, params: Mapping[str, str] | None
    ) -> Transport:
        endpoint = candidate.endpoint if params is None else replace(candidate.endpoint, params=params)
        if token is not None:
            hide(token.value)
            if self._join_field is None:
                endpoint = endpoint.with_token(token.value, self._mode)
        for secret in endpoint.secret_values():
            hide(secret)
        return await candidate.choice.dial(
            endpoint, owner, connect_timeout=self._connect_timeout, max_frame_bytes=self._max_frame_bytes
        )

    def _say_where(self, candidate: Candidate) -> None:
        first = self.endpoints.first
        if candidate is not first:
            endpoint = candidate.endpoint.display
            log.warning("not at the first endpoint", endpoint=endpoint, first=first.endpoint.display, reason=first.reason)
