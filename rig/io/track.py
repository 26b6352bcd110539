"""
One topic's cursor: which events are repeats, and which cursor the next join sends. Pure.

    floor       everything up to it was received; what a join sends and what is kept
    newest      the highest that was received
    ahead       while the topic catches up: what was received above the floor, in whatever order; else floor and newest are one

Usually events come in order, and one that is not above the newest is a repeat. That is not so after a join: Phoenix subscribes a
channel before it can replay what was missed, so live events overtake the replay. Were these the newest at once, the replay behind
them would be taken for repeats, and lost. So a topic catches up for a while: an event is a repeat only if it was seen. One below
the newest is part of the replay, which is in order itself: then the floor is there. Broadcasts carry no join_ref, what a channel
pushes does: so where the server says how many events were missed, it is known when the last of them has come.

An earlier run may have left events in spill.db that it had not committed: they are above the floor, and the server sends them too.
They are handled from there, and passed over when they come from the server.

What must stay true: no event above the floor is dropped that was neither seen nor lies in spill.db; the floor is never above one
that is still to come.

Source: Phoenix.Channel.Server, `init_join` (`join` has returned, then it subscribes, then comes what the channel sent itself), and
`fastlane` (a broadcast is encoded once for all subscribers, without join_ref).
"""

from collections.abc import Callable

from rig.cursors import Cursor, in_order, is_after

MOST_AHEAD = 8192
"""Cursors that are remembered of a topic that catches up; of more, the lower half is taken for complete."""


class Track:
    """
    What was received of one topic.

    Attributes:
        topic: The topic.
        place: Of its mark; None if it has none.
        sent: What the latest join was sent with.
        behind: True if part of a replay came since this was last set to False.
        left: What an earlier run has left in spill.db, and this one hands on.
        missing: How many events of the replay are still to come; 0 if that is not known.
        touched: True if it is in the list of those that an event came for.
    """

    __slots__ = (
        "_anew",
        "_on_repeat",
        "_touched_tracks",
        "ahead",
        "behind",
        "floor",
        "left",
        "missing",
        "newest",
        "place",
        "sent",
        "topic",
        "touched",
    )

    def __init__(
        self, topic: str, cursor: Cursor | None, touched: list["Track"], on_repeat: Callable[["Track", Cursor], None]
    ) -> None:
        """
        Start where something is known, or nothing.

        Args:
            topic: The topic.
            cursor: What was received before, None if nothing.
            touched: Where it adds itself when an event comes.
            on_repeat: Called with a repeat that comes though the topic does not catch up.
        """
        self.topic = topic
        self.floor = self.newest = cursor
        self.ahead: set[Cursor] | None = None
        self.left: set[Cursor] | None = None
        self.sent: Cursor | None = None
        self.place: int | None = None
        self.behind = self.touched = False
        self.missing = 0
        self._anew = False
        self._touched_tracks, self._on_repeat = touched, on_repeat

    def admit(self, cursor: Cursor, pushed: bool = False) -> bool:
        """Take note of an event, `pushed` by the channel or perhaps a broadcast; return False if it was received before."""
        newest, left = self.newest, self.left
        if self.ahead is not None:
            admitted = self._admit_out_of_order(cursor, replayed=pushed and self.missing > 0)
            if pushed and self.missing:
                self.missing -= 1
                if not self.missing:
                    self.caught_up()
            if not admitted:
                return False
        elif newest is None or (cursor > newest if type(cursor) is type(newest) is int else is_after(cursor, newest)):
            self.floor = self.newest = cursor
        else:
            self._on_repeat(self, cursor)
            return False
        if not self.touched:
            self.touched = True
            self._touched_tracks.append(self)
        return left is None or cursor not in left

    def catch_up(self) -> None:
        """Expect a replay: a join is sent with the floor. A topic of which nothing is known has nothing to catch up with."""
        self.sent, self.missing = self.floor, 0
        if self.ahead is None and self.newest is not None:
            self.ahead = set()
        if self.floor is None and self._anew and self.ahead:
            self.sent = in_order(self.ahead)[0]

    def caught_up(self) -> None:
        """Expect no replay any more: all up to the newest was received."""
        self.left = None
        if self.ahead is not None:
            self.floor, self.ahead, self.behind, self.missing = self.newest, None, False, 0
            if not self.touched:
                self.touched = True
                self._touched_tracks.append(self)

    def begin_anew(self) -> None:
        """Forget what was received: the server does not know our cursor, and may number its events from the start."""
        self.ahead = set() if self.ahead is None else self.ahead
        self.floor, self.left, self._anew = None, None, True
        self.newest = in_order(self.ahead)[-1] if self.ahead else None

    def seen(self, cursor: Cursor) -> None:
        """Note an event that a predecessor had handed on without a mark."""
        if self.floor is not None and not is_after(cursor, self.floor):
            return
        if self.ahead is None or type(cursor) is not type(self.newest):
            self.ahead = set()
            self.newest = None
        self.ahead.add(cursor)
        if self.newest is None or is_after(cursor, self.newest):
            self.newest = cursor

    def _admit_out_of_order(self, cursor: Cursor, *, replayed: bool) -> bool:
        ahead, floor, newest = self.ahead, self.floor, self.newest
        assert ahead is not None
        if newest is not None and type(cursor) is not type(newest):
            self.floor, self.newest, self.ahead, self.behind = cursor, cursor, None, False
            return True
        if floor is not None and not is_after(cursor, floor):
            return False
        if newest is None or is_after(cursor, newest):
            self.newest = cursor
            if replayed:  # in order, so that all before it is here
                self.floor, self.behind = cursor, True
                return True
            ahead.add(cursor)
            if len(ahead) > MOST_AHEAD:
                self._thin_out(ahead)
            return True
        self.floor, self.behind = cursor, True
        return cursor not in ahead

    def _thin_out(self, ahead: set[Cursor]) -> None:
        floor = self.floor
        kept = in_order(cursor for cursor in ahead if floor is None or is_after(cursor, floor))
        half = len(kept) - MOST_AHEAD // 2
        if half > 0:
            self.floor = kept[half - 1]
            kept = kept[half:]
        self.ahead = set(kept)
