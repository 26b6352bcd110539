"""
Which joins end a gap: those after a lost connection, a crashed or closed channel, a dead io process, a run before this one.

What must stay true: each time that a topic was not joined ends in one gap, or in none if we left it; the first join ever, and
that of a topic which is joined on another connection meanwhile, end none.
"""

import time
from collections.abc import Callable

import structlog

from rig.counters import Page
from rig.cursors import Cursor
from rig.gap import Answer, Gap
from rig.log import Throttle, known
from rig.phoenix import events

_REPORT_INTERVAL = 5.0
"""Seconds between two lines about the same outcome."""

log = structlog.get_logger()


class Gaps:
    """Watches one connection's channels."""

    def __init__(self, *, page: Page, tell: Callable[[Gap], None], clock: Callable[[], float] = time.monotonic) -> None:
        """
        Start with no topic joined.

        Args:
            page: The io process's counters.
            tell: Hands a gap on to the application.
            clock: Returns seconds.
        """
        self._page, self._tell, self._clock = page, tell, clock
        self._joined: set[str] = set()
        self._missing: dict[str, str] = {}
        self._throttle = Throttle(_REPORT_INTERVAL)

    def expect(self, topic: str, reason: str) -> None:
        """Note that a topic was joined before our time, and that nobody has listened since."""
        self._missing[topic] = reason

    def note(self, event: events.Event) -> None:
        """Look at what ends a channel."""
        match event:
            case events.SocketClosed(cause=cause):
                self._missing |= dict.fromkeys(self._joined, f"the connection was lost: {cause}")
                self._joined.clear()
            case events.ChannelErrored(topic=topic):
                self._lost(topic, "the channel crashed on the server")
            case events.ChannelClosed(topic=topic, left=True):
                self._joined.discard(topic)
                self._missing.pop(topic, None)
            case events.ChannelClosed(topic=topic):
                self._lost(topic, "the server closed the channel")

    def joined(self, topic: str, answer: Answer, since: Cursor | None) -> bool:
        """
        Note a join, and return True if it ends a gap, which is counted, logged and told.

        Args:
            topic: The topic.
            answer: What the server says.
            since: The cursor that the join was sent with.
        """
        self._joined.add(topic)
        reason = self._missing.pop(topic, None)
        if reason is None:
            return False
        outcome, confirmed = answer.outcome(since)
        gap = Gap(topic=topic, outcome=outcome, since=since, confirmed=confirmed, missed=answer.missed, reason=reason)
        self._page.add(f"gaps_{outcome}")
        self._say(gap)
        self._tell(gap)
        return True

    def _lost(self, topic: str, reason: str) -> None:
        if topic in self._joined:
            self._joined.discard(topic)
            self._missing[topic] = reason

    def _say(self, gap: Gap) -> None:
        self._throttle.say(
            log.warning if gap.outcome == "not_replayed" else log.info,
            "joined again after a gap",
            self._clock(),
            about=gap.outcome,
            topic=gap.topic,
            outcome=gap.outcome,
            confirmed=gap.confirmed,
            **known(since=gap.since, missed=gap.missed, reason=gap.reason),
        )
