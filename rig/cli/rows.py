"""
How rows of the store are shown, to people and to programs.

What must stay true: what others have sent cannot steer the terminal.
"""

import base64
import datetime
import sys
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from rig.store import Letter, Row

_LONGEST_CELL = 60
_TIMES = ("stored_at", "expires_at", "received_at", "buried_at")


def _as_object(row: Row | Letter) -> dict[str, Any]:
    """Return a row as it is exported: JSON stays JSON, bytes are in base64 under a name of their own."""
    fields = msgspec.structs.asdict(row)
    payload = fields.pop("payload")
    if row.binary:
        return {**fields, "payload_base64": base64.b64encode(payload).decode()}
    # A line break in JSON text is white space, or it would be escaped.
    return {**fields, "payload": msgspec.Raw(payload.replace(b"\n", b" ").replace(b"\r", b" "))}


def write_objects(rows: list[Any], columns: Mapping[str, str] | None = None) -> None:
    """Print rows as JSON, one a line, in full, whatever the columns."""
    sys.stdout.write("".join(msgspec.json.encode(_as_object(row)).decode() + "\n" for row in rows))


def write_lines(rows: list[Any], columns: Mapping[str, str]) -> None:
    """Print rows with tabs between their cells, for programs."""
    sys.stdout.write("".join("\t".join(_cell(row, name) for name in columns.values()) + "\n" for row in rows))


def print_table(rows: list[Any], columns: Mapping[str, str]) -> None:
    """Print rows as a table, for people: long cells are cut."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in columns:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(_shorten(_cell(row, name)) for name in columns.values()))
    Console(markup=False, highlight=False, emoji=False).print(table)


def print_row(row: Row | Letter) -> None:
    """Print everything that a row has, for people."""
    fields = msgspec.structs.asdict(row)
    texts = {name: fields.pop(name) for name in ("traceback", "payload") if name in fields}
    for name in fields:
        click.echo(f"{name:<12} {_cell(row, name)}")
    for name, text in texts.items():
        if text:
            click.echo(f"{name}\n{_lines(_payload(row) if name == 'payload' else text)}")
    click.echo()


def _cell(row: Row | Letter, name: str) -> str:
    value = getattr(row, name)
    if name == "payload":
        return _printable(_payload(row))
    if value is None:
        return "-"
    if name in _TIMES:
        return _when(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _printable(str(value))


def _payload(row: Row | Letter) -> str:
    return base64.b64encode(row.payload).decode() if row.binary else row.payload.decode("utf-8", "replace")


def _when(at: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{at:g}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _lines(text: str) -> str:
    return "\n".join(f"  {_printable(line)}" for line in text.splitlines())


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"
