"""`rig check`: what would be run."""

import resource
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rig.cli.options import SOURCES_NOTE, with_settings
from rig.config import Loaded, Option, options, show_size, usable_cores
from rig.masking import MASK

if TYPE_CHECKING:
    from rich.table import Table

    from rig.worker.describe import Description

_EPILOG = f"""\b
Examples:
  rig check shop:app
  rig check shop:app --workers 4 --json | jq .settings.workers

{SOURCES_NOTE}
"""


@click.command(epilog=_EPILOG)
@with_settings("check")
def check(loaded: Loaded) -> int:
    """
    Show what `rig run` would run: subscriptions, handlers, every setting with its source, limits.

    Ends with 3 and a sentence if the application cannot be loaded or a handler does not fit.
    """
    from rig import log
    from rig.supervisor import describe

    log.configure(loaded.settings.log_level, loaded.settings.log_format, process="check")
    description = describe(loaded.settings)
    if loaded.settings.json:
        click.echo(msgspec.json.format(msgspec.json.encode(_as_json(loaded, description)), indent=2))
    else:
        _print(loaded, description)
    return 0


def _as_json(loaded: Loaded, description: "Description") -> dict[str, object]:
    return {
        "app": msgspec.structs.replace(description, joins=_joins(description)),
        "settings": {
            option.name: {"value": _masked(option, getattr(loaded.settings, option.name)), "source": loaded.sources[option.name]}
            for option in options("run")
        },
        "state_directory": _state_directory(loaded, description),
        "limits": _limits(loaded),
    }


def _state_directory(loaded: Loaded, description: "Description") -> str:
    from rig.supervisor import state_directory

    return state_directory(loaded.settings, description.name)


def _masked(option: Option, value: Any) -> Any:
    from rig.log import mask

    if option.about.secret and value:
        return MASK
    if isinstance(value, tuple):
        return [mask(str(item)) for item in value]
    return mask(option.show(value)) if isinstance(value, str) else value


def _joins(description: "Description") -> dict[str, Any]:
    """Return topics and join payloads, with what looks like a secret masked."""
    from rig.log import mask_fields

    return {topic: mask_fields(None, "", {"payload": payload})["payload"] for topic, payload in description.joins.items()}


def _limits(loaded: Loaded) -> dict[str, int]:
    from rig.supervisor.memory import RINGS

    workers = loaded.settings.resolve_workers()
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "cores": usable_cores(),
        "workers": workers,
        "ring_bytes": RINGS * workers * loaded.settings.io_processes * loaded.settings.ring_bytes,
        "open_files": open_files,
    }


def _print(loaded: Loaded, description: "Description") -> None:
    from rich.console import Console

    # What goes to a file or a pipe is not folded.
    console = Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 240)
    console.print(f"{loaded.settings.target}: application {description.name!r}")
    console.print(_subscriptions(description))
    console.print(_topics(description))
    console.print(_settings(loaded))
    console.print(f"state directory: {_state_directory(loaded, description)}")
    limits = _limits(loaded)
    console.print(
        f"{limits['cores']} usable cores, workers: {limits['workers']}, rings: at most {show_size(limits['ring_bytes'])}, "
        f"open files at most: {limits['open_files']}"
    )


def _subscriptions(description: "Description") -> "Table":
    table = _table("Subscriptions", "topic", "event", "handler", "payload", "key", "cursor", "retries", "timeout", "overflow")
    for route in description.routes:
        options = (route.key, route.cursor, route.retries, route.timeout, route.overflow)
        cells = (route.topic, route.event, route.handler, route.payload, *options)
        table.add_row(*("-" if cell is None else str(cell) for cell in cells))
    return table


def _topics(description: "Description") -> "Table":
    table = _table("Topics", "topic", "join payload")
    for topic, payload in _joins(description).items():
        table.add_row(topic, msgspec.json.encode(payload).decode())
    return table


def _settings(loaded: Loaded) -> "Table":
    """List all settings, those that somebody has set first."""
    from rig.log import mask

    table = _table("Settings", "setting", "value", "source")
    for option in sorted(options("run"), key=lambda option: loaded.sources[option.name] == "default"):
        value = mask(option.show(getattr(loaded.settings, option.name)))
        if option.name == "workers" and value == "auto":
            value = f"auto: {loaded.settings.resolve_workers()}"
        table.add_row(option.name, value, loaded.sources[option.name])
    return table


def _table(title: str, *columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
