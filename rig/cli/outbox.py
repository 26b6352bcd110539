"""`rig outbox`: the pushes that wait for the server."""

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
from rig.store import Outbox

_COLUMNS = {
    "id": "id",
    "topic": "topic",
    "event": "event",
    "stored": "stored_at",
    "expires": "expires_at",
    "attempts": "attempts",
    "last error": "last_error",
    "payload": "payload",
}
_EPILOG = f"""\b
Examples:
  rig outbox list
  rig outbox list --topic 'room:*' --state-dir /var/lib/shop
  rig outbox show 41
  rig outbox export > pushes.jsonl && rig outbox purge --all

{SOURCES_NOTE}
"""


@click.group(epilog=_EPILOG)
def outbox() -> None:
    """
    Look after the pushes that wait for the server: list, show, retry, purge, export.

    They are in the state directory of a run, --state-dir, or the only one there is; the run may be running or not.
    """


@outbox.command("list")
@with_settings("outbox")
@topic_option
@click.option("--all", "everything", is_flag=True, help="More than the oldest hundred.")
def list_(loaded: Loaded, topic: Pattern | None, *, everything: bool) -> int:
    """List the pushes, oldest first."""
    return on_shelf(
        loaded,
        Outbox,
        lambda shelf: list_rows(shelf, Selection(topic=topic), _COLUMNS, everything=everything, as_json=loaded.settings.json),
    )


@outbox.command
@with_settings("outbox")
@click.argument("ids", nargs=-1, required=True, type=ID, metavar="ID...")
def show(loaded: Loaded, ids: tuple[int, ...]) -> int:
    """Show pushes in full. Ends with 1 if one is not there."""
    return on_shelf(loaded, Outbox, lambda shelf: show_rows(shelf, ids, as_json=loaded.settings.json))


@outbox.command
@with_settings("outbox")
@topic_option
@selection_options
def retry(loaded: Loaded, ids: tuple[int, ...], topic: Pattern | None, *, everything: bool) -> int:
    """
    Try pushes again as if they were new.

    It is forgotten how often they have failed. Ends with 1 if one of the ids is not there; the others are tried all the same.
    """
    selection = select(ids, topic, everything=everything)
    return on_shelf(
        loaded, Outbox, lambda shelf: change_rows(selection, shelf, shelf.retry, "retried", as_json=loaded.settings.json)
    )


@outbox.command
@with_settings("outbox")
@topic_option
@selection_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(loaded: Loaded, ids: tuple[int, ...], topic: Pattern | None, *, everything: bool, yes: bool) -> int:
    """Delete pushes: they are never sent. Ends with 1 if one of the ids is not there; the others are deleted all the same."""
    selection = select(ids, topic, everything=everything)
    confirm("Delete pushes that the server does not have?", yes=yes)
    return on_shelf(
        loaded, Outbox, lambda shelf: change_rows(selection, shelf, shelf.purge, "purged", as_json=loaded.settings.json)
    )


@outbox.command
@with_settings("outbox")
@topic_option
def export(loaded: Loaded, topic: Pattern | None) -> int:
    """Print pushes as JSON, one a line, their payloads as they are."""
    return on_shelf(loaded, Outbox, lambda shelf: export_rows(shelf, Selection(topic=topic)))
