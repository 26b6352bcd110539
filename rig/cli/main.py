"""
The `rig` command itself: what its sub-commands have in common.

What must stay true: whatever goes wrong, the user reads a sentence that says what to do, on stderr and without secrets, and
the exit code says what kind of fault it was: 0 none, 1 refused or not ready, 2 usage, 3 start-up, 4 authentication,
130 interrupted. A sub-command's file is imported when it is called, so that help and completion stay quick.
"""

import difflib
import sys
from typing import Any, NoReturn

import click

from rig.errors import RigError

INTERRUPTED = 130
_COMMANDS = {
    "run": "Run your handlers on live events.",
    "check": "Show what would be run, and where each setting comes from.",
    "topics": "List the topics of a run, or move them to a new connection.",
    "listen": "Print the events of topics, one line each.",
    "push": "Push one event and print the reply.",
    "outbox": "Look after the pushes that wait for the server.",
    "deadletters": "Look after the events and pushes that failed for good.",
    "login": "Store a token for --auth keyring:NAME.",
    "logout": "Delete a stored token.",
    "whoami": "Show whose token there is, and until when.",
    "bench": "Measure throughput and latency of this machine.",
    "mock": "Run the bundled Phoenix server.",
}
_EXAMPLES = """\b
Examples:
  rig run                                                 the demo, on the bundled mock server
  rig run shop:app --url wss://shop.example/socket -w 4
  rig check shop:app                                      what would be run
  rig listen ws://localhost:4000/socket room:lobby
  rig push ws://localhost:4000/socket room:lobby new_msg '{"body": "hi"}'
"""


class Session:
    """What the group and its commands share: whether an unexpected error shows its traceback."""

    debug = False


class RigGroup(click.Group):
    """A group that imports its commands when they are called, and ends with a sentence and an exit code."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """
        Run a command line, as `click.Group.main`, and end the process.

        Raises:
            SystemExit: Always.
        """
        session = Session()
        try:
            code = super().main(*args, **(extra | {"standalone_mode": False, "obj": session}))
        except click.ClickException as exc:
            exc.show()
            code = exc.exit_code
        except click.Abort:
            code = INTERRUPTED
        except RigError as exc:
            _report(str(exc))
            code = exc.exit_code
        except Exception as exc:
            code = _report_unexpected(exc, session)
        sys.exit(code or 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which a new user needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in _COMMANDS:
            return None
        import importlib

        command: click.Command = getattr(importlib.import_module(f"rig.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a line, or say which one may be meant."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, _COMMANDS, n=1)
            ctx.fail(
                f"There is no command {name!r}; " + (f"did you mean {close[0]}?" if close else f"there are {', '.join(_COMMANDS)}.")
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _report(sentence: str) -> None:
    from rig.log import mask

    click.echo(f"Error: {mask(sentence)}", err=True)


def _report_unexpected(exc: Exception, session: Session) -> int:
    if session.debug:
        import traceback

        from rig.log import mask

        click.echo(mask("".join(traceback.format_exception(exc))), err=True, nl=False)
    else:
        _report(f"unexpected {type(exc).__name__}: {exc}. Run it again with --debug to see where it comes from.")
    return 1


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        libraries = ", ".join(f"{name} {_version(name)}" for name in ("picows", "uvloop", "msgspec"))
        click.echo(f"rig {_version('rig-channels')} (Python {sys.version.split()[0]}, {libraries})")
        context.exit()


def _version(distribution: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"


@click.group(
    cls=RigGroup,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the versions and exit."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@click.pass_obj
def main(session: Session, *, debug: bool) -> None:
    """Run your Python handlers on the events of Phoenix channels."""
    session.debug = debug
