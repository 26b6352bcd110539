"""`rig topics`: the topics of a run that is there, and a new connection for them."""

import asyncio
from typing import Any

import click
import msgspec

from rig.cli.options import SOURCES_NOTE, with_settings
from rig.config import Loaded
from rig.errors import RigError

_FAILED = 1
_EPILOG = f"""\b
Examples:
  rig topics list
  rig topics list --json | jq -r '.topics[] | select(.state != "joined") | .topic'
  rig topics rotate --state-dir /var/lib/shop

{SOURCES_NOTE}
"""


@click.group(epilog=_EPILOG)
def topics() -> None:
    """Show or move the topics of a run, by the admin socket in its state directory."""


@topics.command("list", epilog=_EPILOG)
@with_settings("topics")
def list_topics(loaded: Loaded) -> int:
    """Print each topic, where it stands, and which io process has it."""
    answer = _ask(loaded, "GET", "/topics")
    if loaded.settings.json:
        click.echo(msgspec.json.encode(answer).decode())
        return 0
    for entry in answer["topics"]:
        click.echo(f"{entry['topic']}\t{entry['state']}\t{entry['io']}")
    return 0


@topics.command(epilog=_EPILOG)
@with_settings("topics")
def rotate(loaded: Loaded) -> int:
    """
    Move all topics to a new connection, without a gap.

    They are joined there before they leave the old one. Ends with 1 if a connection stayed where it was.
    """
    answer = _ask(loaded, "POST", "/rotate")
    if loaded.settings.json:
        click.echo(msgspec.json.encode(answer).decode())
    for entry in answer["io"]:
        if entry["failure"]:
            click.echo(f"Error: {entry['name']}: {entry['failure']}", err=True)
        elif not loaded.settings.json:
            click.echo(f"{entry['name']}: {entry['topics']} topics are at {entry['endpoint']} now ({entry['seconds']:.2f} s)")
    return _FAILED if any(entry["failure"] for entry in answer["io"]) else 0


def _ask(loaded: Loaded, method: str, path: str) -> Any:
    from rig.admin.client import ask, find

    directory = find(loaded.settings.state_dir)
    _, answer = asyncio.run(ask(directory, method, path))
    if "error" in answer:
        raise RigError(f"the run at {directory} answered: {answer['error']}")
    return answer
