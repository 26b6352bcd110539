"""The io process's side of the events rings, the workers' ends of them, and a spill store in memory that fails when told to."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from rig.control import RouteSpec
from rig.counters import Page
from rig.errors import StoreFailed
from rig.io.dispatch import Dispatch
from rig.io.outlet import Outlet
from rig.io.overflow import Overflow
from rig.io.owner import Owner
from rig.io.router import Router
from rig.io.spiller import Spiller
from rig.phoenix.message import BinaryMessage, Message
from rig.records import Kind, decode_events, decode_names, decode_spilled, decode_stored
from rig.ring import Consumer, Doorbell, Record, RingMemory
from rig.store import Extent, SpillRow
from rig.store.spill import LARGEST_ID

CAPACITY = 64 * 1024
LARGEST = CAPACITY // 8
Event = tuple[str, str, bytes]
ALL = [RouteSpec("*", "*", "topic")]
RUN = 7


def text(topic: str, event: str, payload: bytes) -> Message:
    return Message(None, None, topic, event, msgspec.Raw(payload))


def binary(topic: str, event: str, payload: bytes) -> BinaryMessage:
    return BinaryMessage(None, None, topic, event, payload)


class Disk:
    """
    What is in spill.db; it outlives the processes that have it open, and counts what is asked of it.

    Attributes:
        rows: By id.
        fails: What fails: some of "append", "next", "remove", "open".
        appended: Events that were stored, in all.
        gate: Where it is there, and not set, nothing is appended.
    """

    def __init__(self) -> None:
        self.rows: dict[int, SpillRow] = {}
        self.fails: set[str] = set()
        self.last = self.appended = self.failures = 0
        self.gate: asyncio.Event | None = None
        self.closed = 0

    async def open(self, path: Path) -> tuple[Any, Any]:
        self.check("open")
        return self, FakeSpill(self)

    async def close(self) -> None:
        self.closed += 1

    def check(self, what: str) -> None:
        if what in self.fails:
            self.failures += 1
            raise StoreFailed("spill.db", f"it does not {what}", "repair the test")


class FakeSpill:
    """Does what `rig.store.Spill` does."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    async def append(self, rows: list[SpillRow]) -> list[int]:
        await asyncio.sleep(0)
        if self.disk.gate is not None:
            await self.disk.gate.wait()
        self.disk.check("append")
        ids = []
        for row in rows:
            self.disk.last += 1
            self.disk.rows[self.disk.last] = msgspec.structs.replace(row, id=self.disk.last)
            self.disk.appended += row.count
            ids.append(self.disk.last)
        return ids

    async def next(self, worker: int, after_id: int, limit_bytes: int) -> list[SpillRow]:
        await asyncio.sleep(0)
        self.disk.check("next")
        found: list[SpillRow] = []
        for row in self.disk.rows.values():
            if row.worker == worker and row.id > after_id:
                if found and sum(len(one.record) for one in found) + len(row.record) > limit_bytes:
                    break
                found.append(row)
        return found

    async def remove(self, ids: list[int]) -> None:
        await asyncio.sleep(0)
        self.disk.check("remove")
        for row in list(ids):
            self.disk.rows.pop(row, None)

    async def remove_up_to(self, worker: int, id: int) -> None:
        await self.remove([row.id for row in self.disk.rows.values() if row.worker == worker and row.id <= id])

    async def left(self) -> list[int]:
        self.disk.check("next")
        return sorted({row.worker for row in self.disk.rows.values()})

    async def extent(self, worker: int, up_to: int = LARGEST_ID) -> Extent:
        own = [row for row in self.disk.rows.values() if row.worker == worker and row.id <= up_to]
        return Extent(sum(row.count for row in own), max((row.id for row in own), default=0))


