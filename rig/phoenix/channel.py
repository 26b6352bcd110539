"""
One channel: its state, and what it will join with.

    (state, input) → state      what is not in the table cannot happen

Source: phoenix.js channel.js; Phoenix.Socket (lib/phoenix/socket.ex) for the server's side.
"""

from enum import Enum, auto
from typing import Any

from rig.errors import LocalProtocolError


class ChannelState(Enum):
    """phoenix.js's states."""

    CLOSED = auto()
    JOINING = auto()
    JOINED = auto()
    LEAVING = auto()
    ERRORED = auto()


class Input(Enum):
    """What can happen to a channel."""

    JOIN = auto()
    """A join is sent."""
    ACCEPTED = auto()
    REFUSED = auto()
    """The join was answered with an error, or not in time."""
    CRASHED = auto()
    """`phx_error`."""
    STOPPED = auto()
    """`phx_close`, or whatever else the server ends a channel with that is being left."""
    LEAVE = auto()
    """A leave is sent."""
    LEFT = auto()
    """The leave was answered, or not in time."""
    DISCONNECTED = auto()


TRANSITIONS: dict[tuple[ChannelState, Input], ChannelState] = {
    (ChannelState.CLOSED, Input.JOIN): ChannelState.JOINING,
    (ChannelState.CLOSED, Input.LEAVE): ChannelState.CLOSED,
    (ChannelState.CLOSED, Input.DISCONNECTED): ChannelState.CLOSED,
    (ChannelState.JOINING, Input.ACCEPTED): ChannelState.JOINED,
    (ChannelState.JOINING, Input.REFUSED): ChannelState.ERRORED,
    (ChannelState.JOINING, Input.CRASHED): ChannelState.ERRORED,
    (ChannelState.JOINING, Input.STOPPED): ChannelState.CLOSED,
    (ChannelState.JOINING, Input.LEAVE): ChannelState.LEAVING,
    (ChannelState.JOINING, Input.DISCONNECTED): ChannelState.ERRORED,
    (ChannelState.JOINED, Input.CRASHED): ChannelState.ERRORED,
    (ChannelState.JOINED, Input.STOPPED): ChannelState.CLOSED,
    (ChannelState.JOINED, Input.LEAVE): ChannelState.LEAVING,
    (ChannelState.JOINED, Input.DISCONNECTED): ChannelState.ERRORED,
    (ChannelState.LEAVING, Input.LEFT): ChannelState.CLOSED,
    (ChannelState.LEAVING, Input.STOPPED): ChannelState.CLOSED,
    (ChannelState.LEAVING, Input.DISCONNECTED): ChannelState.CLOSED,
    (ChannelState.ERRORED, Input.JOIN): ChannelState.JOINING,
    (ChannelState.ERRORED, Input.LEAVE): ChannelState.CLOSED,
    (ChannelState.ERRORED, Input.DISCONNECTED): ChannelState.ERRORED,
}


class Channel:
    """
    A topic that the owner wants to be in.

    Attributes:
        topic: Its topic.
        payload: What every join is sent with.
        state: Where it stands.
        join_ref: The ref of the latest join: what tells this life of the channel from an earlier one.
        leave_ref: The ref of the latest leave.
        attempts: Joins that failed in a row.
        unauthorized: Answers in a row that refused a join as unauthorised.
        joined_once: True after the first accepted join.
    """

    def __init__(self, topic: str, payload: Any) -> None:
        self.topic, self.payload = topic, payload
        self.state = ChannelState.CLOSED
        self.join_ref: str | None = None
        self.leave_ref: str | None = None
        self.attempts = 0
        self.unauthorized = 0
        self.joined_once = False

    def apply(self, what: Input) -> None:
        """
        Move to the next state.

        Raises:
            LocalProtocolError: If `what` cannot happen in this state.
        """
        try:
            self.state = TRANSITIONS[self.state, what]
        except KeyError:
            raise LocalProtocolError(f"channel {self.topic!r}: {what.name} in state {self.state.name}") from None

    @property
    def receives(self) -> bool:
        """True while the server may send us its events: joined, or about to be."""
        return self.state in (ChannelState.JOINED, ChannelState.JOINING)
