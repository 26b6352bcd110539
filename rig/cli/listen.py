"""`rig listen`: the events of topics, one line each."""

import datetime
import fnmatch
import os
import string
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rig.cli.options import SOURCES_NOTE, connect, decode_json, with_settings
from rig.config import Loaded, Settings

if TYPE_CHECKING:
    from rig.client import ClientEvent

_FIELDS = ("topic", "event", "payload", "received_at")
_EPILOG = f"""\b
Examples:
  rig listen ws://localhost:4000/socket room:lobby
  rig listen ws://localhost:4000/socket room:1 room:2 --event 'new_*' --count 10
  rig listen ws://localhost:4000/socket room:lobby --format '{{received_at}} {{event}} {{payload}}'

{SOURCES_NOTE}
"""


@click.command(epilog=_EPILOG)
@with_settings("listen")
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
def listen(loaded: Loaded, topics: tuple[str, ...]) -> int:
    """
    Join topics and print their events, one JSON line each, until Ctrl-C or --count.

    A binary payload is printed in base64, with "encoding": "base64" beside it.
    """
    import uvloop

    from rig import log

    settings = loaded.settings
    show = _renderer(settings)
    join_payload = decode_json(settings.join_payload, "--join-payload")
    log.configure(settings.log_level, settings.log_format, process="listen")
    try:
        uvloop.run(_listen(loaded, topics, join_payload=join_payload, show=show))
    except BrokenPipeError:
        # Whoever read the lines has enough. What Python still holds for stdout must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


async def _listen(loaded: Loaded, topics: tuple[str, ...], *, join_payload: Any, show: Callable[["ClientEvent"], bytes]) -> None:
    globs, left = loaded.settings.event, loaded.settings.count
    out = sys.stdout.buffer
    async with connect(loaded) as connection:
        for topic in topics:
            await connection.join(topic, join_payload)
        async for event in connection.events():
            if globs and not any(fnmatch.fnmatchcase(event.event, glob) for glob in globs):
                continue
            out.write(show(event) + b"\n")
            out.flush()
            if left is not None and (left := left - 1) == 0:
                return


def _renderer(settings: Settings) -> Callable[["ClientEvent"], bytes]:
    if settings.raw:
        return lambda event: event.raw
    if settings.format is not None:
        template = _template(settings.format)
        return lambda event: template.format_map(_texts(event)).encode()
    return lambda event: msgspec.json.encode(_fields(event, timestamps=settings.timestamps))


def _template(text: str) -> str:
    r"""Check a format before anything connects. `\t` and `\n` are what kcat's users expect of them."""
    text = text.replace(r"\t", "\t").replace(r"\n", "\n")
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except ValueError as exc:
        raise click.BadParameter(f"{exc}; write {{{{ for a brace", param_hint="--format") from exc
    for field in fields:
        if field not in _FIELDS:
            known = ", ".join(f"{{{name}}}" for name in _FIELDS)
            raise click.BadParameter(f"there is no {{{field}}}; there are {known}", param_hint="--format")
    return text


def _fields(event: "ClientEvent", *, timestamps: bool) -> dict[str, object]:
    fields: dict[str, object] = {"received_at": _now()} if timestamps else {}
    fields |= {"topic": event.topic, "event": event.event, "payload": event.payload}
    return fields | {"encoding": "base64"} if isinstance(event.payload, bytes) else fields


def _texts(event: "ClientEvent") -> dict[str, str]:
    payload = msgspec.json.encode(event.payload).decode()
    return {"topic": event.topic, "event": event.event, "payload": payload, "received_at": _now()}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
