"""`rig whoami`: which token there is, whose, and until when; never the token."""

import asyncio
import datetime
import time
from typing import TYPE_CHECKING

import click

from rig.cli.options import SOURCES_NOTE, with_settings
from rig.config import Loaded

if TYPE_CHECKING:
    from rig.auth import Token

_NOBODY, _EXPIRED = 1, 4
_EPILOG = f"""\b
Examples:
  rig whoami
  rig whoami staging                            what rig login staging has stored
  rig whoami --auth 'command:gcloud auth print-access-token'

{SOURCES_NOTE}
"""


@click.command(epilog=_EPILOG)
@with_settings("whoami")
@click.argument("name", required=False)
def whoami(loaded: Loaded, name: str | None) -> int:
    """
    Show where the token comes from, whose it is and until when it is good.

    It is the token of NAME, else that of --auth, else the one that `rig login` stored. Ends with 1 if there is none, with 4 if it
    has expired. What a JWT says is shown without checking its signature.
    """
    from rig import log
    from rig.auth import provider
    from rig.auth.keyring import KeyringProvider
    from rig.errors import TokenUnavailable

    settings = loaded.settings
    log.configure(settings.log_level, settings.log_format, process="whoami")
    stored = f"keyring:{name or 'default'}"
    source = provider(stored if name or settings.auth == "none" else settings.auth, timeout=settings.auth_timeout)
    try:
        token = asyncio.run(source.fetch())
    except TokenUnavailable as exc:
        click.echo(f"Error: {log.mask(str(exc))}", err=True)
        return _NOBODY
    if token is None:
        click.echo(f"Error: {source.name} gives no token", err=True)
        return _NOBODY
    log.hide(token.value)
    where = f" ({source.where})" if isinstance(source, KeyringProvider) else ""
    return _show(f"{source.name}{where}", token)


def _show(name: str, token: "Token") -> int:
    from rig.auth.token import claims
    from rig.log import mask

    subject = claims(token.value).get("sub")
    # Claims are somebody else's text, and the terminal obeys control characters.
    whose = mask("".join(char if char.isprintable() else "?" for char in str(subject))) if subject else "unknown: it does not say"
    click.echo(f"from   {name}")
    click.echo(f"whose  {whose}")
    click.echo(f"until  {_until(token)}")
    return _EXPIRED if token.expired(time.time()) else 0


def _until(token: "Token") -> str:
    if token.expires_at is None:
        return "unknown: it does not say"
    left = token.expires_at - time.time()
    try:
        when = datetime.datetime.fromtimestamp(token.expires_at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        when = f"{token.expires_at:g} s after 1970"
    return f"{when} ({'expired' if left <= 0 else f'{left:.0f} s left'})"
