"""`rig push`: one event to a channel, now, or by way of the outbox of a run."""

import sys
from typing import Any

import click
import msgspec

from rig.cli.options import SOURCES_NOTE, connect, decode_json, with_settings
from rig.config import Loaded, Settings
from rig.errors import PushRefused

_EPILOG = f"""\b
Examples:
  rig push ws://localhost:4000/socket room:lobby new_msg '{{"body": "hi"}}'
  echo '{{"body": "hi"}}' | rig push ws://localhost:4000/socket room:lobby new_msg -
  rig push ws://localhost:4000/socket room:lobby typing --no-reply
  rig push ws://localhost:4000/socket orders new '{{"id": 7}}' --durable --state-dir /var/lib/shop

{SOURCES_NOTE}
"""


@click.command(epilog=_EPILOG)
@with_settings("push")
@click.argument("topic")
@click.argument("event")
@click.argument("payload", metavar="[JSON|-]", default="{}")
def push(loaded: Loaded, topic: str, event: str, payload: str) -> int:
    """
    Join TOPIC and push EVENT with a payload, {} by default, - for what stdin holds.

    Prints the server's response as JSON; ends with 1 unless it is ok.

    With --durable nothing is dialled: the push is stored in the state directory, and its idempotency key printed; the rig run that
    has the directory, now or later, sends it to its own URL until the server has answered ok.
    """
    import uvloop

    from rig import log

    text = sys.stdin.read() if payload == "-" else payload
    content = decode_json(text, "JSON")
    join_payload = decode_json(loaded.settings.join_payload, "--join-payload")
    log.configure(loaded.settings.log_level, loaded.settings.log_format, process="push")
    if loaded.settings.durable:
        click.echo(uvloop.run(_store(loaded.settings, topic, event, msgspec.json.encode(content))))
        return 0
    uvloop.run(_push(loaded, topic, event, content=content, join_payload=join_payload))
    return 0


async def _store(settings: Settings, topic: str, event: str, payload: bytes) -> str:
    from rig.cli.stored import open_store
    from rig.durable import expiry, make_key, with_key
    from rig.store import NewPush, Outbox
    from rig.worker.arguments import check_names

    check_names(topic, event)
    key = make_key()
    row = NewPush(key, topic, event, with_key(payload, settings.idempotency_field, key), False, expiry(None, settings.outbox_ttl))
    async with open_store(settings) as store:
        await Outbox(store, settings.outbox_max_bytes).add([row])
    return key


async def _push(loaded: Loaded, topic: str, event: str, *, content: Any, join_payload: Any) -> None:
    async with connect(loaded) as connection:
        channel = await connection.join(topic, join_payload, events=False)
        if not loaded.settings.reply:
            await channel.send(event, content)
            return
        try:
            response = await channel.push(event, content, timeout=loaded.settings.push_timeout)
        except PushRefused as exc:
            _print_json(exc.response)
            raise
        _print_json(response)


def _print_json(response: object) -> None:
    sys.stdout.write(msgspec.json.encode(response).decode() + "\n")
    sys.stdout.flush()
