"""`rig whoami`: which token there is, whose, and until when; never the token."""

import asyncio
import datetime
import time
from typing import TYPE_CHECKING

import click
import msgspec

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
  rig whoami --json | jq .expires_at            null where the token does not say

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
    where = source.where if isinstance(source, KeyringProvider) else None
    (_print_json if settings.json else _print)(source.name, where, token)
    return _EXPIRED if token.expired(time.time()) else 0


def _print(name: str, where: str | None, token: "Token") -> None:
    click.echo(f"from   {name}{f' ({where})' if where else ''}")
    click.echo(f"whose  {_subject(token) or 'unknown: it does not say'}")
    click.echo(f"until  {_until(token)}")


def _print_json(name: str, where: str | None, token: "Token") -> None:
    expired = token.expired(time.time())
    shown = {"from": name, "where": where, "subject": _subject(token), "expires_at": token.expires_at, "expired": expired}
    click.echo(msgspec.json.encode(shown).decode())


def _subject(token: "Token") -> str | None:
    from rig.auth.token import claims
    from rig.log import mask

    subject = claims(token.value).get("sub")
    # Claims are somebody else's text, and the terminal obeys control characters.
    return mask("".join(char if char.isprintable() else "?" for char in str(subject))) if subject else None


def _until(token: "Token") -> str:
    if token.expires_at is None:
        return "unknown: it does not say"
    left = token.expires_at - time.time()
    try:
        when = datetime.datetime.fromtimestamp(token.expires_at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        when = f"{token.expires_at:g} s after 1970"
    return f"{when} ({'expired' if left <= 0 else f'{left:.0f} s left'})"
