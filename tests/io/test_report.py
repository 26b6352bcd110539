"""What the io process says about its connection: to the supervisor, to the log, and in the counters."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from rig.backoff import Cause
from rig.control import State
from rig.counters import Page
from rig.io import report as report_module
from rig.io.report import Reporter
from rig.phoenix import events

Logs = list[dict[str, Any]]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(report_module, "time", clock)
    return clock


@pytest.fixture
def said() -> list[State]:
    return []


@pytest.fixture
def reporter(page: Page, clock: Clock, said: list[State]) -> Reporter:
    return Reporter("ws://server/socket", 2, page=page, say=said.append)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with structlog.testing.capture_logs() as logs:
        yield logs  # type: ignore[misc]


def opened(reporter: Reporter, *topics: str) -> None:
    reporter.report(events.ConnectDue(0))
    reporter.report(events.SocketOpened())
    for topic in topics:
        reporter.report(events.Joined(topic, {}, False))


def test_gauges_of_a_predecessor_are_cleared(page: Page, said: list[State]) -> None:
    """An io process that was killed while connected does not leave its successor connected."""
    for name in ("connected", "joined", "heartbeat_rtt_ns", "received"):
        page.set(name, 7)

    Reporter("ws://server/socket", 2, page=page, say=said.append)

    assert [page.get(name) for name in ("connected", "joined", "heartbeat_rtt_ns", "received")] == [0, 0, 0, 7]


def test_connection_and_joins_are_told(reporter: Reporter, page: Page, clock: Clock, said: list[State], logs: Logs) -> None:
    """The supervisor hears each change of state; the log says how long connecting took."""
    reporter.report(events.ConnectDue(0))
    clock.now += 0.015
    reporter.report(events.SocketOpened())
    for topic in ("a", "b"):
        reporter.report(events.Joined(topic, {}, False))

    assert said == [State("connected", "", 0), State("connected", "", 1), State("connected", "", 2)]
    assert (page.get("connected"), page.get("joined")) == (1, 2)
    assert page.get("connect_ns") == pytest.approx(15e6, rel=1e-3)
    assert [entry["event"] for entry in logs] == ["connected", "joined", "joined"]
    assert (logs[0]["url"], logs[0]["took_ms"]) == ("ws://server/socket", 15.0)


@pytest.mark.parametrize(
    ("event", "reason", "message"),
    [
        (events.SocketClosed(Cause.UNREACHABLE, None, "refused", 0.5), "refused", "not connected"),
        (events.SocketClosed(Cause.SERVER_CLOSED, 1012, "restart", 0.5), "restart", "connection lost"),
        (events.SocketClosed(Cause.SERVER_CLOSED, 1006, "", 0.5), "close code 1006", "connection lost"),
        (events.SocketClosed(Cause.TIMEOUT, None, "", 0.5), "timeout", "not connected"),
    ],
)
def test_lost_connection_says_why(
    reporter: Reporter, page: Page, said: list[State], logs: Logs, event: events.SocketClosed, reason: str, message: str
) -> None:
    """State, reason, and when it is tried again; nothing is joined any more."""
    opened(reporter, "a")
    reporter.report(event)

    assert said[-1] == State("waiting", reason, 0)
    assert (page.get("connected"), page.get("joined"), page.get("reconnects")) == (0, 0, 1)
    assert (logs[-1]["event"], logs[-1]["reason"], logs[-1]["retry_in"]) == (message, reason, 0.5)

    reporter.report(events.ConnectDue(1))
    assert said[-1] == State("connecting", reason, 0)


def test_close_that_was_asked_for_is_no_fault(reporter: Reporter, page: Page, logs: Logs) -> None:
    """The end of a run is not counted as a reconnect and not warned of."""
    opened(reporter)
    reporter.report(events.SocketClosed(Cause.REQUESTED, 1000, "", None))

    assert page.get("reconnects") == 0
    assert (logs[-1]["event"], logs[-1]["log_level"]) == ("disconnected", "info")


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (events.JoinRejected("a", {"reason": "full"}, 1.0), "the server refused the join"),
        (events.JoinTimedOut("a", 1.0), "the join was not answered"),
        (events.ChannelErrored("a", {}, 1.0), "the channel crashed on the server"),
        (events.ChannelClosed("a", False, 1.0), "the server closed the channel"),
        (events.ChannelClosed("a", False, None), "the server closed the channel"),
    ],
)
def test_topic_that_is_not_joined_any_more(
    reporter: Reporter, page: Page, said: list[State], logs: Logs, event: events.Event, message: str
) -> None:
    """It is counted off, told, and warned of with its name."""
    opened(reporter, "a", "b")
    reporter.report(event)

    assert (said[-1], page.get("joined")) == (State("connected", "", 1), 1)
    assert (logs[-1]["event"], logs[-1]["topic"], logs[-1]["log_level"]) == (message, "a", "warning")


def test_topic_that_was_left_is_counted_off_without_a_word(reporter: Reporter, page: Page, said: list[State], logs: Logs) -> None:
    """We asked for it."""
    opened(reporter, "a", "b")
    before = len(logs)
    reporter.report(events.ChannelClosed("a", True))

    assert (said[-1].joined, page.get("joined"), len(logs)) == (1, 1, before)


def test_many_joins_are_summed_up(page: Page, clock: Clock, said: list[State], logs: Logs) -> None:
    """A thousand topics do not write a thousand lines."""
    reporter = Reporter("ws://server/socket", 1_000, page=page, say=said.append)
    opened(reporter, *(f"room:{number}" for number in range(1_000)))

    messages = [entry["event"] for entry in logs]
    assert messages == ["connected"] + ["joined"] * 8 + ["joined all topics"]
    assert logs[-1]["topics"] == 1_000
    assert said[-1].joined == 1_000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda number: events.FramesRejected(1, f"malformed at {number}", b"x"), "frame dropped"),
        (lambda number: events.MessagesDropped(1, f"room:{number}"), "message dropped: its topic is not joined"),
    ],
)
def test_faults_are_reported_once_a_while(
    reporter: Reporter, clock: Clock, logs: Logs, make: Callable[[int], events.Event], message: str
) -> None:
    """However many faults a peer makes up, there is a line every few seconds, which says how many it stands for."""
    for number in range(50):
        reporter.report(make(number))
    assert [entry["event"] for entry in logs] == [message]

    clock.now += 6
    reporter.report(make(50))
    assert logs[-1]["suppressed"] == 49
    assert len(logs) == 2


def test_faults_are_counted_by_kind(reporter: Reporter, page: Page, logs: Logs) -> None:
    """Frames that are malformed, frames that are too large, and messages of topics that are not joined."""
    reporter.report(events.FramesRejected(3, "no JSON", b"\xff{"))
    reporter.report(events.FramesRejected(2, "a frame of 9 MiB", b""))
    reporter.report(events.MessagesDropped(4, "room:1"))

    assert [page.get(name) for name in ("malformed", "oversize", "dropped")] == [3, 2, 4]
    assert logs[0]["sample"] == "\ufffd{"


def test_heartbeats_are_measured(reporter: Reporter, page: Page, logs: Logs) -> None:
    """The round trip is a gauge; what is missed is counted and warned of."""
    reporter.report(events.HeartbeatReplied(0.0025))
    reporter.report(events.HeartbeatMissed(2))

    assert (page.get("heartbeat_rtt_ns"), page.get("heartbeats_missed")) == (2_500_000, 1)
    assert [(entry["event"], entry["in_a_row"]) for entry in logs] == [("heartbeat missed", 2)]


def test_drain_is_told(reporter: Reporter, said: list[State]) -> None:
    """From the drain on, the state says so."""
    opened(reporter, "a")
    reporter.draining()

    assert said[-1] == State("draining", "asked to stop", 1)
