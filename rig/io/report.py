"""
What the io process says about its connection: log lines, counters, and the state that the supervisor shows.
"""

import time
from collections.abc import Callable

import structlog

from rig.control import State
from rig.counters import Page
from rig.log import Throttle
from rig.phoenix import events

_REPORT_INTERVAL = 5.0
"""Seconds between two lines about the same fault."""
_JOINS_SHOWN = 8
"""Joins in a row that get a line of their own; of more, only their number is said."""

log = structlog.get_logger()


class Reporter:
    """Takes every event of the core that is not the hot path's."""

    def __init__(self, url: str, topics: int, *, page: Page, say: Callable[[State], None]) -> None:
        """
        Start with nothing connected.

        Args:
            url: Masked, for the log.
            topics: How many are wanted.
            page: The io process's counters.
            say: Tells the supervisor.
        """
        self._url, self._wanted, self._page, self._say = url, topics, page, say
        self._throttle = Throttle(_REPORT_INTERVAL)
        self._state, self._reason = "connecting", "starting"
        self._joined: set[str] = set()
        self._dialled_ns = 0
        for gauge in ("connected", "joined", "heartbeat_rtt_ns"):
            page.set(gauge, 0)

    def report(self, event: events.Event) -> None:
        """Say what happened, if it is worth saying."""
        match event:
            case events.HeartbeatReplied(rtt=rtt):
                self._page.set("heartbeat_rtt_ns", int(rtt * 1e9))
            case events.HeartbeatMissed(missed=missed):
                self._page.add("heartbeats_missed")
                log.warning("heartbeat missed", in_a_row=missed)
            case events.FramesRejected():
                self._rejected(event)
            case events.MessagesDropped(count=count, topic=topic):
                self._page.add("dropped", count)
                self._now_and_then("message dropped: its topic is not joined", "", topic=topic)
            case events.ConnectDue() | events.SocketOpened() | events.SocketClosed():
                self._report_socket(event)
            case _:
                self._report_channel(event)

    def tell(self) -> None:
        """Tell the supervisor where the connection stands."""
        self._page.set("joined", len(self._joined))
        self._say(State(self._state, self._reason, len(self._joined)))

    def draining(self) -> None:
        """Note that no more events are taken."""
        self._change("draining", "asked to stop")

    def _report_socket(self, event: events.ConnectDue | events.SocketOpened | events.SocketClosed) -> None:
        match event:
            case events.ConnectDue():
                self._dialled_ns = time.monotonic_ns()
                if self._state != "connecting":
                    self._change("connecting", self._reason)
            case events.SocketOpened():
                self._opened()
            case events.SocketClosed():
                self._closed(event)

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
                self.tell()
            case events.ChannelClosed(topic=topic, delay=delay):
                self._not_joined(topic, "the server closed the channel", retry_in=delay and round(delay, 2))

    def _change(self, state: str, reason: str) -> None:
        self._state, self._reason = state, reason
        self.tell()

    def _opened(self) -> None:
        took = time.monotonic_ns() - self._dialled_ns
        self._page.set("connected", 1)
        self._page.set("connect_ns", took)
        log.info("connected", url=self._url, took_ms=round(took / 1e6, 1))
        self._change("connected", "")

    def _closed(self, event: events.SocketClosed) -> None:
        self._page.set("connected", 0)
        self._joined.clear()
        if event.delay is None:
            log.info("disconnected", code=event.code)
            return
        self._page.add("reconnects")
        reason = event.reason or (f"close code {event.code}" if event.code is not None else str(event.cause))
        message = "not connected" if event.code is None else "connection lost"
        log.warning(message, cause=str(event.cause), code=event.code, reason=reason, retry_in=round(event.delay, 2))
        self._change("waiting", reason)

    def _joined_topic(self, topic: str) -> None:
        self._joined.add(topic)
        count = len(self._joined)
        if count <= _JOINS_SHOWN:
            log.info("joined", topic=topic)
        if count == self._wanted and count > _JOINS_SHOWN:
            log.info("joined all topics", topics=count)
        self.tell()

    def _not_joined(self, topic: str, message: str, **fields: object) -> None:
        self._joined.discard(topic)
        self._now_and_then(message, topic, topic=topic, **fields)
        self.tell()

    def _rejected(self, event: events.FramesRejected) -> None:
        kind = "malformed" if event.sample else "oversize"
        self._page.add(kind, event.count)
        # Not by its reason: that names positions, of which a peer can make up any number.
        self._now_and_then("frame dropped", kind, reason=event.reason, sample=event.sample.decode(errors="replace"))

    def _now_and_then(self, message: str, what: str, **fields: object) -> None:
        suppressed = self._throttle.allow((message, what), time.monotonic())
        if suppressed is not None:
            if suppressed:
                fields["suppressed"] = suppressed
            log.warning(message, **fields)
