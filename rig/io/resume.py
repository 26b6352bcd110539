"""
Cursors at work: what a join sends, which events are repeats, what is marked for a successor and what is kept for the next run.

    received   Track.admit            newest and floor, in memory        sent at a rejoin
    safe       Stage → Marks          in shared memory                   sent by the successor of a killed io process
    committed  Stage → Saver          in the store                       sent by the next run

An event is safe when it is in a ring, or stored. Between its publication and its mark the io process may be killed: so a successor
looks through what was published since the last mark, and takes those events for received.

What must stay true: what is sent is never ahead of what is safe by the time that it counts; what is saved never ahead of what is
committed. Topics without a cursor cost nothing for an event.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

import structlog

from rig.counters import Page
from rig.cursors import Cursor
from rig.errors import StoreFailed
from rig.gap import Answer, Gap
from rig.io.gaps import Gaps
from rig.io.remains import events_of, published, readable_bytes
from rig.io.router import Router, SlotByCursor
from rig.io.saving import CursorStore, Saver
from rig.io.stage import Lot, Stage
from rig.io.track import Track
from rig.log import Throttle
from rig.marks import Marks
from rig.phoenix import events
from rig.ring import RingMemory
from rig.ring.layout import HEAD, TAIL

CATCH_UP = 10.0
"""Seconds after a join, and after the last sign of a replay, in which live events may have overtaken a replay."""
TICK = 0.05
"""Seconds between two looks at what is committed."""
_MOST_LEFT = 100_000
"""Events in spill.db of which is remembered that they are there."""
_REPORT_INTERVAL = 30.0

log = structlog.get_logger()


class Progress(Protocol):
    """What an outlet counts: records, in order, none left out."""

    @property
    def queued(self) -> int:
        """How many it was ever given."""

    @property
    def safe(self) -> int:
        """How many of these are in the ring, or stored."""

    @property
    def committed(self) -> int:
        """How many of these the worker has committed."""


class Resume:
    """The cursors of one io process. All methods are called on the loop's thread."""

    def __init__(
        self,
        marks: Marks,
        rings: Sequence[RingMemory],
        *,
        page: Page,
        tell: Callable[[Gap], None],
        cursor_field: str,
        resumed_field: str,
        store: CursorStore | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Take over the marks; `load` and `take_over` follow, then the joins.

        Args:
            marks: Of this io process, perhaps with what a predecessor marked.
            rings: The events ring to each worker.
            page: The io process's counters.
            tell: Hands a gap on to the application.
            cursor_field: Where a join payload has the cursor.
            resumed_field: Where the answer to a join says whether what was missed follows.
            store: Where cursors are kept; None if no topic has one.
            clock: Returns seconds.
        """
        self._marks, self._rings, self._clock = marks, rings, clock
        self._field, self._resumed_field = cursor_field, resumed_field
        self._outlets: Sequence[Progress] = ()
        self._lives = marks.begin()
        self._gaps = Gaps(page=page, tell=tell, clock=clock)
        self._store = store
        self._saver = None if store is None else Saver(store, clock=clock)
        self._stored: dict[str, Cursor] = {}
        self._topics: set[str] = set()
        self._tracks: dict[str, Track] = {}
        self._touched: list[Track] = []
        self._left = 0
        self._catching_up: dict[Track, float] = {}
        self._to_safety, self._to_commit = Stage(), Stage()
        self._inherited: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._throttle = Throttle(_REPORT_INTERVAL)

    # The beginning.

    async def load(self) -> None:
        """Read the cursors of the run before. Without a store that works, topics start without one, and the log says so."""
        if self._store is None:
            return
        try:
            self._stored = await self._store.load()
        except StoreFailed as exc:
            log.error("cursors cannot be read: what was sent since the last run is not asked for", reason=str(exc))

    def note_left(self, router: Router, record: bytes) -> bool:
        """
        Note events that an earlier run has left in spill.db: the server may send them, too.

        Args:
            router: Knows which events have cursors.
            record: The payload of an EVENTS record.

        Return False if no more can be remembered: what is left beyond that is handled twice where the server sends it.

        Raises:
            RemoteProtocolError: If it cannot be read.
        """
        for track, cursor in _cursors(router, events_of(record)):
            if track.left is None:
                track.left = set()
            track.left.add(cursor)
            self._left += 1
        if self._left < _MOST_LEFT:
            return True
        log.warning(
            "much is left from an earlier run: some of it is handled twice where the server sends it again", remembered=self._left
        )
        return False

    def take_over(self, router: Router, outlets: Sequence[Progress]) -> None:
        """
        Find what a predecessor had handed on without having marked it; to be called before anything is put into a ring.

        Args:
            router: Knows which events have cursors.
            outlets: To the workers, in the order of the rings.
        """
        self._outlets = outlets
        self._inherited = [memory.words[TAIL] for memory in self._rings]
        in_rings = map(published, self._rings, self._marks.positions.tolist())
        for track, cursor in _cursors(router, chain.from_iterable(in_rings)):
            track.seen(cursor)
        for track in self._tracks.values():
            if track.floor is None and track.newest is not None and router.goes_to_one_worker(track.topic):
                track.ahead = None  # the first events of all: nothing before them was received, so nothing was left out
                track.floor = track.newest
            if track.ahead is not None:
                self._catching_up[track] = math.inf  # until it is joined
            if track.floor is not None:
                self._to_safety.add(track, track.floor)
                self._to_commit.add(track, track.floor)
        self._arm()

    def join_payload(self, topic: str, payload: Any, *, has_cursor: bool) -> Any:
        """
        Return what to join a topic with: as it is, or a callable that adds the newest cursor at each join.

        Args:
            topic: The topic.
            payload: As the application has it; an object if the topic has a cursor.
            has_cursor: True if it has.
        """
        track = self.track(topic) if has_cursor else None
        if topic not in self._topics:
            self._topics.add(topic)
            if self._lives and self._marks.place(topic) is not None:
                self._gaps.expect(topic, "the io process was restarted")
            elif track is not None and track.floor is not None:
                self._gaps.expect(topic, "the run was restarted")
        if track is None:
            return payload
        self._arm()

        def with_cursor() -> Mapping[str, Any]:
            fields: Mapping[str, Any] = payload() if callable(payload) else payload
            self._expect_replay(track)
            return fields if track.sent is None else {**fields, self._field: track.sent}

        return with_cursor

    def track(self, topic: str) -> Track:
        """Return the track of a topic: a new one goes on from its mark, else from what the run before had stored."""
        track = self._tracks.get(topic)
        if track is None:
            place = self._marks.place(topic)
            marked = None if place is None else self._marks.get(place)
            cursor = self._stored.get(topic) if marked is None else marked
            track = self._tracks[topic] = Track(topic, cursor, self._touched, self._repeated)
            if marked is not None:
                self._to_commit.add(track, marked)
        return track

    # What happens.

    def note(self, event: events.Event) -> None:
        """Look at what happened to a channel. Of two connections only what ends a topic on the one that it is on."""
        if isinstance(event, events.Joined):
            self._joined(event)
        else:
            self._gaps.note(event)

    def dispatched(self) -> None:
        """Take up the cursors of a batch that the outlets were given."""
        for track in self._touched:
            track.touched = False
            if track.floor is not None:
                self._to_safety.add(track, track.floor)
                self._to_commit.add(track, track.floor)
        if self._touched:
            self._touched.clear()
            self._to_commit.seal([outlet.queued for outlet in self._outlets])
        self._mark()
        self._arm()

    async def close(self) -> None:
        """Save what is committed; to be called when the workers have ended."""
        self.dispatched()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._saver is not None:
            self._commit()
            await self._saver.finish()

    # Steps of the above.

    def _joined(self, event: events.Joined) -> None:
        if event.topic not in self._topics:  # joined only to push to it
            return
        track = self._tracks.get(event.topic)
        answer = Answer.of(event.response, self._resumed_field)
        is_gap = self._gaps.joined(event.topic, answer, None if track is None else track.sent)
        place = self._marks.take_place(event.topic)
        if track is None:
            return
        if place is None:
            message = "no room for the mark of a topic: the death of the io process would repeat its events"
            self._throttle.say(log.warning, message, self._clock(), topic=event.topic)
        track.place = place
        if is_gap and answer.resumed is False:
            track.begin_anew()
        if answer.missed == 0 and answer.resumed is not False:
            track.caught_up()
            self._catching_up.pop(track, None)
        elif track.ahead is not None:
            self._catching_up[track] = self._clock() + CATCH_UP
            track.missing = (answer.missed or 0) if answer.resumed else 0
        if self._touched or self._to_safety:
            self.dispatched()

    def _expect_replay(self, track: Track) -> None:
        track.catch_up()
        if track.ahead is not None:
            self._catching_up[track] = self._clock() + CATCH_UP
            self._arm()

    def _arm(self) -> None:
        """Look again soon, if there is anything to look for."""
        if self._timer is None and not self._closed and (self._to_commit or self._to_safety or self._catching_up or self._saver):
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._end_catching_up()
        self.dispatched()
        self._commit()
        self._arm()

    def _end_catching_up(self) -> None:
        now = self._clock()
        for track in [track for track, due in self._catching_up.items() if due <= now or track.ahead is None]:
            if track.behind:
                track.behind = False
                self._catching_up[track] = now + CATCH_UP
            else:
                del self._catching_up[track]
                track.caught_up()

    def _mark(self) -> None:
        marks = self._marks
        if self._to_safety:
            queued = [outlet.queued for outlet in self._outlets]
            safe = [outlet.safe for outlet in self._outlets]
            arrived: Lot = self._to_safety.advance(queued, safe)
            for track, cursor in arrived.items():
                place = track.place
                if place is None:
                    place = track.place = marks.take_place(track.topic)
                if place is not None:
                    marks.set(place, cursor)
        if not self._to_safety:
            held = bool(self._catching_up)
            for worker, memory in enumerate(self._rings):
                tail = memory.words[TAIL]
                if not held or tail - marks.positions[worker] > readable_bytes(memory):
                    marks.positions[worker] = tail

    def _commit(self) -> None:
        if self._saver is None:
            return
        if self._inherited and all(map(int.__le__, self._inherited, (memory.words[HEAD] for memory in self._rings))):
            self._inherited = []
        if self._to_commit and not self._inherited:
            committed = [outlet.committed for outlet in self._outlets]
            queued = [outlet.queued for outlet in self._outlets]
            self._saver.add(self._to_commit.advance(queued, committed))
        self._saver.start()

    def _repeated(self, track: Track, cursor: Cursor) -> None:
        self._throttle.say(
            log.warning,
            "event dropped: its cursor is not above the newest, and no replay is expected",
            self._clock(),
            about=track.topic,
            topic=track.topic,
            cursor=cursor,
            newest=track.newest,
        )


def _cursors(router: Router, received: Iterable[tuple[str, str, Any]]) -> Iterator[tuple[Track, Cursor]]:
    """Yield the cursors among events that were received before, each with the track of its topic."""
    for topic, event, payload in received:
        slot = router.known(topic, event)
        if isinstance(slot, SlotByCursor) and (cursor := slot.read(payload)) is not None:
            yield slot.track, cursor
