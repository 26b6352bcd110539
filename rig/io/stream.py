"""
The durable pushes of one topic on their way to the server.

Rows are read in pages, in the order of storing, and sent in that order; so many may be without an answer at a time. What must stay
true: a row leaves the outbox only by the server's `ok`, or to the dead letters. Whatever goes wrong on the way ends the sending;
once nothing is without an answer, and the database has all verdicts, the rows that are left are read again from the lowest on. So
rows are first sent, and sent again, in the order of storing; with a window of 1 the server cannot see another.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec
import structlog

from rig.backoff import full_jitter
from rig.counters import Page
from rig.errors import StoreFailed
from rig.io.budget import Budget
from rig.io.patience import Patience
from rig.io.verdicts import Verdicts
from rig.log import Throttle
from rig.phoenix import Push, events
from rig.store import Outbox, Row

_PAGES_AHEAD = 4
"""Windows that are read together."""
_REASON_LIMIT = 500
"""Characters of the server's answer that are kept."""
_LATE = 10.0
"""How many times the time-out an answer may be late and still count."""
_STORE_PAUSE = 1.0
"""Seconds after which a page that could not be read is asked for again."""
_NEVER_ARRIVED = {"reason": "unmatched topic"}
"""What Phoenix answers to a push whose channel has just ended: no refusal of the application's. Source: Phoenix.Socket."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Terms:
    """
    How durable pushes are sent.

    Attributes:
        window: How many of a topic may be without an answer.
        timeout: Seconds until one without an answer is sent again.
        on_error: What becomes of one that is answered with an error.
        retries: With "retry", how often it is sent again.
    """

    window: int
    timeout: float
    on_error: Literal["dead-letter", "retry"]
    retries: int


class Gate(Protocol):
    """Keeps the pushes of the outbox behind the live traffic."""

    async def wait_open(self) -> None:
        """Return when it is our turn."""

    def sent(self, rows: int) -> None:
        """Count rows that were sent."""


@dataclass(frozen=True, slots=True)
class Means:
    """
    What all streams share.

    Attributes:
        outbox: Where rows are read.
        verdicts: Where they are told of.
        gate: When to send.
        budget: For what the server did not take at the first time.
        turns: Bounds the streams that hold rows in memory.
        page_rows: Says how many rows a page may have, by their size.
        send: Hands pushes to the connection.
        patience: How long the server has kept us waiting.
        page: The io process's counters.
        throttle: Of the log.
    """

    outbox: Outbox
    verdicts: Verdicts
    gate: Gate
    budget: Budget
    turns: asyncio.Semaphore
    page_rows: Callable[[], int]
    send: Callable[[list[Push]], None]
    patience: Patience
    page: Page
    throttle: Throttle


class StoredPush(Push):
    """
    A push that is a row of the outbox.

    The core keeps it for longer than we wait for it: an answer that comes late is an answer all the same.
    """

    __slots__ = ("row", "sent_at", "stream")

    def __init__(self, stream: "Stream", row: Row, timeout: float, sent_at: float) -> None:
        payload: Any = row.payload if row.binary else msgspec.Raw(row.payload)
        super().__init__(row.topic, row.event, payload, _LATE * timeout)
        self.stream, self.row, self.sent_at = stream, row, sent_at


class Stream:
    """
    One topic, for as long as it has rows.

    Attributes:
        topic: The topic.
        more: True if rows may have come that were not read.
    """

    def __init__(self, topic: str, terms: Terms, means: Means, *, joined: bool, gave_way: Callable[[str], None]) -> None:
        """
        Make a stream; `run` is its task.

        Args:
            topic: The topic.
            terms: How rows are sent.
            means: What all streams share.
            joined: True if the channel is.
            gave_way: Told when nothing is on its way any more, after `give_way`.
        """
        self.topic, self._terms, self._means, self._gave_way = topic, terms, means, gave_way
        self._unsent: deque[Row] = deque()
        self._unanswered: dict[StoredPush, None] = {}
        self._read_up_to = 0
        self._broken = self._giving_way = False
        self._repeated = False
        self._failures = 0
        self._joined = asyncio.Event()
        self._turn = asyncio.Event()
        self.more = True
        if joined:
            self._joined.set()

    @property
    def in_flight(self) -> set[int]:
        """The ids of the rows that are sent and not answered."""
        return {push.row.id for push in self._unanswered}

    def look(self) -> None:
        """Note that there may be new rows."""
        self.more = True
        self._turn.set()

    def joined(self) -> None:
        """Note that the channel is joined."""
        self._joined.set()

    def lost(self) -> None:
        """Note that the channel is not joined any more."""
        self._joined.clear()
        self._break()

    def give_way(self) -> None:
        """Send nothing more until the channel is joined again; what is on its way is waited for."""
        self._giving_way = True
        self._break()

    def resolve(self, event: events.PushEvent) -> None:
        """Note what became of a push of this stream."""
        push = event.push
        assert isinstance(push, StoredPush)
        row, waited_for = push.row, push in self._unanswered
        if waited_for:
            del self._unanswered[push]
        match event:
            case events.ReplyReceived(status="ok"):
                self._means.page.add("durable_acknowledged")
                self._means.verdicts.acknowledge(row.id)
                self._means.budget.earn()
                self._failures = 0
            case _ if not waited_for:
                return
            case events.ReplyReceived(response=response) if response == _NEVER_ARRIVED:
                self._break()
            case events.ReplyReceived(status=status, response=response):
                self._refused(row, _shown(status, response))
            case events.PushRejected(reason=reason) if self._joined.is_set():
                self._bury(row, f"it cannot be sent: {reason}")
            case _:
                self._break()
        self._turn.set()

    def look_for_late_answers(self) -> None:
        """Wait no longer for answers that the server owes for too long."""
        due = self._means.patience.now - self._terms.timeout
        late = [push for push in self._unanswered if push.sent_at <= due]
        for push in late:
            del self._unanswered[push]
        if late:
            self._say("a durable push was not answered, and is sent again: its event needs a reply with ok", late[0].row)
            self._repeated = True
            self._break()

    async def run(self) -> None:
        """Send until nothing is left."""
        while True:
            await self._joined.wait()
            try:
                async with self._means.turns:
                    if await self._send_all():
                        return
            except StoreFailed as exc:
                self._say("the outbox cannot be read, and is tried again", None, reason=str(exc))
                await asyncio.sleep(_STORE_PAUSE)
            if self._giving_way:
                self._giving_way = False
                self._joined.clear()
                self._gave_way(self.topic)
            else:
                await self._pause()

    async def _send_all(self) -> bool:
        """Send from the lowest row on; False if something went wrong, and nothing is without an answer any more."""
        await self._means.verdicts.settled()
        self._read_up_to, self._broken, self._repeated, self.more = 0, not self._joined.is_set(), False, True
        try:
            while True:
                self._turn.clear()
                if self.more and not self._broken and len(self._unsent) < self._terms.window:
                    await self._read()
                await self._means.gate.wait_open()
                if not self._broken:
                    self._send()
                if not self._unanswered and (self._broken or not (self._unsent or self.more)):
                    return not self._broken
                if not self._may_go_on():
                    await self._turn.wait()
        finally:
            self._unsent.clear()

    def _may_go_on(self) -> bool:
        if self._broken or len(self._unanswered) >= self._terms.window:
            return False
        return bool(self._unsent) or self.more

    async def _read(self) -> None:
        self.more = False
        limit = min(_PAGES_AHEAD * self._terms.window, self._means.page_rows())
        rows = await self._means.outbox.after(self.topic, self._read_up_to, limit)
        if rows:
            self._read_up_to = rows[-1].id
            self._unsent += rows
        self.more = self.more or len(rows) == limit

    def _send(self) -> None:
        now = time.time()
        pushes: list[StoredPush] = []
        room = self._terms.window - len(self._unanswered)
        while self._unsent and len(pushes) < room:
            row = self._unsent.popleft()
            if row.expires_at is not None and row.expires_at <= now:
                self._say("a durable push waited too long: it is with the dead letters", row)
                self._bury(row, "expired")
                continue
            pushes.append(StoredPush(self, row, self._terms.timeout, self._means.patience.now))
        if pushes:
            self._unanswered.update(dict.fromkeys(pushes))
            self._means.page.add("durable_sent", len(pushes))
            self._means.gate.sent(len(pushes))
            self._means.send([*pushes])

    def _refused(self, row: Row, reason: str) -> None:
        self._say("the server refused a durable push", row, reason=reason)
        if self._terms.on_error == "dead-letter" or row.attempts >= self._terms.retries:
            attempts = f" {row.attempts + 1} times" if row.attempts else ""
            self._bury(row, f"the server refused it{attempts}: {reason}")
            return
        self._means.verdicts.failed(row.id, reason)
        self._repeated = True
        self._break()

    def _bury(self, row: Row, reason: str) -> None:
        self._means.page.add("durable_buried")
        self._means.verdicts.bury(row.id, reason)

    def _break(self) -> None:
        self._broken = True
        self._turn.set()

    async def _pause(self) -> None:
        """Wait with full jitter, and longer where too much is sent again; a lost connection counts for nothing there."""
        delay = full_jitter(self._failures, random.random)
        if self._repeated:
            delay += self._means.budget.spend(1, time.monotonic())
        self._failures += 1
        await asyncio.sleep(delay)

    def _say(self, message: str, row: Row | None, **fields: object) -> None:
        of_row = {} if row is None else {"event_name": row.event, "key": row.key}
        throttle, now = self._means.throttle, time.monotonic()
        throttle.say(log.warning, message, now, about=self.topic, topic=self.topic, **of_row, **fields)


def _shown(status: str, response: Any) -> str:
    text = f"{len(response)} bytes" if isinstance(response, bytes) else msgspec.json.encode(response).decode(errors="replace")
    return f"{status} {text}"[:_REASON_LIMIT]
