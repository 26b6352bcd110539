"""
Cursors on their way to a point that the outlets count: to safety, or to the commit.

What one batch has brought is a lot: it arrives when every outlet has brought there all that it had been given by then, so it is
never ahead of an event, whatever the order in which outlets get on. Lots are kept apart, so that a worker with much before it
leaves traces of how far it is: a run that dies in the midst of a long replay begins its next life where it was. Where there
are many, the newest are joined: then fewer cursors are kept, none too early.
"""

from collections import deque
from collections.abc import Sequence

from rig.cursors import Cursor
from rig.io.track import Track

Lot = dict[Track, Cursor]


_MOST_LOTS = 64
_MOST_CURSORS = 20_000


class Stage:
    """One such way."""

    def __init__(self) -> None:
        self._gathered: Lot = {}
        self._lots: deque[tuple[Sequence[int], Lot]] = deque()
        self._cursors = 0

    def __bool__(self) -> bool:
        """Say whether anything is on its way."""
        return bool(self._gathered or self._lots)

    def add(self, track: Track, cursor: Cursor) -> None:
        """Send a cursor on its way; its events have been given to the outlets."""
        self._gathered[track] = cursor

    def seal(self, queued: Sequence[int]) -> None:
        """
        Make a lot of what was gathered.

        Args:
            queued: For each outlet, how many records it was ever given.
        """
        if not self._gathered:
            return
        self._lots.append((list(queued), self._gathered))
        self._cursors += len(self._gathered)
        self._gathered = {}
        while len(self._lots) > 1 and (len(self._lots) > _MOST_LOTS or self._cursors > _MOST_CURSORS):
            goal, newer = self._lots.pop()
            _, older = self._lots.pop()
            both = older | newer
            self._cursors += len(both) - len(older) - len(newer)
            self._lots.append((goal, both))

    def advance(self, queued: Sequence[int], reached: Sequence[int]) -> Lot:
        """
        Return what has arrived.

        Args:
            queued: For each outlet, how many records it was ever given.
            reached: For each, how many of these are there.
        """
        self.seal(queued)
        arrived: Lot = {}
        while self._lots and all(map(int.__ge__, reached, self._lots[0][0])):
            _, lot = self._lots.popleft()
            self._cursors -= len(lot)
            arrived |= lot
        return arrived
