"""
Where a token comes from: what `--auth` may say, and what each kind of provider owes.

What must stay true: a provider's name has no secret in it; of a command it shows the first word only.
"""

import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, runtime_checkable

from rig.auth.token import Token
from rig.errors import ConfigError, TokenMissing, TokenUnavailable

GetToken: TypeAlias = Callable[[], str | Awaitable[str | None] | None]
"""A function of the caller's that returns the token of the moment, or None if none is needed."""


class Provider(Protocol):
    """Gives the token of the moment, each time it is asked."""

    @property
    def name(self) -> str:
        """What logs and errors call it."""

    async def fetch(self) -> Token | None:
        """
        Return the token, or None if none is needed.

        Raises:
            TokenUnavailable: If it has none now; the one that it gave before may still be good.
            TokenMissing: If there is none, so that the one before must not be sent any longer.
        """


@runtime_checkable
class ReadyProvider(Provider, Protocol):
    """A provider that nobody needs to wait for."""

    def read(self) -> Token | None:
        """
        Return what `fetch` would.

        Raises:
            TokenUnavailable: As `fetch`.
        """


class NoToken:
    """`none`: the server asks for no token."""

    name = "none"

    def read(self) -> None:
        """Return None."""
        return

    async def fetch(self) -> None:
        """Return None."""
        return


class EnvProvider:
    """`env:VAR`: an environment variable of this process, which may come from `--env-file`."""

    def __init__(self, variable: str) -> None:
        self._variable = variable
        self.name = f"env:{variable}"

    def read(self) -> Token:
        """
        Read the variable.

        Raises:
            TokenMissing: If it is not set, or empty.
            TokenUnavailable: If what is in it cannot be a token.
        """
        text = os.environ.get(self._variable, "")
        if not text.strip():
            raise TokenMissing(self.name, f"{self._variable} is not set: set it in the environment, or name an --env-file")
        return Token.read(text, provider=self.name)

    async def fetch(self) -> Token:
        """Return what `read` does."""
        return self.read()


class FunctionProvider:
    """A plain or an async function of whoever calls `rig.connect`."""

    def __init__(self, function: GetToken) -> None:
        self._function = function
        self.name = f"function:{getattr(function, '__qualname__', type(function).__name__)}"

    async def fetch(self) -> Token | None:
        """
        Call the function.

        Raises:
            TokenUnavailable: If it raises, which is the cause and not in the message; or what it returns cannot be a token.
        """
        try:
            given = self._function()
            text = await given if inspect.isawaitable(given) else given
        except Exception as exc:
            raise TokenUnavailable(self.name, f"it raised {type(exc).__name__}") from exc
        if text is None:
            return None
        if not isinstance(text, str):
            raise TokenUnavailable(self.name, f"it returned {type(text).__name__}: let it return the token as a text, or None")
        return Token.read(text, provider=self.name)


def provider(spec: str | GetToken, *, timeout: float = 10.0) -> Provider:
    """
    Make the provider that `--auth` names.

    Args:
        spec: `none`, `env:VAR`, `file:PATH`, `command:CMD` or `keyring:NAME`; or a function, which may be async.
        timeout: Seconds that a command or the keyring may take.

    Raises:
        ConfigError: If it is none of these, or what follows the colon cannot be used. The message does not repeat it.
    """
    from rig.auth.command import CommandProvider
    from rig.auth.file import FileProvider
    from rig.auth.keyring import KeyringProvider

    if not isinstance(spec, str):
        return FunctionProvider(spec)
    kind, colon, rest = spec.partition(":")
    match kind, rest.strip():
        case "none", "" if not colon:
            return NoToken()
        case "env", name if name:
            return EnvProvider(name)
        case "file", path if path:
            return FileProvider(path)
        case "command", command if command:
            return CommandProvider(command, timeout=timeout)
        case "keyring", name if name:
            return KeyringProvider(name, timeout=timeout)
    # What was written instead may be the token itself.
    raise ConfigError(
        "--auth must be none, env:VAR, file:PATH, command:CMD or keyring:NAME; the token itself does not belong there"
    )
