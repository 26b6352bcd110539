"""
Click options made from the declarations in `rig.config`.

What must stay true: no option of a command is written down here. Click reads texts only; `rig.config.load` decides what they
mean, so that flag, variable and file are checked by one rule and refused with one sentence.
"""

import functools
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rig.cli.main import Session
from rig.config import Loaded, Option, load, options

if TYPE_CHECKING:
    from rig.client import Client, Pool

SOURCES_NOTE = "Every option is also an environment variable, RIG_…, and a key in rig.toml or in [tool.rig] of pyproject.toml."


def with_settings(command: str) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """
    Give a click command its options, and call it with what they load to as its first argument.

    Raises:
        ConfigError: When the command is called with a setting that cannot be used.
    """
    declared = options(command)

    def decorate(function: Callable[..., int | None]) -> Callable[..., int | None]:
        @functools.wraps(function)
        def call(**values: object) -> int | None:
            loaded = load(command, {option.name: values.pop(option.name) for option in declared}, os.environ)
            os.environ.update(loaded.environment)
            session = click.get_current_context().ensure_object(Session)
            session.debug = session.debug or loaded.settings.debug
            return function(loaded, **values)

        for option in reversed(declared):
            _parameter(option, command)(call)
        return call

    return decorate


def connect(loaded: Loaded) -> "AbstractAsyncContextManager[Client | Pool]":
    """
    Dial the socket that the settings describe.

    Raises:
        ConnectError: On entering, if no connection comes about.
    """
    from rig.client import connect_with

    return connect_with(loaded.settings)


def decode_json(text: str, what: str) -> Any:
    """
    Decode JSON that the user has typed.

    Args:
        what: How the message names it: "JSON", "--join-payload".

    Raises:
        click.BadParameter: If it is malformed; the message names the position.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        reason = str(exc).removeprefix("JSON is malformed: ")
        raise click.BadParameter(f"{text if len(text) <= 60 else text[:59] + '…'} is not JSON: {reason}", param_hint=what) from exc


def _parameter(option: Option, command: str) -> Callable[[Any], Any]:
    """Build the click parameter of one option; None means that it was not given."""
    spelling = option.spelling(command)
    if not spelling[0].startswith("-"):
        return click.argument(option.name, required=not spelling[0].startswith("["), metavar=spelling[0], default=None)
    names = [*spelling[:-1], f"{spelling[-1]}/--no-{spelling[-1][2:]}"] if option.boolean else [*spelling]
    extra: dict[str, Any] = {} if option.boolean else {"metavar": option.metavar, "multiple": option.repeatable}
    return click.option(option.name, *names, default=None, help=_help(option), **extra)


def _help(option: Option) -> str:
    text, shown = option.about.help, option.show(option.default)
    default = "" if shown in ("-", "no") else f"  [default: {shown}]"
    return f"{text[0].upper()}{text[1:]}.{default}"
