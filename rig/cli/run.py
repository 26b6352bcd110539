"""`rig run`: the worker."""

import click

from rig.cli.options import SOURCES_NOTE, with_settings
from rig.config import Loaded

_EPILOG = f"""\b
Examples:
  rig run
  rig run shop:app --url wss://shop.example/socket --workers 4
  rig run shop:create --factory --env-file .env --log-format json

{SOURCES_NOTE}
"""


@click.command(epilog=_EPILOG)
@with_settings("run")
def run(loaded: Loaded) -> int:
    """
    Run an application's handlers on live events.

    Without MODULE:APP it is the demo; without a URL it is the bundled mock server, on a free port.
    """
    from rig.supervisor import run as run_supervisor

    return run_supervisor(loaded.settings)
