"""
Where a connection stands: connecting, connected, degraded, offline or draining, and why.

    asked to end                                            draining
    open, and nothing is wrong                              connected
    open, and something is: see `impair`                    degraded
    on the way; no attempt has failed since the start,
    or since the connection was lost                        connecting
    an attempt has failed                                   offline

What must stay true: the state follows from the facts alone; the page has it, and the time spent in each.
"""

import time

from rig.app import State
from rig.counters import Page, enter_state


class States:
    """
    The facts about one connection, and the state that follows.

    Attributes:
        state: One of `rig.app.STATES`.
        reason: Why, in words; may be empty.
        since: Unix seconds at which the state began.
        previous: The state before, empty at first.
    """

    def __init__(self, page: Page) -> None:
        """Start on the way, whatever a predecessor has left in the page."""
        self._page = page
        self._open = self._failed = self._draining = False
        self._why = "starting"
        self._impairments: dict[str, str] = {}
        self._told: tuple[str, ...] = ()
        self.state, self.reason, self.previous = "connecting", self._why, ""
        self.since = time.time()
        enter_state(page, self.state, time.monotonic_ns())

    def opened(self) -> None:
        """Note that the connection is open."""
        self._open, self._failed, self._why = True, False, ""
        self._follow()

    def lost(self, reason: str) -> None:
        """Note that an open connection ended; the next one is on its way."""
        self._open, self._failed, self._why = False, False, reason
        self._follow()

    def failed(self, reason: str) -> None:
        """Note that an attempt failed."""
        self._open, self._failed, self._why = False, True, reason
        self._follow()

    def draining(self) -> None:
        """Note that the run ends."""
        self._draining = True
        self._follow()

    def impair(self, what: str, reason: str) -> None:
        """
        Note that something does not work as it should, until `mend`.

        Args:
            what: Names it, as "store"; a second reason for the same takes the place of the first.
            reason: In words.
        """
        self._impairments[what] = reason
        self._follow()

    def mend(self, what: str) -> bool:
        """Note that something works again; return False if it always did."""
        if self._impairments.pop(what, None) is None:
            return False
        self._follow()
        return True

    def news(self, *, connection: str, topics: int) -> State | None:
        """Return what callbacks should be told, None if they know: another state, or other things that do not work."""
        kinds = (self.state, *(self._impairments if self.state == "degraded" else ()))
        if kinds == self._told:
            return None
        self._told = kinds
        return State(self.state, self.reason, self.since, self.previous, connection, topics)

    def _follow(self) -> None:
        state, self.reason = self._derive()
        if state != self.state:
            self.previous, self.state, self.since = self.state, state, time.time()
            enter_state(self._page, state, time.monotonic_ns())

    def _derive(self) -> tuple[str, str]:
        if self._draining:
            return "draining", "asked to stop"
        if not self._open:
            return ("offline" if self._failed else "connecting"), self._why
        if self._impairments:
            return "degraded", "; ".join(self._impairments.values())
        return "connected", ""
