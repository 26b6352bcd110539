"""`python -m mock_server`: the mock server as a program of its own."""

import asyncio
import logging
import os
import signal
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop

from mock_server.behaviour import UnknownPhoenixVersion
from mock_server.history import History
from mock_server.received import Received
from mock_server.scenarios import SCENARIOS
from mock_server.server import MockServer

_LOG_LEVELS = ("debug", "info", "warning", "error")
_EXIT_START_FAILED = 3


async def serve(server: MockServer, *, exit_with_parent: bool) -> None:
    """
    Run until a signal (or the end of stdin) asks to stop.

    Raises:
        OSError: If the port cannot be listened on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    if exit_with_parent:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    ready = {"url": server.url, "control": server.control_url, "port": server.port}
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 4096):
        pass
    if not loop.is_closed():
        loop.call_soon_threadsafe(stop.set)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=4000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one.")
@click.option(
    "--control-port", type=click.IntRange(0, 65535), help="A port of its own for the control API.  [default: the main port]"
)
@click.option("--scenario", default="reference", show_default=True, type=click.Choice(sorted(SCENARIOS)), help="What to simulate.")
@click.option("--rate", default=50.0, show_default=True, type=click.FloatRange(0), help="Live updates per second of the scenario.")
@click.option("--phoenix", default="1.8.12", show_default=True, help="Phoenix version to behave like, such as 1.7.24.")
@click.option("--history", default=1000, show_default=True, type=click.IntRange(1), help="Events kept of each topic history:*.")
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="A file that keeps them when this program ends.")
@click.option("--idempotency-field", default="idempotency_key", show_default=True, help="Where pushes to ledger:* have their key.")
@click.option("--strict-join-ref", is_flag=True, help="Drop pushes with a null join_ref, as Phoenix 1.8.3 to 1.8.11 do.")
@click.option(
    "--time-scale", default=1.0, show_default=True, type=click.FloatRange(0.001), help="Factor on every time-out and wait."
)
@click.option("--cert", type=click.Path(exists=True, dir_okay=False), help="TLS certificate (PEM); with --key.")
@click.option("--key", type=click.Path(exists=True, dir_okay=False), help="Its private key (PEM).")
@click.option("--log-level", default="warning", show_default=True, type=click.Choice(_LOG_LEVELS), help="What goes to stderr.")
@click.option("--exit-with-parent", is_flag=True, help="Exit when stdin ends.")
def main(
    *,
    host: str,
    port: int,
    history: int,
    state: Path | None,
    idempotency_field: str,
    cert: str | None,
    key: str | None,
    log_level: str,
    exit_with_parent: bool,
    **options: Any,
) -> None:
    """Run a mock Phoenix server; the first line on stdout is JSON with its URLs."""
    logging.basicConfig(level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        options |= {"history": History(history, state), "received": Received(idempotency_field)}
        server = MockServer(host=host, port=port, ssl_context=_tls(cert, key), **options)
    except (UnknownPhoenixVersion, ssl.SSLError) as exc:
        raise click.UsageError(str(exc)) from exc
    try:
        uvloop.run(serve(server, exit_with_parent=exit_with_parent))
    except OSError as exc:
        click.echo(f"The mock server cannot listen on {host}:{port}: {exc.strerror or exc}. Choose another --port.", err=True)
        sys.exit(_EXIT_START_FAILED)


def _tls(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """
    Load the certificate, if one is given.

    Raises:
        click.UsageError: If only one of the two files is given.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise click.UsageError("--cert and --key go together.")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


if __name__ == "__main__":
    main()
