"""
The outbox on its way to the server: a stream for each topic that has rows, for as long as it has.

A topic that no handler joins is joined for its rows, and left when it has had none for a while; what the server sends on it
meanwhile is for nobody. Memory is bounded: so many streams hold rows at a time, and what they hold is bounded in rows and bytes.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable

import structlog

from rig.counters import Page
from rig.io.budget import Budget
from rig.io.gate import Gate
from rig.io.patience import Patience
from rig.io.stream import Means, StoredPush, Stream, Terms
from rig.io.verdicts import Verdicts
from rig.io.visits import Visits
from rig.log import Throttle, known
from rig.phoenix import Push, events
from rig.store import Counts, Outbox

_TURNS = 128
"""Streams that hold rows in memory at a time."""
_PAGE_BYTES = 128 * 1024
"""Of a page, by the average size of all rows."""
_STREAMS = 2_000
"""Topics that are looked after at a time; the others are looked for again when there are fewer."""
_LAST_ANSWERS = 1.0
"""Seconds that the server has at the end, at most, to answer what was sent."""
_LAST_VERDICTS = 1.5
"""Seconds that the database has at the end, likewise."""
_RESTART = 1.0
"""Seconds after which a stream that failed unexpectedly is started again."""
_REPORT_INTERVAL = 5.0
"""Seconds between two lines about the same fault."""

log = structlog.get_logger()


class Sender:
    """Opens streams, and tells them what happens to their channels and pushes."""

    def __init__(
        self,
        terms: Terms,
        *,
        page: Page,
        wanted: Collection[str],
        owns: Callable[[str], bool],
        send: Callable[[list[Push]], None],
        unsent_bytes: Callable[[], int],
        deaf: Callable[[], bool],
        join: Callable[[str], None],
        leave: Callable[[str], None],
    ) -> None:
        """
        Make a sender that has no outbox yet.

        Args:
            terms: How rows are sent.
            page: The io process's counters.
            wanted: Topics that are joined anyway.
            owns: Says which topics are this io process's.
            send: Hands pushes to the connection.
            unsent_bytes: What the connection has not written yet.
            deaf: True while nothing is read.
            join: Joins a topic for its rows.
            leave: Leaves it again.
        """
        self._terms, self._page, self._wanted, self._owns = terms, page, wanted, owns
        self._send, self._unsent_bytes, self._deaf = send, unsent_bytes, deaf
        self._patience = Patience()
        self._leave_channel = leave
        self._visits = Visits(join=join, leave=self._leave, give_way=self._give_way)
        self._loop = asyncio.get_running_loop()
        self._throttle = Throttle(_REPORT_INTERVAL)
        self._joined: set[str] = set()
        self._streams: dict[str, Stream] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._left_out = False
        self._page_rows = 64
        self._means: Means | None = None
        self._gate: Gate | None = None
        self._closed = False

    def use(self, outbox: Outbox) -> None:
        """Send what is stored in this outbox, from now on; `look` finds what is there already."""
        verdicts = Verdicts(outbox)
        self._gate = Gate(
            unsent_bytes=self._unsent_bytes,
            deaf=self._deaf,
            overdue=lambda: verdicts.many,
            events=lambda: self._page.get("received"),
        )
        self._means = Means(
            outbox=outbox,
            verdicts=verdicts,
            gate=self._gate,
            budget=Budget(),
            turns=asyncio.Semaphore(_TURNS),
            page_rows=lambda: self._page_rows,
            send=self._send,
            patience=self._patience,
            page=self._page,
            throttle=self._throttle,
        )

    def size_pages(self, counts: Counts) -> None:
        """Say how many rows there are, and how large, so that pages are not."""
        average = counts.bytes // max(counts.rows, 1)
        self._page_rows = max(1, min(1024, _PAGE_BYTES // max(average, 1)))

    async def look(self) -> None:
        """
        Look for rows that others have stored, or an earlier run.

        Raises:
            StoreFailed: If the outbox cannot be read.
        """
        if self._means is not None:
            self.stored(topic for topic in await self._means.outbox.topics() if self._owns(topic))

    def stored(self, topics: Iterable[str]) -> None:
        """Note that topics have new rows."""
        for topic in topics:
            stream = self._streams.get(topic)
            if stream is not None:
                stream.look()
            else:
                self._open(topic)

    async def expire(self) -> None:
        """
        Bury what has waited longer than it may, and is not on its way.

        Raises:
            StoreFailed: If the outbox cannot be read.
        """
        if self._means is None:
            return
        rows = [row for row in await self._means.outbox.expired(time.time()) if self._owns(row.topic)]
        in_flight = {id for topic in {row.topic for row in rows} & self._streams.keys() for id in self._streams[topic].in_flight}
        late = [row.id for row in rows if row.id not in in_flight]
        if late:
            self._page.add("durable_buried", len(late))
            await self._means.outbox.bury(late, "expired")
            message = "durable pushes waited too long: they are with the dead letters"
            self._throttle.say(log.warning, message, time.monotonic(), pushes=len(late))

    async def tend(self) -> None:
        """
        Look for answers that do not come, leave topics that need not be joined any more, and look after those that were too many.

        Raises:
            StoreFailed: If the outbox cannot be read.
        """
        if self._gate is not None:
            self._patience.pass_time(time.monotonic(), deaf=self._deaf(), busy=self._gate.busy)
        for stream in self._streams.values():
            stream.look_for_late_answers()
        self._visits.look()
        if self._left_out and len(self._streams) < _STREAMS:
            self._left_out = False
            await self.look()

    def resolve(self, event: events.PushEvent) -> None:
        """Note what became of a push, if it is a row of the outbox."""
        if isinstance(event.push, StoredPush):
            event.push.stream.resolve(event)

    def note(self, event: events.Event) -> None:
        """Note what happens to channels."""
        match event:
            case events.Joined(topic=topic):
                self._joined.add(topic)
                self._visits.joined(topic)
                if topic in self._streams:
                    self._streams[topic].joined()
            case events.JoinRejected(topic=topic, response=response, unauthorized=unauthorized):
                self.not_joined(topic, "the server refused the join", response, unauthorized=unauthorized)
            case events.JoinTimedOut(topic=topic):
                self.not_joined(topic, "the join was not answered")
            case events.ChannelErrored(topic=topic) | events.ChannelClosed(topic=topic):
                self._lost(topic)
            case events.SocketClosed():
                joined, self._joined = self._joined, set()
                for topic in joined & self._streams.keys():
                    self._streams[topic].lost()

    def not_joined(self, topic: str, reason: str, response: object = None, *, unauthorized: bool = False) -> None:
        """Say that rows wait because their topic cannot be joined."""
        if topic in self._streams:
            message, fields = "durable pushes wait: their topic is not joined", known(topic=topic, reason=reason, response=response)
            self._throttle.say(log.warning, message, time.monotonic(), about=topic, **fields)
        self._lost(topic)
        self._visits.refused(topic, unauthorized=unauthorized)

    async def close(self, within: float = math.inf) -> None:
        """
        Send nothing more, and store what became of what was sent; the rest is sent by the next run.

        Args:
            within: Seconds that there are for the server's last answers, and as many for storing.
        """
        self._closed = True
        self._visits.close()
        if self._means is None or self._gate is None:
            return
        self._gate.close()
        try:
            async with asyncio.timeout(min(_LAST_ANSWERS, within)):
                while any(stream.in_flight for stream in self._streams.values()):  # noqa: ASYNC110 - of many streams
                    await asyncio.sleep(0.005)
        except TimeoutError:
            log.info("some durable pushes were not answered before the end, and are sent again by the next run")
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._means.verdicts.close(min(_LAST_VERDICTS, within))

    def _open(self, topic: str) -> None:
        if self._closed or self._means is None:
            return
        if len(self._streams) >= _STREAMS:
            self._left_out = True
            return
        joined = topic in self._joined
        stream = self._streams[topic] = Stream(topic, self._terms, self._means, joined=joined, gave_way=self._visits.gave_way)
        task = self._tasks[topic] = self._loop.create_task(stream.run(), name=f"outbox {topic}")
        task.add_done_callback(lambda task: self._ended(stream, task))
        if topic not in self._wanted:
            self._visits.want(topic)

    def _leave(self, topic: str) -> None:
        self._joined.discard(topic)  # the channel takes nothing from now on, whenever the server answers
        self._leave_channel(topic)

    def _give_way(self, topic: str) -> None:
        stream = self._streams.get(topic)
        if stream is not None:
            stream.give_way()

    def _ended(self, stream: Stream, task: "asyncio.Task[None]") -> None:
        topic = stream.topic
        del self._streams[topic], self._tasks[topic]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.critical("the outbox of a topic failed unexpectedly, and is started again", topic=topic, error=repr(error))
            self._loop.call_later(_RESTART, self.stored, [topic])
        elif stream.more:
            self._open(topic)
        else:
            self._visits.dry(topic)

    def _lost(self, topic: str) -> None:
        self._joined.discard(topic)
        if topic in self._streams:
            self._streams[topic].lost()
