"""`rig.phoenix.channel`: the transition table."""

import itertools

import pytest

from rig.errors import LocalProtocolError
from rig.phoenix.channel import TRANSITIONS, Channel, ChannelState, Input

EXPECTED = """
           CLOSED  JOINING  JOINED   LEAVING  ERRORED
JOIN       JOINING -        -        -        JOINING
ACCEPTED   -       JOINED   -        -        -
REFUSED    -       ERRORED  -        -        -
CRASHED    -       ERRORED  ERRORED  -        -
STOPPED    -       CLOSED   CLOSED   CLOSED   -
LEAVE      CLOSED  LEAVING  LEAVING  -        CLOSED
LEFT       -       -        -        CLOSED   -
DISCONNECTED CLOSED ERRORED ERRORED  CLOSED   ERRORED
"""
STATES, *ROWS = (line.split() for line in EXPECTED.strip().splitlines())
CELLS = {(state, row[0]): cell for row in ROWS for state, cell in zip(STATES, row[1:], strict=True)}


def test_every_pair_is_decided_here():
    """The table of this test names every state and every input."""
    assert set(CELLS) == {(state.name, what.name) for state, what in itertools.product(ChannelState, Input)}


@pytest.mark.parametrize(("state", "what"), list(itertools.product(ChannelState, Input)), ids=lambda value: value.name)
def test_transition(state, what):
    """What is in the table happens; what is not raises, and changes nothing."""
    channel = Channel("room:1", {})
    channel.state = state
    cell = CELLS[state.name, what.name]

    if cell == "-":
        assert (state, what) not in TRANSITIONS
        with pytest.raises(LocalProtocolError, match=f"'room:1': {what.name} in state {state.name}"):
            channel.apply(what)
        assert channel.state is state
    else:
        channel.apply(what)
        assert channel.state.name == cell


def test_receives():
    """A channel wants events while it is joined or about to be."""
    channel = Channel("room:1", {})
    wanted = []
    for channel.state in ChannelState:
        if channel.receives:
            wanted.append(channel.state)

    assert wanted == [ChannelState.JOINING, ChannelState.JOINED]
