"""
Cursors on their way to a point that the outlets count: to safety, or to the commit.

What is gathered while an earlier lot is on its way waits for the next, and a newer cursor of a topic takes the place of an older
one. So at most two are kept of each topic, however far behind the workers are.

What must stay true: a cursor arrives only when every outlet has brought there all that it had been given by then; so it is never
ahead of an event, whatever the order in which outlets get on.
"""

from collections.abc import Sequence

from rig.cursors import Cursor
from rig.io.track import Track

Lot = dict[Track, Cursor]


class Stage:
    """One such way."""

    def __init__(self) -> None:
        self._gathered: Lot = {}
        self._leaving: Lot = {}
        self._goal: Sequence[int] = ()

    def __bool__(self) -> bool:
        """Say whether anything is on its way."""
        return bool(self._gathered or self._leaving)

    def add(self, track: Track, cursor: Cursor) -> None:
        """Send a cursor on its way; its events have been given to the outlets."""
        self._gathered[track] = cursor

    def advance(self, queued: Sequence[int], reached: Sequence[int]) -> Lot:
        """
        Return what has arrived.

        Args:
            queued: For each outlet, how many records it was ever given.
            reached: For each, how many of these are there.
        """
        arrived: Lot = {}
        if self._leaving and all(map(int.__ge__, reached, self._goal)):
            arrived, self._leaving = self._leaving, {}
        if self._gathered and not self._leaving:
            lot, self._gathered = self._gathered, {}
            if all(map(int.__ge__, reached, queued)):
                arrived = arrived | lot if arrived else lot
            else:
                self._leaving, self._goal = lot, list(queued)
        return arrived