class Bench:
    """
    An io process's dispatcher with the rings of some workers, and the workers' ends of them.

    Attributes:
        calls: "pause" and "resume", as they were called.
        disk: What spilled records go to; None if there is nothing.
    """

    def __init__(
        self,
        page: Page,
        routes: list[RouteSpec] = ALL,
        workers: int = 1,
        *,
        overflow: Any = "block",
        disk: Disk | None = None,
        pause_limit: float = 10.0,
        run: int = RUN,
        patience: float = 10.0,
    ) -> None:
        self.page, self.disk, self.routes = page, disk, routes
        self.memories = [RingMemory.create(CAPACITY) for _ in range(workers)]
        self.bells = [Doorbell.create() for _ in range(workers)]
        self.consumers = [Consumer(memory) for memory in self.memories]
        self.calls: list[str] = []
        self.resumed = asyncio.Event()
        self.overflow_policy, self.pause_limit, self.run, self.patience = overflow, pause_limit, run, patience
        self.begin()
        for bell in self.bells:
            bell.clear()

    def begin(self) -> None:
        """Be an io process, the first or a successor of one that was killed: only rings and disk are as it has left them."""
        self.outlets = [Outlet(memory, bell) for memory, bell in zip(self.memories, self.bells, strict=True)]
        self.router = Router(self.routes, len(self.outlets), overflow=self.overflow_policy)
        self.spiller = Spiller(
            self.outlets,
            self.router,
            page=self.page,
            path=None if self.disk is None else Path("/"),
            owner=Owner(self.run, 0, 1),
            patience=self.patience,
            open=self.disk.open if self.disk else Disk().open,
        )
        self.overflow = Overflow(
            self.outlets,
            self.spiller,
            page=self.page,
            pause=lambda: self.calls.append("pause"),
            resume=self._resume,
            pause_limit=self.pause_limit,
        )
        self.dispatch = Dispatch(self.router, self.outlets, self.overflow, page=self.page)

    async def start(self) -> None:
        """Do what the io process does before it connects."""
        await self.spiller.start(self.overflow.look)

    def kill(self) -> None:
        """Stop this io process as `kill -9` would: nothing that is under way is finished."""
        if self.spiller._task is not None:
            self.spiller._task.cancel()
        if self.overflow._timer is not None:
            self.overflow._timer.cancel()
        if self.overflow._telling is not None:
            self.overflow._telling.cancel()

    async def end(self) -> None:
        """Stop it in peace."""
        self.overflow.close()
        await self.spiller.close()

    def close(self) -> None:
        self.kill()
        for part in (*self.memories, *self.bells):
            part.close()

    def send(self, *events: Event) -> None:
        self.dispatch.dispatch([text(*event) for event in events], binary=False)

    def records(self, worker: int = 0, limit: int = 1_000_000) -> list[Record]:
        """Take the records of a worker's ring, and free them."""
        records = self.consumers[worker].poll(limit)
        if records:
            self.consumers[worker].commit(records[-1])
        return records

    def read(self, record: Record) -> list[Event]:
        """Return topic, event and payload of each event in a record, as the worker would."""
        kind, payload, index = record.kind, record.payload, 0
        if kind == Kind.STORED:
            row, index = decode_stored(payload)
            assert self.disk is not None
            kind, payload = self.disk.rows[row].kind, decode_spilled(self.disk.rows[row].record)[1]
        raw, numbers, payloads = decode_events(kind, payload)
        names = decode_names(raw)
        assert record.count == len(numbers) or record.kind == Kind.STORED
        found = [(names[2 * n], names[2 * n + 1], bytes(payload)) for n, payload in zip(numbers, payloads, strict=True)]
        return found[index : index + 1] if record.kind == Kind.STORED else found

    def events(self, worker: int = 0, limit: int = 1_000_000) -> list[Event]:
        return [event for record in self.take(worker, limit) for event in record]

    def take(self, worker: int = 0, limit: int = 1_000_000) -> list[list[Event]]:
        """Take records as the worker does: read first, and free then."""
        records = self.consumers[worker].poll(limit)
        events = [self.read(record) for record in records]
        if records:
            self.consumers[worker].commit(records[-1])
        return events

    def _resume(self) -> None:
        self.calls.append("resume")
        self.resumed.set()


def counts(page: Page, *names: str) -> list[int]:
    return [page.get(name) for name in names]


def dispatch_to(outlets: list[Outlet], router: Router, page: Page) -> Dispatch:
    """Return a dispatcher to these outlets, without a disk and a connection."""
    spiller = Spiller(outlets, router, page=page, path=None, owner=Owner(RUN, 0, 1), patience=10.0)
    overflow = Overflow(outlets, spiller, page=page, pause=lambda: None, resume=lambda: None, pause_limit=10.0)
    return Dispatch(router, outlets, overflow, page=page)
