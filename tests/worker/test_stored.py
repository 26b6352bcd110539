"""Events that are read from spill.db, because they are too large for the ring."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rig.app import App, Event
from rig.errors import RemoteProtocolError, StoreFailed
from rig.io.spiller import open_spill
from rig.records import Events, Kind, encode_events, encode_names, encode_spilled, encode_stored
from rig.store import SpillRow, StateDirectory
from rig.worker import loop
from rig.worker.stored import StoredEvents
from tests.running import until
from tests.worker.conftest import Bench

Run = Callable[[Callable[[], Awaitable[None]]], None]


async def store(folder: Path, *records: bytes, kind: Kind = Kind.EVENTS) -> list[int]:
    """Put records into the spill.db of a state directory, and leave it open no longer."""
    opened, spill = await open_spill(StateDirectory(folder).spill)
    ids = await spill.append([SpillRow(0, kind, 1, 0, record) for record in records])
    await opened.close()
    return ids


def events(*payloads: bytes, binary: bool = False) -> bytes:
    record = encode_events(encode_names(["room:1", "tick"]), [0] * len(payloads), payloads, binary=binary)
    return encode_spilled(7, record)


def noting() -> tuple[App, list[Any]]:
    """Return an application, and the payloads of the events that it has handled."""
    app: App = App()
    seen: list[Any] = []

    @app.on("room:*", "tick")
    async def tick(event: Event) -> None:
        seen.append(event.payload)

    return app, seen


def test_event_is_read_where_the_record_says(run: Run, tmp_path: Path) -> None:
    """Which row, and which of its events; text and bytes."""

    async def main() -> None:
        [row] = await store(tmp_path, events(b"1", b'{"a":2}', b"3"))
        [binary] = await store(tmp_path, events(b"\x00\xff", binary=True), kind=Kind.EVENTS_BINARY)
        stored = StoredEvents(str(tmp_path))
        names, numbers, payloads = stored.decode(encode_stored(row, 1))
        assert (bytes(names), numbers, [bytes(payload) for payload in payloads]) == (b'["room:1","tick"]', [0], [b'{"a":2}'])
        assert stored.decode(encode_stored(binary, 0))[2] == [b"\x00\xff"]
        stored.close()

    run(main)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (encode_stored(99, 0), "names row 99 of spill.db, which is not there"),
        (encode_stored(1, 2), "names event 2 of a row of 2"),
        (encode_stored(1, -1), "names event -1 of a row of 2"),
        (encode_stored(2, 0), "cannot be read"),
        (encode_stored(3, 0), "a spilled record of 3 bytes"),
        (b"\xc1", "names no row"),
    ],
)
def test_record_that_names_nothing_is_a_protocol_error(run: Run, tmp_path: Path, record: bytes, sentence: str) -> None:
    """It is refused with what is wrong, and nothing else is harmed."""

    async def main() -> None:
        await store(tmp_path, events(b"1", b"2"), encode_spilled(1, b"{"), b"abc")
        stored = StoredEvents(str(tmp_path))
        with pytest.raises(RemoteProtocolError, match=sentence):
            stored.decode(record)
        assert [bytes(payload) for payload in stored.decode(encode_stored(1, 1))[2]] == [b"2"]
        stored.close()

    run(main)


def test_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Reading never makes a file; the sentence names it."""
    stored = StoredEvents(str(tmp_path))
    with pytest.raises(StoreFailed, match=r"spill\.db"):
        stored.decode(encode_stored(1, 0))

    assert list(tmp_path.iterdir()) == []


def test_broken_connection_is_opened_anew(run: Run, tmp_path: Path) -> None:
    """What was wrong with one connection may not be wrong with the next."""

    async def main() -> None:
        [row] = await store(tmp_path, events(b"1"))
        stored = StoredEvents(str(tmp_path))
        stored.decode(encode_stored(row, 0))
        assert stored._connection is not None
        stored._connection.execute("PRAGMA query_only = 1")
        stored._connection.close()
        assert [bytes(payload) for payload in stored.decode(encode_stored(row, 0))[2]] == [b"1"]
        stored.close()

    run(main)


def test_reading_writes_nothing(run: Run, tmp_path: Path) -> None:
    """The io process alone writes: this connection cannot."""

    async def main() -> None:
        [row] = await store(tmp_path, events(b"1"))
        stored = StoredEvents(str(tmp_path))
        stored.decode(encode_stored(row, 0))
        assert stored._connection is not None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            stored._connection.execute("DELETE FROM spilled")
        stored.close()

    run(main)


def test_worker_without_such_events_does_not_load_sqlite(tmp_path: Path) -> None:
    """Most workers never see one, and need not pay for it."""
    code = "import sys, rig.worker.process; print([name for name in ('sqlite3', 'aiosqlite') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)

    assert shown.stdout == "[]\n"


def test_loop_handles_stored_events_like_others(bench: Bench, run: Run, tmp_path: Path) -> None:
    """They reach their handler in line; one whose row is gone is given up, counted, and holds up nothing."""
    app, seen = noting()

    async def main() -> None:
        [row] = await store(tmp_path, events(b"2"))
        stored = StoredEvents(str(tmp_path))
        life = bench.worker(app, stored=stored)
        bench.publish(("room:1", "tick", 1))
        for payload in (encode_stored(row, 0), encode_stored(999, 0)):
            bench.producer.put(payload, kind=Kind.STORED, count=1)
        bench.publish(("room:1", "tick", 3))
        await life.idle()
        assert seen == [1, 2, 3]
        assert (bench.page.get("invalid"), bench.page.get("handled")) == (1, 4)
        await life.die()
        stored.close()

    run(main)


class Failing(StoredEvents):
    """Fails while told to."""

    fails = True

    def decode(self, payload: bytes) -> Events:
        if self.fails:
            raise StoreFailed("spill.db", "locked", "wait")
        return super().decode(payload)


def test_event_that_cannot_be_read_for_a_moment_is_read_later(
    bench: Bench, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows waits, so that order holds; what was before is handled; nothing is given up."""
    monkeypatch.setattr(loop, "READ_AGAIN", 0.01)
    app, seen = noting()

    async def main() -> None:
        [row] = await store(tmp_path, events(b"2"))
        stored = Failing(str(tmp_path))
        life = bench.worker(app, stored=stored)
        bench.publish(("room:1", "tick", 1))
        bench.producer.put(encode_stored(row, 0), kind=Kind.STORED, count=1)
        bench.publish(("room:1", "tick", 3))
        await until(lambda: bench.page.get("handled") == 1)
        await asyncio.sleep(0.03)
        assert seen == [1]
        stored.fails = False
        await life.idle()
        assert seen == [1, 2, 3]
        assert (bench.page.get("invalid"), bench.page.get("handled")) == (0, 3)
        await life.die()
        stored.close()

    run(main)


def test_event_that_cannot_be_read_for_long_is_given_up(
    bench: Bench, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is broken for good holds up the others for a while, and not for ever."""
    monkeypatch.setattr(loop, "READ_AGAIN", 0.01)
    monkeypatch.setattr(loop, "PATIENCE", 0.05)
    app, seen = noting()

    async def main() -> None:
        life = bench.worker(app, stored=Failing(str(tmp_path)))
        for row in (1, 2):
            bench.producer.put(encode_stored(row, 0), kind=Kind.STORED, count=1)
        bench.publish(("room:1", "tick", 3))
        await life.idle()
        assert seen == [3]
        assert (bench.page.get("invalid"), bench.page.get("handled")) == (2, 3)
        await life.die()

    run(main)
