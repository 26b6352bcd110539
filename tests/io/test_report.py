"""What the io process says about its connection: to the supervisor, to the log, and in the counters."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from rig import app
from rig.backoff import Cause
from rig.control import Disconnect, State
from rig.counters import Page, quantile
from rig.io import report as report_module
from rig.io import states as states_module
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

    def time(self) -> float:
        return self.now + 1e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(report_module, "time", clock)
    monkeypatch.setattr(states_module, "time", clock)
    return clock


@pytest.fixture
def said() -> list[State]:
    return []


@pytest.fixture
def workers() -> list[app.State]:
    """What the workers were told."""
    return []


@pytest.fixture
def reporter(page: Page, clock: Clock, said: list[State], workers: list[app.State]) -> Reporter:
    return Reporter("ws://server/socket", 2, page=page, say=said.append, tell_workers=workers.append)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with structlog.testing.capture_logs() as logs:
        yield logs  # type: ignore[misc]


def opened(reporter: Reporter, *topics: str) -> None:
    reporter.report(events.ConnectDue(0))
    reporter.report(events.SocketOpened())
    for topic in topics:
        reporter.report(events.Joined(topic, {}, False))
    reporter.tell()


def report(reporter: Reporter, *received: events.Event) -> None:
    """Let the reporter have one batch of events."""
    for event in received:
        reporter.report(event)
    reporter.tell()


def where(state: State) -> tuple[str, str, int]:
    """Leave out of a state since when it is, and what came before."""
    return state.state, state.reason, state.joined


def test_gauges_of_a_predecessor_are_cleared(page: Page, said: list[State]) -> None:
    """An io process that was killed while connected does not leave its successor connected."""
    for name in ("connected", "joined", "heartbeat_rtt_ns", "received"):
        page.set(name, 7)

    Reporter("ws://server/socket", 2, page=page, say=said.append)

    assert [page.get(name) for name in ("connected", "joined", "heartbeat_rtt_ns", "received")] == [0, 0, 0, 7]


def test_connection_and_joins_are_told(reporter: Reporter, page: Page, clock: Clock, said: list[State], logs: Logs) -> None:
    """The supervisor hears each change of state; the log says how long connecting took."""
    report(reporter, events.ConnectDue(0))
    clock.now += 0.015
    report(reporter, events.SocketOpened())
    report(reporter, events.Joined("a", {}, False), events.Joined("b", {}, False))

    assert [where(state) for state in said] == [("connecting", "starting", 0), ("connected", "", 0), ("connected", "", 2)]
    assert {state.since for state in said[1:]} == {clock.time()}
    assert (page.get("connected"), page.get("joined")) == (1, 2)
    assert page.get("connect_ns") == pytest.approx(15e6, rel=1e-3)
    assert [entry["event"] for entry in logs] == ["connected", "joined", "joined"]
    assert (logs[0]["url"], logs[0]["took_ms"]) == ("ws://server/socket", 15.0)


def test_nobody_is_told_what_they_know(reporter: Reporter, said: list[State], workers: list[app.State]) -> None:
    """A batch that changes nothing about the connection says nothing about it."""
    opened(reporter, "a")
    told = len(said), len(workers)
    report(reporter, events.MessagesDropped(1, "x"), events.HeartbeatReplied(0.1))
    reporter.tell()

    assert (len(said), len(workers)) == told


@pytest.mark.parametrize(
    ("event", "reason", "message"),
    [
        (events.SocketClosed(Cause.REFUSED, None, "refused", 0.5), "refused", "not connected"),
        (events.SocketClosed(Cause.DRAINING, 1012, "restart", 0.5), "restart", "connection lost"),
        (events.SocketClosed(Cause.LINK_LOST, 1006, "", 0.5), "close code 1006", "connection lost"),
        (events.SocketClosed(Cause.TIMEOUT, None, "", 0.5), "timeout", "not connected"),
    ],
)
def test_lost_connection_says_why(
    reporter: Reporter, page: Page, said: list[State], logs: Logs, event: events.SocketClosed, reason: str, message: str
) -> None:
    """State, reason, and when it is tried again; nothing is joined any more."""
    opened(reporter, "a")
    report(reporter, event)

    state = "offline" if event.code is None else "connecting"
    assert where(said[-1]) == (state, reason, 0)
    assert (page.get("connected"), page.get("joined")) == (0, 0)
    assert (logs[-1]["event"], logs[-1]["reason"], logs[-1]["delay"]) == (message, reason, 0.5)

    report(reporter, events.ConnectDue(1))
    assert where(said[-1]) == (state, reason, 0), "an attempt under way changes nothing"


def test_each_end_of_a_connection_is_one_line_that_says_everything(
    reporter: Reporter, clock: Clock, said: list[State], logs: Logs
) -> None:
    """Who closed, code, reason, age of the heartbeat, how long it was open, the decision, the delay; kept for later."""
    opened(reporter)
    report(reporter, events.SocketClosed(Cause.HEARTBEAT_LOST, 1006, "heartbeat timeout", 0.25, "us", "reconnect", 25.0004, 61.5))

    line = logs[-1]
    assert line == {
        "event": "connection lost",
        "log_level": "warning",
        "cause": "heartbeat_lost",
        "closed_by": "us",
        "code": 1006,
        "reason": "heartbeat timeout",
        "heartbeat_age": 25.0,
        "open_for": 61.5,
        "decision": "reconnect",
        "delay": 0.25,
    }
    assert said[-1].disconnects == (
        Disconnect(clock.time(), "heartbeat_lost", "us", 1006, "heartbeat timeout", 25.0, 61.5, "reconnect", 0.25),
    )


def test_an_attempt_that_failed_says_only_what_is_known(reporter: Reporter, logs: Logs) -> None:
    """Nothing was open: there is no code, no heartbeat, and nobody closed anything."""
    report(reporter, events.SocketClosed(Cause.REFUSED, None, "connection refused", 0.25, "nobody", "reconnect"))

    assert logs == [
        {
            "event": "not connected",
            "log_level": "warning",
            "cause": "refused",
            "reason": "connection refused",
            "decision": "reconnect",
            "delay": 0.25,
        }
    ]


def test_attempts_before_the_first_connection_are_no_reconnects(reporter: Reporter, page: Page, logs: Logs) -> None:
    """However often a run has to knock, nothing was lost."""
    for _ in range(3):
        report(reporter, events.SocketClosed(Cause.REFUSED, None, "refused", 0.5))
    opened(reporter)

    assert (page.get("reconnects"), page.get("reconnects_refused")) == (0, 0)


def test_a_reconnect_is_a_connection_that_came_back(reporter: Reporter, page: Page, logs: Logs) -> None:
    """It counts once it is there, for what the last one was lost by, whatever kept the attempts between from it."""
    opened(reporter)
    report(reporter, events.SocketClosed(Cause.DRAINING, 1012, "restart", 0.5))
    for _ in range(3):
        report(reporter, events.SocketClosed(Cause.REFUSED, None, "refused", 0.5))
    assert page.get("reconnects") == 0

    opened(reporter)
    assert (page.get("reconnects"), page.get("reconnects_draining"), page.get("reconnects_refused")) == (1, 1, 0)

    report(reporter, events.SocketClosed(Cause.LINK_LOST, 1006, "", 0.5))
    opened(reporter)
    assert (page.get("reconnects"), page.get("reconnects_draining"), page.get("reconnects_link_lost")) == (2, 1, 1)

    opened(reporter)
    assert page.get("reconnects") == 2, "nothing was lost before this one"


def test_the_latest_ends_are_kept(reporter: Reporter, said: list[State], logs: Logs) -> None:
    """Sixteen of them, oldest first, however many there were."""
    for number in range(40):
        report(reporter, events.SocketClosed(Cause.REFUSED, None, f"attempt {number}", 1.0))

    assert [end.reason for end in said[-1].disconnects] == [f"attempt {number}" for number in range(24, 40)]


@pytest.mark.parametrize(
    ("cause", "level"),
    [(Cause.TLS, "error"), (Cause.UNAUTHORIZED, "error"), (Cause.POLICY_VIOLATION, "error"), (Cause.REFUSED, "warning")],
)
def test_what_somebody_must_look_at_is_an_error(reporter: Reporter, logs: Logs, cause: Cause, level: str) -> None:
    """What goes away by itself is a warning."""
    report(reporter, events.SocketClosed(cause, None, "no", 60.0))

    assert logs[-1]["log_level"] == level


def test_a_secret_in_a_servers_reason_is_not_passed_on(reporter: Reporter, said: list[State], workers: list[app.State]) -> None:
    """Neither to the status nor to callbacks: a server may repeat what it was sent."""
    opened(reporter)
    report(reporter, events.SocketClosed(Cause.POLICY_VIOLATION, 1008, "bad token=hunter2hunter2", 60.0))

    assert "hunter2" not in repr((said, workers))
    assert said[-1].reason == "bad token=***"


def test_close_that_was_asked_for_is_no_fault(reporter: Reporter, page: Page, logs: Logs) -> None:
    """The end of a run is not counted as a reconnect and not warned of."""
    opened(reporter)
    reporter.report(events.SocketClosed(Cause.REQUESTED, 1000, "", None))

    assert page.get("reconnects") == 0
    assert (logs[-1]["event"], logs[-1]["log_level"]) == ("disconnected", "info")


def test_the_end_during_an_attempt_disconnects_nothing(reporter: Reporter, logs: Logs) -> None:
    """There is no line about a connection that never was."""
    report(reporter, events.ConnectDue(0), events.SocketClosed(Cause.REQUESTED, None, "", None))

    assert logs == []


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
    before = len(logs)
    report(reporter, event)

    assert (where(said[-1]), page.get("joined")) == (("degraded", f"'a' is not joined: {message}", 1), 1)
    assert (logs[before]["event"], logs[before]["topic"], logs[before]["log_level"]) == (message, "a", "warning")
    assert not [name for name, value in logs[before].items() if value in (None, "", {})], "what is not known is left out"
    assert [entry["event"] for entry in logs[before + 1 :]] == ["degraded"]

    report(reporter, events.Joined("a", {}, True))
    assert where(said[-1]) == ("connected", "", 2)
    assert logs[-1]["event"] == "no longer degraded"


def test_topic_that_was_left_is_counted_off_without_a_word(reporter: Reporter, page: Page, said: list[State], logs: Logs) -> None:
    """We asked for it."""
    opened(reporter, "a", "b")
    before = len(logs)
    report(reporter, events.ChannelClosed("a", True))

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
    for rtt in (0.001, 0.1, 0.0025):
        reporter.report(events.HeartbeatReplied(rtt))
    reporter.report(events.HeartbeatMissed(2))

    assert (page.get("heartbeat_rtt_ns"), page.get("heartbeats_missed")) == (2_500_000, 1)
    assert quantile(page.buckets("heartbeat_rtt"), 0.5) == pytest.approx(0.0025, rel=0.07)
    assert quantile(page.buckets("heartbeat_rtt"), 0.99) == pytest.approx(0.1, rel=0.07)
    assert [(entry["event"], entry["in_a_row"]) for entry in logs] == [("heartbeat missed", 2)]


def test_drain_is_told(reporter: Reporter, said: list[State]) -> None:
    """From the drain on, the state says so."""
    opened(reporter, "a")
    reporter.draining()

    assert where(said[-1]) == ("draining", "asked to stop", 1)


def test_what_comes_on_a_topic_that_the_drain_has_left_is_no_fault(reporter: Reporter, page: Page, logs: Logs) -> None:
    """It is counted, but nobody is warned."""
    reporter.draining()
    before = len(logs)
    reporter.report(events.MessagesDropped(2, "room:1"))

    assert (page.get("dropped"), len(logs)) == (2, before)


def test_a_missed_heartbeat_degrades_until_the_next_is_answered(
    reporter: Reporter, said: list[State], workers: list[app.State], logs: Logs
) -> None:
    """It works again as soon as the server says so; a new connection begins without a stain."""
    opened(reporter)
    report(reporter, events.HeartbeatMissed(1))
    assert where(said[-1]) == ("degraded", "a heartbeat was not answered", 0)
    report(reporter, events.HeartbeatReplied(0.1))
    assert where(said[-1]) == ("connected", "", 0)

    report(reporter, events.HeartbeatMissed(1))
    report(reporter, events.SocketClosed(Cause.HEARTBEAT_LOST, 1006, "heartbeat timeout", 0.5))
    opened(reporter)
    assert where(said[-1]) == ("connected", "", 0)
    assert [state.state for state in workers] == [
        *("connected", "degraded", "connected", "degraded", "connecting", "connected"),
    ]


def test_a_fallback_degrades_as_long_as_it_is_used(page: Page, clock: Clock, said: list[State]) -> None:
    """Where a WebSocket was wanted and a long-poll was got, the state says so and why."""
    reasons = ["long-poll instead of a WebSocket: HTTP 426", ""]
    reporter = Reporter("ws://server/socket", 0, page=page, say=said.append, fallback=lambda: reasons.pop(0))
    opened(reporter)
    assert where(said[-1]) == ("degraded", "long-poll instead of a WebSocket: HTTP 426", 0)

    report(reporter, events.SocketClosed(Cause.LINK_LOST, 1006, "", 0.5))
    opened(reporter)
    assert where(said[-1]) == ("connected", "", 0)


def test_others_can_say_that_they_are_not_well(reporter: Reporter, said: list[State], workers: list[app.State]) -> None:
    """A store that fails degrades the run at once, until it works again."""
    opened(reporter)
    reporter.impair("store", "the disk is full")
    assert where(said[-1]) == ("degraded", "the disk is full", 0)
    reporter.mend("store")
    assert where(said[-1]) == ("connected", "", 0)
    assert [(state.state, state.previous) for state in workers] == [
        *(("connected", "connecting"), ("degraded", "connected"), ("connected", "degraded")),
    ]


def test_workers_are_told_of_changes_and_not_of_every_join(reporter: Reporter, workers: list[app.State], clock: Clock) -> None:
    """A callback that sends a message at each change is not called a thousand times."""
    reporter.tell()
    clock.now += 1
    opened(reporter)
    for number in range(50):
        report(reporter, events.Joined(f"room:{number}", {}, False))
    for number in range(50):
        report(reporter, events.JoinRejected(f"room:{number}", {}, 1.0))

    assert workers == [
        app.State("connecting", "starting", clock.time() - 1, "", "io", 0),
        app.State("connected", "", clock.time(), "connecting", "io", 0),
        app.State("degraded", "'room:0' is not joined: the server refused the join", clock.time(), "connected", "io", 49),
    ]
