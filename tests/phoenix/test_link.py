"""`rig.phoenix.link`: the connection's transition table, and when the next attempt is due."""

import itertools

import pytest

from rig.backoff import RULES, Cause
from rig.errors import LocalProtocolError
from rig.phoenix import events
from rig.phoenix.link import TRANSITIONS, Link, SocketState, Step
from rig.phoenix.timers import Timers

EXPECTED = """
         IDLE       CONNECTING OPEN    CLOSING WAITING    CLOSED
CONNECT  CONNECTING -          -       -       CONNECTING -
OPENED   -          OPEN       -       -       -          -
GIVE_UP  -          -          CLOSING -       -          -
LOST     -          WAITING    WAITING WAITING -          CLOSED
CLOSE    CLOSED     CLOSED     CLOSED  CLOSED  CLOSED     -
"""
STATES, *ROWS = (line.split() for line in EXPECTED.strip().splitlines())
CELLS = {(state, row[0]): cell for row in ROWS for state, cell in zip(STATES, row[1:], strict=True)}


def test_every_pair_is_decided_here():
    """The table of this test names every state and every step."""
    assert set(CELLS) == {(state.name, step.name) for state, step in itertools.product(SocketState, Step)}


@pytest.mark.parametrize(("state", "step"), list(itertools.product(SocketState, Step)), ids=lambda value: value.name)
def test_transition(state, step):
    """What is in the table happens; what is not raises, and changes nothing."""
    link = Link(Timers(), lambda: 0.5)
    link.state = state
    cell = CELLS[state.name, step.name]

    if cell == "-":
        assert (state, step) not in TRANSITIONS
        with pytest.raises(LocalProtocolError, match=f"socket: {step.name} in state {state.name}"):
            link.apply(step)
        assert link.state is state
    else:
        link.apply(step)
        assert link.state.name == cell


NAMED = {1006: Cause.LINK_LOST, 1008: Cause.POLICY_VIOLATION, 1012: Cause.DRAINING, 1013: Cause.BUSY}
"""Close codes that have a cause of their own."""


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4999])
def test_any_close_leads_to_a_reconnect(peer, kinds, code):
    """Whatever the server's close code, the socket says when it dials again, and then does, and joins again."""
    p = peer()
    p.open()
    first = p.joined("room:1")

    [closed] = p.socket.closed(code, "why", p.now)

    assert (closed.code, closed.reason) == (code, "why")
    assert closed.cause == NAMED.get(code, Cause.SERVER_CLOSED)
    assert p.socket.state is SocketState.WAITING
    assert p.socket.deadline == p.now + closed.delay
    assert kinds(p.open()) == ["SocketOpened"]
    assert p.now == closed.delay
    assert p.accept("room:1") != first


def test_every_close_code_has_its_cause(peer):
    """From 1000 to 4999: a busy server (1013) and a policy (1008) slow us down; 1006 is a lost link; most are the server's wish."""
    for code in range(1000, 5000):
        p = peer()
        p.open()
        [closed] = p.socket.closed(code, "", p.now)

        assert closed.cause is NAMED.get(code, Cause.SERVER_CLOSED)
        assert closed.delay == {1008: 60.5, 1013: 30.5}.get(code, 0.5)
        assert closed.decision == ("reconnect slowly" if code in (1008, 1013) else "reconnect")
        assert p.socket.state is SocketState.WAITING


@pytest.mark.parametrize("cause", list(Cause))
def test_floor_of_each_cause(peer, cause):
    """The first wait after a failed dial is that of the cause's rule, and the event says so."""
    p = peer()
    for p.chance in (0.0, 0.999):
        p.socket = peer().socket
        p.socket._link._random = lambda: p.chance
        p.socket.connect(0.0)
        [closed] = p.socket.connect_failed(cause, "", 0.0)
        assert closed.delay == RULES[cause].floor + RULES[cause].first * p.chance
        assert p.socket.deadline == closed.delay


def test_the_server_names_the_wait(peer):
    """`Retry-After` takes the place of the floor, with jitter on top; a negative one is none."""
    for retry_after, least in ((5.0, 5.0), (300.0, 300.0), (-7.0, 0.0)):
        p = peer()
        p.socket.connect(0.0)
        [closed] = p.socket.connect_failed(Cause.BUSY, "HTTP 503", 0.0, retry_after=retry_after)
        assert closed.delay == least + 0.5
        assert closed.decision == "reconnect when the server asked to"


def test_waits_grow_to_the_cap_and_attempts_never_end(peer):
    """The ceiling doubles from 0.25 s to 30 s after a first wait within 1 s, for as long as it takes."""
    p = peer()
    p.chance = 1.0
    p.socket.connect(p.now)
    delays, attempts = [], []
    for _ in range(2000):
        [closed] = p.socket.connect_failed(Cause.UNREACHABLE, "no route", p.now)
        delays.append(closed.delay)
        [due] = p.step()
        attempts.append(due.attempt)

    assert delays[:9] == [1.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert set(delays[9:]) == {30.0}
    assert attempts == list(range(1, 2001))


def attempt_after(p, seconds):
    """Lose the connection after this many seconds, and return the attempt that the next dial is."""
    p.advance_alive(seconds)
    p.socket.closed(1006, "", p.now)
    return next(e for e in p.step() if isinstance(e, events.ConnectDue)).attempt


@pytest.fixture
def restless(peer):
    """A peer whose connection failed three times before it opened, and that answers heartbeats."""
    p = peer()
    p.socket.connect(0.0)
    for _ in range(3):
        p.socket.connect_failed(Cause.UNREACHABLE, "", p.now)
        p.step()
    p.socket.opened(p.now)

    def advance_alive(seconds):
        end = p.now + seconds
        while p.socket.deadline <= end:
            p.step()
            for _, ref, topic, event, _ in p.sent():
                if event == "heartbeat":
                    p.reply(ref, topic)
        p.now = end

    p.advance_alive = advance_alive
    return p


@pytest.mark.parametrize(("seconds", "attempt"), [(0.0, 4), (29.9, 4), (30.0, 1), (300.0, 1)])
def test_delays_start_over_after_30_seconds_joined(restless, seconds, attempt):
    """A connection on which a channel was joined for 30 s was well; one that failed sooner counts on."""
    restless.joined("room:1")

    assert attempt_after(restless, seconds) == attempt


def test_delays_do_not_start_over_while_nothing_is_joined(restless):
    """A server that accepts connections but never a join is not well, however long the connection stays open."""
    restless.socket.closed(1006, "", restless.now)
    restless.socket.join("room:1", {}, restless.now)
    restless.open()

    assert attempt_after(restless, 100.0) == 5


def test_delays_start_over_without_channels(restless):
    """Where there is nothing to join, 30 s open are enough."""
    assert attempt_after(restless, 30.0) == 1


def test_the_30_seconds_begin_with_each_connection(restless):
    """Two connections of 20 s each are not 30 s of one."""
    restless.joined("room:1")
    assert attempt_after(restless, 20.0) == 4
    restless.socket.opened(restless.now)
    restless.accept("room:1")

    assert attempt_after(restless, 20.0) == 5
