"""
The tables, and how a database of an older rig gets them.

    rig.db      outbox, dead_letters, cursors; totals, kept by triggers, so that nobody counts a million rows
    spill.db    spilled; totals

What must stay true: a step of `STATE` or `SPILL` never changes once it was released; what is new is one more step. The number
of steps that a file has gone through is its `user_version`. An id is never given twice (AUTOINCREMENT): who reads "after id 41"
must not miss the row that came next, whatever was deleted in between.

Source: SQLite, "PRAGMA user_version", "Autoincrement".
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from rig.errors import StoreUnusable

Step = tuple[str, ...]
"""SQL statements that bring a database from one version to the next."""


@dataclass(frozen=True, slots=True)
class Schema:
    """
    What a database holds.

    Attributes:
        application_id: Stands in the file's header, so that no other program's database is taken for ours.
        steps: One for each version, the first for an empty file.
    """

    application_id: int
    steps: tuple[Step, ...]

    @property
    def version(self) -> int:
        """The version that this rig reads and writes."""
        return len(self.steps)


def _totals(table: str) -> Step:
    return (
        f"INSERT INTO totals VALUES ('{table}', 0, 0)",
        f"""CREATE TRIGGER {table}_inserted AFTER INSERT ON {table} BEGIN
            UPDATE totals SET rows = rows + 1, bytes = bytes + new.size WHERE name = '{table}'; END""",
        f"""CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN
            UPDATE totals SET rows = rows - 1, bytes = bytes - old.size WHERE name = '{table}'; END""",
    )


_TOTALS = "CREATE TABLE totals (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID"

STATE = Schema(
    0x52494701,
    (
        (
            _TOTALS,
            """CREATE TABLE outbox (
                id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, event TEXT NOT NULL,
                binary INTEGER NOT NULL, stored_at REAL NOT NULL, expires_at REAL, attempts INTEGER NOT NULL DEFAULT 0,
                last_error TEXT, size INTEGER NOT NULL, payload BLOB NOT NULL)""",
            "CREATE INDEX outbox_topic ON outbox (topic, id)",
            "CREATE INDEX outbox_expires ON outbox (expires_at) WHERE expires_at IS NOT NULL",
            """CREATE TABLE dead_letters (
                id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, topic TEXT NOT NULL, event TEXT NOT NULL,
                key TEXT, handler TEXT, worker INTEGER, binary INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
                received_at REAL NOT NULL, buried_at REAL NOT NULL, retry INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL,
                reason TEXT NOT NULL, traceback TEXT, payload BLOB NOT NULL)""",
            "CREATE INDEX dead_letters_retry ON dead_letters (id) WHERE retry = 1",
            "CREATE TABLE cursors (topic TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID",
            *_totals("outbox"),
            *_totals("dead_letters"),
        ),
    ),
)

SPILL = Schema(
    0x52494702,
    (
        (
            _TOTALS,
            """CREATE TABLE spilled (
                id INTEGER PRIMARY KEY AUTOINCREMENT, worker INTEGER NOT NULL, kind INTEGER NOT NULL, count INTEGER NOT NULL,
                time_ns INTEGER NOT NULL, size INTEGER NOT NULL, record BLOB NOT NULL)""",
            "CREATE INDEX spilled_worker ON spilled (worker, id)",
            *_totals("spilled"),
        ),
    ),
)


def migrate(connection: sqlite3.Connection, schema: Schema, path: Path) -> None:
    """
    Bring a database to the version that this rig knows; all steps or none.

    Raises:
        StoreUnusable: If a newer rig or another program has written it.
        sqlite3.Error: If it cannot be read or written.
    """
    if version(connection, schema, path) == schema.version:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been quicker.
        for step in schema.steps[version(connection, schema, path) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute(f"PRAGMA user_version = {schema.version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def version(connection: sqlite3.Connection, schema: Schema, path: Path) -> int:
    """
    Return how many steps a database has gone through.

    Raises:
        StoreUnusable: If a newer rig or another program has written it.
        sqlite3.Error: If it cannot be read.
    """
    # First whether it is empty: another process may make the tables now, and these come together with the two numbers.
    empty = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    (steps,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != schema.application_id and not empty:
        raise StoreUnusable(str(path), "it is the database of another program", "name another folder with --state-dir")
    if steps > schema.version:
        raise StoreUnusable(
            str(path),
            f"a newer rig has written it: version {steps} of the tables, and this one knows {schema.version}",
            "update rig, or name another folder with --state-dir",
        )
    return int(steps)
