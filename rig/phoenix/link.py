"""
The connection's state, and when to dial again.

    (state, step) → state      what is not in the table cannot happen

Attempts never end. The delays start over once the connection has been well for a while: joined, or open with nothing to
join.

Source: phoenix.js socket.js.
"""

from enum import Enum, auto

from rig.backoff import Cause, Decision, Random, decide
from rig.errors import LocalProtocolError
from rig.phoenix.timers import Timers

_WELL_AFTER = 30.0
"""Seconds after which the connection counts as well, and the reconnect delays start over."""

_CUT = 1006
_CAUSES = {
    1008: Cause.POLICY_VIOLATION,
    1012: Cause.DRAINING,
    1013: Cause.BUSY,
    _CUT: Cause.LINK_LOST,
}
"""By close code; with every other one the server has just closed. Source: RFC 6455 section 7.4.1 and the IANA registry."""

CONNECT_TIMER = "connect"
WELL_TIMER = "well"


class SocketState(Enum):
    """Where the connection stands."""

    IDLE = auto()
    """Never asked to connect."""
    CONNECTING = auto()
    """The shell dials."""
    OPEN = auto()
    CLOSING = auto()
    """`CloseDue` was said; the transport has not ended yet."""
    WAITING = auto()
    """The next attempt has a time."""
    CLOSED = auto()
    """Closed by the owner, for good."""


class Step(Enum):
    """What can happen to the connection."""

    CONNECT = auto()
    OPENED = auto()
    GIVE_UP = auto()
    """The core asks for the end of the connection."""
    LOST = auto()
    """The transport ended, or the dial failed."""
    CLOSE = auto()
    """The owner closes for good."""


TRANSITIONS: dict[tuple[SocketState, Step], SocketState] = {
    (SocketState.IDLE, Step.CONNECT): SocketState.CONNECTING,
    (SocketState.IDLE, Step.CLOSE): SocketState.CLOSED,
    (SocketState.CONNECTING, Step.OPENED): SocketState.OPEN,
    (SocketState.CONNECTING, Step.LOST): SocketState.WAITING,
    (SocketState.CONNECTING, Step.CLOSE): SocketState.CLOSED,
    (SocketState.OPEN, Step.GIVE_UP): SocketState.CLOSING,
    (SocketState.OPEN, Step.LOST): SocketState.WAITING,
    (SocketState.OPEN, Step.CLOSE): SocketState.CLOSED,
    (SocketState.CLOSING, Step.LOST): SocketState.WAITING,
    (SocketState.CLOSING, Step.CLOSE): SocketState.CLOSED,
    (SocketState.WAITING, Step.CONNECT): SocketState.CONNECTING,
    (SocketState.WAITING, Step.CLOSE): SocketState.CLOSED,
    (SocketState.CLOSED, Step.LOST): SocketState.CLOSED,
}


class Link:
    """
    One connection after the other.

    Attributes:
        state: Where it stands.
        attempt: Attempts that failed since the connection was last well.
        why: In words, if the transport was asked to close.
    """

    def __init__(self, timers: Timers, random: Random) -> None:
        self._timers, self._random = timers, random
        self._given_up: Cause | None = None
        self.state = SocketState.IDLE
        self.attempt = 0
        self.why = ""

    def apply(self, step: Step) -> None:
        """
        Move to the next state.

        Raises:
            LocalProtocolError: If `step` cannot happen in this state.
        """
        try:
            self.state = TRANSITIONS[self.state, step]
        except KeyError:
            raise LocalProtocolError(f"socket: {step.name} in state {self.state.name}") from None

    def connect(self) -> None:
        """Note that the shell dials, whether a delay is over or not."""
        self.apply(Step.CONNECT)
        self._timers.cancel(CONNECT_TIMER)

    def opened(self) -> None:
        """Note that the dial succeeded."""
        self.apply(Step.OPENED)
        self._given_up, self.why = None, ""

    def going_well(self, now: float) -> None:
        """Count from now, if it is not counting: in a while the delays start over."""
        if WELL_TIMER not in self._timers:
            self._timers.set(WELL_TIMER, now + _WELL_AFTER)

    def give_up(self, cause: Cause, why: str) -> None:
        """Note that the transport is asked to close, and why."""
        self.apply(Step.GIVE_UP)
        self._given_up, self.why = cause, why

    def cause_of(self, code: int) -> Cause:
        """Return why the connection ended, given its close code."""
        if self._given_up is not None:
            return self._given_up
        return _CAUSES.get(code, Cause.SERVER_CLOSED)

    def closed_by(self, code: int | None) -> str:
        """Return who ended the connection: "us", "server", or "nobody", where it was cut or never came about."""
        if self._given_up is not None or self.state is SocketState.CLOSED:
            return "us"
        return "nobody" if code in (None, _CUT) else "server"

    def lost(self, cause: Cause, now: float, *, retry_after: float | None = None) -> Decision | None:
        """Note that there is no connection, and return what follows; None if no attempt does."""
        self.apply(Step.LOST)
        self._timers.cancel(WELL_TIMER)
        if self.state is SocketState.CLOSED:
            return None
        self._given_up, self.why = None, ""
        decision = decide(self.attempt, cause, self._random, retry_after=retry_after)
        self.attempt += 1
        self._timers.set(CONNECT_TIMER, now + decision.delay)
        return decision

    def close(self) -> None:
        """Note that the owner closes for good."""
        self.apply(Step.CLOSE)
        self.why = ""
        self._timers.cancel(CONNECT_TIMER)
        self._timers.cancel(WELL_TIMER)
