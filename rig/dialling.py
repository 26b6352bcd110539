"""
How a connection gets its transport: the token, then the endpoint that carries it, then WebSocket or long-poll.

The provider is asked anew for every attempt, unless the token itself says that it is good for long. A server that answers
401 or 403 may only have found the token too old, so the provider is asked once more, and if it has another token the server
is, before the attempt counts as refused.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import structlog

from rig.auth import Token, TokenSource, provider
from rig.config import Settings
from rig.errors import AuthenticationRefused, ConfigError
from rig.log import Throttle, hide
from rig.transport import Endpoint, Transport, TransportChoice, TransportOwner

_IN_JOINS = "join:"
_warned = Throttle(math.inf)

log = structlog.get_logger()


class Choice(Protocol):
    """What picks the transport; `rig.transport` has it."""

    async def dial(self, endpoint: Endpoint, owner: TransportOwner, *, connect_timeout: float, max_frame_bytes: int) -> Transport:
        """
        Return an open transport.

        Raises:
            ConnectError: If there is none.
        """


class Dialler:
    """
    The `Dial` of a connection. All methods are called on the loop's thread.

    Attributes:
        endpoint: Where it connects, without the token.
        choice: Which transport is taken.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tokens: TokenSource,
        token_mode: str,
        choice: Choice,
        connect_timeout: float,
        max_frame_bytes: int,
        params: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        """
        Put the parts together.

        Args:
            endpoint: Where to connect.
            tokens: Where the token comes from.
            token_mode: How it travels: `join:NAME` puts it into the payload of every join, the others are those of
                `Endpoint.with_token`.
            choice: Which transport to take.
            connect_timeout: Seconds for one attempt, beside the time that the provider takes.
            max_frame_bytes: Limit of one message.
            params: Asked for the connect params of each attempt, instead of the endpoint's.

        Raises:
            ConfigError: If the token would travel unencrypted to another host, or `token_mode` is none that there is.
        """
        self.choice, self._params = choice, params
        self._tokens, self._mode = tokens, token_mode
        self._sent: Token | None = None
        self._connect_timeout, self._max_frame_bytes = connect_timeout, max_frame_bytes
        if tokens.gives_tokens and not endpoint.may_carry_secrets:
            raise ConfigError(
                f"the token of {tokens.name} would travel unencrypted to {endpoint.host}: write wss:// instead of ws://, "
                "or allow it with --insecure"
            )
        in_joins = tokens.gives_tokens and token_mode.startswith(_IN_JOINS)
        self._join_field = token_mode.removeprefix(_IN_JOINS) if in_joins else None
        self.endpoint = replace(endpoint, token_follows=in_joins)
        if tokens.gives_tokens and not in_joins:
            endpoint.with_token("any", token_mode)  # a mode that cannot be used is found now

    @classmethod
    def of(
        cls, settings: Settings, *, tokens: TokenSource | None = None, params: Callable[[], Mapping[str, str]] | None = None
    ) -> "Dialler":
        """
        Make the dialler that the settings describe.

        Args:
            settings: With a URL.
            tokens: Instead of the provider that the settings name.
            params: As in the constructor.

        Raises:
            ConfigError: If a setting cannot be used.
        """
        endpoint = endpoint_of(settings)
        endpoint.ssl_context()  # a file that holds no certificate is an error now, and not at each attempt
        tokens = tokens or TokenSource(provider(settings.auth, timeout=settings.auth_timeout))
        _warn_of_risk(endpoint, gives_tokens=tokens.gives_tokens)
        return cls(
            endpoint,
            tokens=tokens,
            token_mode=settings.auth_mode,
            choice=TransportChoice(settings.transport, fallback_timeout=settings.fallback_timeout),
            connect_timeout=settings.connect_timeout,
            max_frame_bytes=settings.max_frame_bytes,
            params=params,
        )

    async def __call__(self, owner: TransportOwner) -> Transport:
        """
        Return an open transport.

        Raises:
            ConnectError: If there is none, see `rig.transport.TransportChoice` and `rig.auth`. What `params` raises comes out too.
        """
        token = await self._tokens.get()
        try:
            return await self._dial(owner, token)
        except AuthenticationRefused:
            if token is None or self._join_field is not None:
                raise  # it was not the token
            fresh = await self._tokens.renew(token)
            if fresh is None or fresh.value == token.value:
                raise
            log.info("the token was refused; trying the fresh one", provider=self._tokens.name)
            return await self._dial(owner, fresh)

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

    async def _dial(self, owner: TransportOwner, token: Token | None) -> Transport:
        endpoint = self.endpoint if self._params is None else replace(self.endpoint, params=self._params())
        if token is not None:
            hide(token.value)
            if self._join_field is None:
                endpoint = endpoint.with_token(token.value, self._mode)
        for secret in endpoint.secret_values():
            hide(secret)
        transport = await self.choice.dial(
            endpoint, owner, connect_timeout=self._connect_timeout, max_frame_bytes=self._max_frame_bytes
        )
        self._sent = token if self._join_field is None else None
        return transport


def _warn_of_risk(endpoint: Endpoint, *, gives_tokens: bool) -> None:
    """Say once a process and server what `--insecure` has allowed."""
    if endpoint.exposed and (gives_tokens or endpoint.secrets()):
        risk = "secrets travel unencrypted to another host: anybody in between can read them"
    elif endpoint.secure and endpoint.insecure and not endpoint.pins:
        risk = "the server's certificate is not checked: anybody in between can read and change everything"
    else:
        return
    server = f"{endpoint.host}:{endpoint.port}"
    if _warned.allow((risk, server), 0.0) is not None:
        log.warning(risk, server=server, setting="insecure")


def endpoint_of(settings: Settings) -> Endpoint:
    """
    Return where the settings lead.

    Raises:
        ConfigError: If a part cannot be used, or a secret would travel unencrypted to another host.
    """
    return Endpoint(
        url=settings.url or "",
        params=settings.param,
        headers=settings.header,
        vsn=settings.vsn,
        ca_file=settings.ca,
        cert_file=settings.cert,
        key_file=settings.key,
        pins=settings.pin,
        proxy=settings.proxy,
        insecure=settings.insecure,
    )
