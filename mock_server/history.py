"""
`history:*`: topics whose events are numbered and kept, so that a client which was away can have what it missed.

Every broadcast on such a topic gets an `id`, contiguous per topic, from 1. A join with `{"last_seen_id": n}` is answered with
`resumed` (true if everything after n is still kept) and `missed` (how many events came after n); then what is kept of them is
pushed, before any live one. An id that was never given, as after a restart that lost the history, is answered with `resumed: false`
and everything that is kept.
Source: Phoenix, guide "Channels", "Resending server messages".
"""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from mock_server.channel import Channel, Reply

KEPT = 1_000
PREFIX = "history:"


@dataclass(frozen=True, slots=True)
class Missed:
    """What a client that was away gets: whether that is everything, how many events there were, and those that are kept."""

    resumed: bool
    count: int
    events: list[tuple[str, dict[str, Any]]]


@dataclass(slots=True)
class Story:
    """One topic's last events, each with its `id` in the payload."""

    events: deque[tuple[str, dict[str, Any]]]
    last_id: int = 0

    def missed(self, last_seen: int) -> Missed:
        """Return what came after an id."""
        known = 0 <= last_seen <= self.last_id
        since = last_seen if known else 0
        events = [event for event in self.events if event[1]["id"] > since]
        return Missed(known and len(events) == self.last_id - since, self.last_id - since, events)


@dataclass(slots=True)
class History:
    """
    The stories of all topics.

    Args:
        keep: Events that are kept of each topic.
        path: A file that they are written to as they come, and read from by `open`: a server that starts again on it goes on
            where the last one ended, however that was. None keeps them in memory only.
    """

    keep: int = KEPT
    path: Path | None = None
    _stories: dict[str, Story] = field(default_factory=dict)
    _file: IO[bytes] | None = None

    def open(self) -> None:
        """
        Read the file, if there is one, and write on.

        Raises:
            OSError: If it cannot be read or written.
        """
        if self.path is None or self._file is not None:
            return
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        for line in lines[:-1]:  # what is behind the last line end was cut short
            topic, event, payload = msgspec.json.decode(line)
            self._remember(topic, event, payload)
        self._file = self.path.open("wb", buffering=0)
        for topic, story in self._stories.items():
            for event, payload in story.events:
                self._file.write(_line(topic, event, payload))

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def keeps(self, topic: str) -> bool:
        """Say whether a topic has a history."""
        return topic.startswith(PREFIX)

    def stamp(self, topic: str, event: str, payload: Any) -> Any:
        """Number an event and keep it; returns the payload that is to be sent. Other topics' are left as they are, so is binary."""
        if not self.keeps(topic) or not isinstance(payload, dict):
            return payload
        stamped = {**payload, "id": self._story(topic).last_id + 1}
        if self._file is not None:
            self._file.write(_line(topic, event, stamped))
        self._remember(topic, event, stamped)
        return stamped

    def missed(self, topic: str, last_seen: int) -> Missed:
        """Return what came on a topic after an id."""
        return self._story(topic).missed(last_seen)

    def last_id(self, topic: str) -> int:
        """Return the newest id of a topic, 0 if it has none."""
        return self._story(topic).last_id

    def forget(self, topic: str | None = None) -> int:
        """Drop what is kept, of one topic or of all, so that nobody can resume; ids go on. Returns how many events that were."""
        stories = self._stories.values() if topic is None else [self._story(topic)]
        count = sum(len(story.events) for story in stories)
        for story in stories:
            story.events.clear()
        return count

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Return the newest id and the number of kept events per topic."""
        return {name: {"last_id": story.last_id, "kept": len(story.events)} for name, story in sorted(self._stories.items())}

    def _story(self, topic: str) -> Story:
        return self._stories.setdefault(topic, Story(deque(maxlen=self.keep)))

    def _remember(self, topic: str, event: str, payload: dict[str, Any]) -> None:
        story = self._story(topic)
        story.events.append((event, payload))
        story.last_id = payload["id"]


class HistoryChannel(Channel):
    """A client of such a topic."""

    _missed: tuple[tuple[str, dict[str, Any]], ...] = ()

    def join(self, params: Any) -> Reply:
        """Accept; a client that says what it has seen hears what it missed."""
        history: History = self.socket.environment.services[History]
        last_seen = params.get("last_seen_id") if isinstance(params, dict) else None
        if last_seen is None:
            return Reply("ok", {"last_id": history.last_id(self.topic)})
        if not isinstance(last_seen, int) or isinstance(last_seen, bool):
            return Reply("error", {"reason": "last_seen_id is not a number"})
        missed = history.missed(self.topic, last_seen)
        self._missed = tuple(missed.events)
        return Reply("ok", {"last_id": history.last_id(self.topic), "resumed": missed.resumed, "missed": missed.count})

    def after_join(self) -> None:
        """Send what was missed, before any live event."""
        for event, payload in self._missed:
            self.push(event, payload)
        self._missed = ()


def _line(topic: str, event: str, payload: dict[str, Any]) -> bytes:
    return msgspec.json.encode([topic, event, payload]) + b"\n"
