"""
What `rig outbox` and `rig deadletters` have in common: which database and which rows are meant, and what is done with them.

What must stay true: no run is needed, and none is hurt: rows are read in pages and written in short transactions, so that a
run that has the same database open waits for neither.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import click
import msgspec

from rig.cli.rows import print_row, print_table, write_lines, write_objects
from rig.config import Loaded, Settings
from rig.errors import AppError
from rig.routing import Pattern
from rig.store import Letter, Row, StateDirectory, Store

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])

_PAGE = 500
_LISTED = 100
ID = click.IntRange(min=1, max=2**63 - 1)
"""What SQLite can give a row as its id."""


class Shelf(Protocol):
    """The outbox or the dead letters."""

    async def page(self, after_id: int, limit: int) -> list[Any]:
        """Return the oldest rows after an id."""

    async def get(self, id: int) -> Any:
        """Return one row, or None."""

    async def retry(self, ids: Iterable[int] | None = None) -> int:
        """Have rows tried again; None: all."""

    async def purge(self, ids: Iterable[int] | None = None) -> int:
        """Delete rows; None: all."""


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Which rows are meant.

    Attributes:
        ids: These; if there are none, all that fit the rest.
        topic: A pattern, as in `app.on`; None: any topic.
        kind: "event" or "push"; None: both.
    """

    ids: tuple[int, ...] = ()
    topic: Pattern | None = None
    kind: str | None = None

    @property
    def all(self) -> bool:
        """True if there is no row that is not meant."""
        return not self.ids and self.topic is None and self.kind is None

    def takes(self, row: Row | Letter) -> bool:
        """Return True if a row fits topic and kind."""
        return (self.topic is None or self.topic.covers(row.topic)) and self.kind in (None, getattr(row, "kind", None))

    async def pages(self, shelf: Shelf) -> AsyncIterator[list[Any]]:
        """
        Give the rows, oldest first, some at a time.

        Raises:
            StoreFailed: If the database cannot be read.
        """
        for start in range(0, len(self.ids), _PAGE):
            found = [await shelf.get(id) for id in self.ids[start : start + _PAGE]]
            yield [row for row in found if row is not None]
        after = 0
        while not self.ids and (rows := await shelf.page(after, _PAGE)):
            after = rows[-1].id
            yield [row for row in rows if self.takes(row)]


def topic_option(function: Function) -> Function:
    """Give a command `--topic`, read into a pattern."""
    return click.option("--topic", callback=_pattern, metavar="PATTERN", help="Only those of topics that fit, such as room:*.")(
        function
    )


def selection_options(function: Function) -> Function:
    """Give a command ids and `--all`."""
    decorated = click.option("--all", "everything", is_flag=True, help="All there are.")(function)
    return click.argument("ids", nargs=-1, type=ID, metavar="[ID]...")(decorated)


def select(ids: tuple[int, ...], topic: Pattern | None, kind: str | None = None, *, everything: bool) -> Selection:
    """
    Read what a command that changes something was given.

    Raises:
        click.UsageError: If nothing was chosen, or in two ways that contradict each other.
    """
    if bool(ids) + bool(topic or kind) + everything != 1:
        raise click.UsageError("Say which ones: their ids, or what they have in common, or --all.")
    return Selection(ids, topic, kind)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """
    Open the database of the state directory that is meant: the one named, else the only one there is.

    Raises:
        ConfigError: If it is not clear which directory is meant.
        StoreFailed: If the database cannot be opened or closed.
    """
    store = await Store.open(StateDirectory.find(settings.state_dir).database, settings.store_sync)
    try:
        yield store
    finally:
        await store.close()


def on_shelf(loaded: Loaded, shelf: Callable[[Store], Shelf], action: Callable[[Shelf], Awaitable[T]]) -> T:
    """
    Do something with what is in the database that is meant.

    Raises:
        ConfigError: If it is not clear which directory is meant.
        StoreFailed: If the database does not do it.
    """

    async def main() -> T:
        async with open_store(loaded.settings) as store:
            return await action(shelf(store))

    return asyncio.run(main())


async def list_rows(shelf: Shelf, selection: Selection, columns: Mapping[str, str], *, everything: bool, as_json: bool) -> int:
    """
    Print the oldest rows.

    Args:
        columns: Titles, and the attribute below each.
        everything: False: a hundred.
        as_json: One object a line, as `export` does.

    Raises:
        StoreFailed: If the database cannot be read.
    """
    write = write_objects if as_json else print_table if sys.stdout.isatty() else write_lines
    if write is write_lines:
        sys.stdout.write("\t".join(columns) + "\n")
    left = sys.maxsize if everything else _LISTED
    async for page in selection.pages(shelf):
        if page[:left]:
            write(page[:left], columns)
        left -= len(page)
        if left < 0:
            click.echo(f"These are the oldest {_LISTED}; add --all for the rest.", err=True)
            break
    return 0


async def show_rows(shelf: Shelf, ids: tuple[int, ...], *, as_json: bool) -> int:
    """
    Print rows in full, and return 1 if one is not there.

    Raises:
        StoreFailed: If the database cannot be read.
    """
    missing = []
    for id in ids:
        row = await shelf.get(id)
        if row is None:
            missing.append(id)
        elif as_json:
            write_objects([row])
        else:
            print_row(row)
    return _end(missing)


async def export_rows(shelf: Shelf, selection: Selection) -> int:
    """
    Print rows as JSON, one a line, with their payloads as they are.

    Raises:
        StoreFailed: If the database cannot be read.
    """
    async for page in selection.pages(shelf):
        write_objects(page)
    return 0


async def change_rows(
    selection: Selection, shelf: Shelf, change: Callable[..., Awaitable[int]], done: str, *, as_json: bool
) -> int:
    """
    Retry or purge rows, say how many there were, and return 1 if one of those that were named is not there.

    Args:
        change: A method of the shelf, which takes ids, or nothing for all.
        done: "retried" or "purged".
        as_json: `{"purged": 3}` instead of `3 purged`.

    Raises:
        StoreFailed: If the database does not do it.
    """
    count, found = 0, set[int]()
    if selection.all:
        count = await change()
    else:
        async for page in selection.pages(shelf):
            ids = [row.id for row in page]
            found.update(ids if selection.ids else ())
            count += await change(ids)
    click.echo(msgspec.json.encode({done: count}).decode() if as_json else f"{count} {done}")
    return _end([id for id in selection.ids if id not in found])


def confirm(question: str, *, yes: bool) -> None:
    """
    Ask before something is gone.

    Raises:
        click.Abort: If the answer is no.
        click.UsageError: If there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask at: add --yes if you are sure.")
    click.confirm(question, abort=True)


def _end(missing: Sequence[int]) -> int:
    """Name the ids that are not there, each once, and return the exit code."""
    if missing:
        ids = ", ".join(map(str, dict.fromkeys(missing)))
        click.echo(f"Error: there is no {ids}: it may have been sent, retried or purged since", err=True)
    return 1 if missing else 0


def _pattern(context: click.Context, parameter: click.Parameter, value: str | None) -> Pattern | None:
    try:
        return None if value is None else Pattern(value, "*")
    except AppError as exc:
        raise click.BadParameter(str(exc)) from exc
