"""
What the io process says about its connection: log lines, counters, and the state that the supervisor shows and callbacks are told.
"""

import time
from collections import deque
from collections.abc import Callable

import structlog

from rig import app
from rig.backoff import RULES, Cause
from rig.control import Disconnect, State
from rig.counters import Page
from rig.io.states import States
from rig.io.unjoined import Unjoined
from rig.log import Throttle, known, mask
from rig.phoenix import events

DISCONNECTS_KEPT = 16
_REPORT_INTERVAL = 5.0
"""Seconds between two lines about the same fault."""
_JOINS_SHOWN = 8
"""Joins in a row that get a line of their own; of more, only their number is said."""
_LONGEST_REASON = 500

log = structlog.get_logger()


class Reporter:
    """
    Takes every event of the core that is not the hot path's.

    Attributes:
        url: Where the connection is, masked.
    """

    def __init__(
        self,
        url: str,
        topics: int,
        *,
        page: Page,
        say: Callable[[State], None],
        tell_workers: Callable[[app.State], None] = lambda state: None,
        fallback: Callable[[], str] = lambda: "",
        name: str = "io",
    ) -> None:
        """
        Start with nothing connected.

        Args:
            url: Masked, for the log.
            topics: How many are wanted.
            page: The io process's counters.
            say: Tells the supervisor.
            tell_workers: Tells every worker that the state has changed.
            fallback: Says why the connection just opened is not of the kind that was wanted; empty if it is.
            name: Of the io process.
        """
        self.url, self._wanted, self._page, self._say = url, topics, page, say
        self._tell_workers, self._fallback, self._name = tell_workers, fallback, name
        self._throttle = Throttle(_REPORT_INTERVAL)
        self._states = States(page)
        self._unjoined = Unjoined()
        self._joined: set[str] = set()
        self._disconnects: deque[Disconnect] = deque(maxlen=DISCONNECTS_KEPT)
        self._dialled_ns = 0
        self._lost_by: Cause | None = None
        self._changed = True
        for gauge in ("connected", "joined", "heartbeat_rtt_ns"):
            page.set(gauge, 0)

    def report(self, event: events.Event) -> None:
        """Say what happened, if it is worth saying; who wants to know where the connection stands is told by `tell`."""
        match event:
            case events.HeartbeatReplied(rtt=rtt):
                self._page.set("heartbeat_rtt_ns", int(rtt * 1e9))
                self._page.observe("heartbeat_rtt", int(rtt * 1e9))
                self._mend("heartbeat")
            case events.HeartbeatMissed(missed=missed):
                self._page.add("heartbeats_missed")
                log.warning("heartbeat missed", in_a_row=missed)
                self._impair("heartbeat", "a heartbeat was not answered")
            case events.FramesRejected():
                self._rejected(event)
            case events.MessagesDropped(count=count, topic=topic):
                self._page.add("dropped", count)
                if self._states.state != "draining":
                    # Else it is as it must be: the topic was left, and this was on its way.
                    self._now_and_then("message dropped: its topic is not joined", "", topic=topic)
            case events.ConnectDue():
                self._dialled_ns = time.monotonic_ns()
            case events.SocketOpened():
                self._opened()
                self._changed = True
            case events.SocketClosed():
                self._closed(event)
                self._changed = True
            case _:
                self._report_channel(event)
                self._changed = True

    def tell(self) -> None:
        """Tell the supervisor and the workers where the connection stands, if that has changed since they were told."""
        if not self._changed:
            return
        self._changed = False
        joined, states = len(self._joined), self._states
        self._page.set("joined", joined)
        self._say(State(states.state, states.reason, joined, states.since, tuple(self._disconnects)))
        news = states.news(connection=self._name, topics=joined)
        if news is not None:
            self._log_quality(news)
            self._tell_workers(news)

    def draining(self) -> None:
        """Note that no more events are taken."""
        self._states.draining()
        self._changed = True
        self.tell()

    def impair(self, what: str, reason: str) -> None:
        """
        Note that something beside the connection does not work as it should, and tell it: `degraded` until `mend`.

        Args:
            what: Names it, as "store"; "heartbeat", "topics" and "transport" are taken.
            reason: In words, without secrets.
        """
        self._impair(what, reason)
        self.tell()

    def mend(self, what: str) -> None:
        """Note that it works again, and tell it."""
        self._mend(what)
        self.tell()

    def _impair(self, what: str, reason: str) -> None:
        self._states.impair(what, reason)
        self._changed = True

    def _mend(self, what: str) -> None:
        self._changed = self._states.mend(what) or self._changed

    def _report_channel(self, event: events.Event) -> None:
        match event:
            case events.Joined(topic=topic):
                self._joined_topic(topic)
            case events.JoinRejected(topic=topic, response=response, delay=delay):
                self._not_joined(topic, "the server refused the join", response=response, retry_in=round(delay, 2))
            case events.JoinTimedOut(topic=topic, delay=delay):
                self._not_joined(topic, "the join was not answered", retry_in=round(delay, 2))
            case events.ChannelErrored(topic=topic, payload=payload, delay=delay):
                self._not_joined(topic, "the channel crashed on the server", payload=payload, retry_in=round(delay, 2))
            case events.ChannelClosed(topic=topic, left=True):
                self._joined.discard(topic)
                self._unjoined.remove(topic)
                self._weigh_topics()
            case events.ChannelClosed(topic=topic, delay=delay):
                self._not_joined(topic, "the server closed the channel", retry_in=delay and round(delay, 2))

    def _opened(self) -> None:
        took = time.monotonic_ns() - self._dialled_ns
        self._page.set("connected", 1)
        self._page.set("connect_ns", took)
        if self._lost_by is not None:
            self._page.add("reconnects")
            self._page.add(f"reconnects_{self._lost_by}")
            self._lost_by = None
        log.info("connected", url=self.url, took_ms=round(took / 1e6, 1))
        self._states.opened()
        self.weigh_transport()

    def weigh_transport(self) -> None:
        """Note whether the transport is of the kind that was wanted."""
        self._changed = True
        fallback = self._fallback()
        if fallback:
            self._impair("transport", mask(fallback)[:_LONGEST_REASON])
        else:
            self._mend("transport")

    def _closed(self, event: events.SocketClosed) -> None:
        self._page.set("connected", 0)
        self._joined.clear()
        self._unjoined.clear()
        self._mend("heartbeat")
        self._mend("topics")
        if event.delay is None:
            if event.code is not None:  # else an attempt was given up, and nothing was connected
                log.info("disconnected", code=event.code)
            return
        said = event.reason or (f"close code {event.code}" if event.code is not None else str(event.cause))
        reason = mask(said)[:_LONGEST_REASON]
        self._log_decision(event, reason)
        if event.code is None:
            self._states.failed(reason)
        else:
            self._lost_by = event.cause
            self._states.lost(reason)

    def _log_decision(self, event: events.SocketClosed, reason: str) -> None:
        """Say it once in a line, and keep it for whoever asks later."""
        assert event.delay is not None
        made = Disconnect(
            at=time.time(),
            cause=str(event.cause),
            by=event.by,
            code=event.code,
            reason=reason,
            heartbeat_age=_rounded(event.heartbeat_age),
            open_for=_rounded(event.open_for),
            decision=event.decision,
            delay=round(event.delay, 3),
        )
        self._disconnects.append(made)
        say = log.error if RULES[event.cause].loud else log.warning
        was_open = event.code is not None
        fields = known(
            cause=made.cause,
            closed_by=made.by if was_open else None,  # there was nothing to close
            code=made.code,
            reason=reason,
            heartbeat_age=made.heartbeat_age,
            open_for=made.open_for,
            decision=made.decision,
            delay=made.delay,
        )
        say("connection lost" if was_open else "not connected", **fields)

    def _log_quality(self, news: app.State) -> None:
        """Say that a connection that goes on has become worse or better; every other change has a line of its own."""
        if news.state == "degraded":
            log.warning("degraded", reason=news.reason)
        elif news.state == "connected" and news.previous == "degraded":
            log.info("no longer degraded")

    def _joined_topic(self, topic: str) -> None:
        self._joined.add(topic)
        self._unjoined.remove(topic)
        self._weigh_topics()
        count = len(self._joined)
        if count <= _JOINS_SHOWN:
            log.info("joined", topic=topic)
        if count == self._wanted and count > _JOINS_SHOWN:
            log.info("joined all topics", topics=count)

    def _not_joined(self, topic: str, message: str, **fields: object) -> None:
        self._joined.discard(topic)
        self._now_and_then(message, topic, topic=topic, **known(**fields))
        self._unjoined.add(topic, message)
        self._weigh_topics()

    def _weigh_topics(self) -> None:
        if self._unjoined.reason:
            self._impair("topics", mask(self._unjoined.reason)[:_LONGEST_REASON])
        else:
            self._mend("topics")

    def _rejected(self, event: events.FramesRejected) -> None:
        kind = "malformed" if event.sample else "oversize"
        self._page.add(kind, event.count)
        # Not by its reason: that names positions, of which a peer can make up any number.
        sample = event.sample.decode(errors="replace")
        self._now_and_then("frame dropped", kind, **known(reason=event.reason, sample=sample))

    def _now_and_then(self, message: str, what: str, **fields: object) -> None:
        self._throttle.say(log.warning, message, time.monotonic(), about=what, **fields)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
