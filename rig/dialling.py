"""
How a connection gets its transport: the token, then the endpoint that carries it, then WebSocket or long-poll.

The provider is asked anew for every attempt. A server that answers 401 or 403 may only have found the token too old, so
it is asked once more, and if it has another token the server is, before the attempt counts as refused.
"""

import asyncio
from typing import Any

import structlog

from rig.auth import Token, TokenSource
from rig.errors import AuthenticationRefused, ConfigError, TokenUnavailable
from rig.transport import Endpoint, Transport, TransportChoice, TransportOwner

_IN_JOINS = "join:"

log = structlog.get_logger()


class Dialler:
    """
    The `Dial` of a connection.

    Attributes:
        endpoint: Where it connects, without the token.
        choice: Which transport is taken, and why.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tokens: TokenSource,
        token_mode: str,
        choice: TransportChoice,
        connect_timeout: float,
        max_frame_bytes: int,
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

        Raises:
            ConfigError: If the token would travel unencrypted to another host.
        """
        self.endpoint, self.choice = endpoint, choice
        self._tokens, self._mode = tokens, token_mode
        self._connect_timeout, self._max_frame_bytes = connect_timeout, max_frame_bytes
        self._renewing: asyncio.Task[None] | None = None
        if tokens.gives_tokens and not endpoint.may_carry_secrets:
            raise ConfigError(
                f"the token of {tokens.name} would travel unencrypted to {endpoint.host}: write wss:// instead of ws://, "
                "or allow it with --insecure"
            )

    async def __call__(self, owner: TransportOwner) -> Transport:
        """
        Return an open transport.

        Raises:
            ConnectError: If there is none, see `rig.transport.dial` and `rig.auth`.
        """
        token = await self._tokens.get()
        try:
            return await self._dial(owner, token)
        except AuthenticationRefused:
            fresh = await self._tokens.renew(token)
            if fresh is None or token is None or fresh.value == token.value:
                raise
            log.info("the token was refused; trying the fresh one", provider=self._tokens.name)
            return await self._dial(owner, fresh)

    def join_payload(self, payload: Any) -> Any:
        """
        Return the payload of a topic's joins: as it is, or with the token where the token travels so.

        Args:
            payload: An object, or a callable that is asked at each join.
        """
        if not self._mode.startswith(_IN_JOINS) or not self._tokens.gives_tokens:
            return payload
        name = self._mode.removeprefix(_IN_JOINS)

        def with_token() -> dict[str, Any]:
            fields = payload() if callable(payload) else payload
            return {**fields, name: self._tokens.peek()}

        return with_token

    def renew(self, *, refused: bool) -> None:
        """
        Ask for a token in the background, so that the next join has a fresh one.

        Args:
            refused: True if the server said that the one that it got is not good.
        """
        if self._tokens.gives_tokens and self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew(refused=refused), name="renew-token")
            self._renewing.add_done_callback(self._renewed)

    async def close(self) -> None:
        """Stop what goes on in the background."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self._tokens.close()

    async def _dial(self, owner: TransportOwner, token: Token | None) -> Transport:
        endpoint = self.endpoint
        if token is not None and not self._mode.startswith(_IN_JOINS):
            endpoint = endpoint.with_token(token.value, self._mode)
        return await self.choice.dial(endpoint, owner, connect_timeout=self._connect_timeout, max_frame_bytes=self._max_frame_bytes)

    async def _renew(self, *, refused: bool) -> None:
        try:
            token = await self._tokens.get()
            if refused:
                await self._tokens.renew(token)
        except TokenUnavailable as exc:
            log.warning("no fresh token", provider=self._tokens.name, reason=exc.reason)

    def _renewed(self, task: "asyncio.Task[None]") -> None:
        self._renewing = None
