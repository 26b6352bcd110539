"""`rig login`: store a token, so that it stands in no configuration and on no command line."""

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rig.auth import Token

_LONGEST_NAME = 64
_EPILOG = """\b
Examples:
  rig login                                     asks for the token; then: rig run --auth keyring:default
  rig login staging
  vault read -field=token app | rig login staging --token -
"""


def _only_stdin(context: click.Context, parameter: click.Parameter, value: str | None) -> bool:
    if value not in (None, "-"):
        # The message must not repeat what other users of this machine can see already.
        raise click.BadParameter("a token on the command line can be read by others; write --token - and send it to stdin")
    return value == "-"


def _no_token(context: click.Context, parameter: click.Parameter, value: str) -> str:
    from rig.auth.token import claims

    if not value.strip() or len(value) > _LONGEST_NAME or claims(value):
        raise click.BadParameter("that is no name; the token itself is asked for, or read from stdin with --token -")
    return value


@click.command(epilog=_EPILOG)
@click.argument("name", default="default", callback=_no_token)
@click.option(
    "--token", "from_stdin", callback=_only_stdin, metavar="-", help="Read the token from stdin instead of asking for it."
)
def login(name: str, *, from_stdin: bool) -> int:
    """
    Store a token under NAME ("default" if there is none), for --auth keyring:NAME.

    It goes into the keyring of the system, or where there is none that can be used, into a file that only you can read.
    """
    import time

    from rig.auth import Token
    from rig.errors import TokenUnavailable

    token = Token.read(sys.stdin.read() if from_stdin else _ask(), provider="what was typed")
    if token.expired(time.time()):
        raise TokenUnavailable("what was typed", "the token has expired: get a new one")
    click.echo(f"Stored in {_store(name, token)}. Use it with --auth keyring:{name}")
    return 0


def _ask() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask at: send the token to stdin and write --token -")
    text: str = click.prompt("Token", hide_input=True)
    return text


def _store(name: str, token: "Token") -> str:
    """Store it in one place only: a copy that is forgotten elsewhere would outlive the next `rig logout`."""
    from rig.auth.stores import FileStore, KeyringStore, keyring_store

    store, files = keyring_store(), FileStore()
    if isinstance(store, KeyringStore):
        store.write(name, token)
        files.delete(name)
        return store.where
    click.echo(f"Note: {store}.", err=True)
    return str(files.write(name, token))
