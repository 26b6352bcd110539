"""`rig deadletters`: the events and pushes that failed for good."""

from collections.abc import Callable
from typing import Any

import click

from rig.cli.options import SOURCES_NOTE, with_settings
from rig.cli.stored import (
    ID,
    Selection,
    change_rows,
    confirm,
    export_rows,
    list_rows,
    on_shelf,
    select,
    selection_options,
    show_rows,
    topic_option,
)
from rig.config import Loaded
from rig.routing import Pattern
from rig.store import DeadLetters

_COLUMNS = {
    "id": "id",
    "kind": "kind",
    "topic": "topic",
    "event": "event",
    "handler": "handler",
    "since": "buried_at",
    "retry": "retry",
    "reason": "reason",
}
_EPILOG = f"""\b
Examples:
  rig deadletters list --kind event
  rig deadletters show 7                      with the traceback and the payload as it came
  rig deadletters retry --topic 'room:*'
  rig deadletters export > letters.jsonl && rig deadletters purge --all

{SOURCES_NOTE}
"""


def _kind_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--kind", type=click.Choice(["event", "push"]), help="Only events, or only pushes.")(function)


@click.group(epilog=_EPILOG)
def deadletters() -> None:
    """
    Look after what failed for good: list, show, retry, purge, export.

    An event is here because its handler failed, a push because the server refused it or it came too late. They are in the state
    directory of a run, --state-dir, or the only one there is; the run may be running or not.
    """


@deadletters.command("list")
@with_settings("deadletters")
@topic_option
@_kind_option
@click.option("--all", "everything", is_flag=True, help="More than the oldest hundred.")
def list_(loaded: Loaded, topic: Pattern | None, kind: str | None, *, everything: bool) -> int:
    """List dead letters, oldest first."""
    selection = Selection(topic=topic, kind=kind)
    return on_shelf(
        loaded,
        DeadLetters,
        lambda shelf: list_rows(shelf, selection, _COLUMNS, everything=everything, as_json=loaded.settings.json),
    )


@deadletters.command
@with_settings("deadletters")
@click.argument("ids", nargs=-1, required=True, type=ID, metavar="ID...")
def show(loaded: Loaded, ids: tuple[int, ...]) -> int:
    """Show dead letters in full. Ends with 1 if one is not there."""
    return on_shelf(loaded, DeadLetters, lambda shelf: show_rows(shelf, ids, as_json=loaded.settings.json))


@deadletters.command
@with_settings("deadletters")
@topic_option
@_kind_option
@selection_options
def retry(loaded: Loaded, ids: tuple[int, ...], topic: Pattern | None, kind: str | None, *, everything: bool) -> int:
    """
    Try dead letters again.

    A push goes to the end of the outbox, with the idempotency key that it had. An event goes to its handler once a run has the
    state directory. Ends with 1 if one of the ids is not there; the others are tried all the same.
    """
    selection = select(ids, topic, kind, everything=everything)
    return on_shelf(
        loaded, DeadLetters, lambda shelf: change_rows(selection, shelf, shelf.retry, "retried", as_json=loaded.settings.json)
    )


@deadletters.command
@with_settings("deadletters")
@topic_option
@_kind_option
@selection_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(loaded: Loaded, ids: tuple[int, ...], topic: Pattern | None, kind: str | None, *, everything: bool, yes: bool) -> int:
    """Delete dead letters. Ends with 1 if one of the ids is not there; the others are deleted all the same."""
    selection = select(ids, topic, kind, everything=everything)
    confirm("Delete dead letters?", yes=yes)
    return on_shelf(
        loaded, DeadLetters, lambda shelf: change_rows(selection, shelf, shelf.purge, "purged", as_json=loaded.settings.json)
    )


@deadletters.command
@with_settings("deadletters")
@topic_option
@_kind_option
def export(loaded: Loaded, topic: Pattern | None, kind: str | None) -> int:
    """Print dead letters as JSON, one a line, payloads as they came."""
    return on_shelf(loaded, DeadLetters, lambda shelf: export_rows(shelf, Selection(topic=topic, kind=kind)))
