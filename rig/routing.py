"""
Which handlers an event belongs to, which worker and lane take it, and which socket a topic is joined on. Pure.

A topic pattern is literal text with `*` (any text, the empty one too, only at the end) or `{name}` (one segment: no
colon). An event pattern is a name, or a glob in the sense of `fnmatch`. All patterns that match apply, in the order
in which they were declared; the first of them gives the ordering key, and what happens when the worker is too slow.
"""

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Literal, TypeAlias
from zlib import crc32

from rig.errors import AppError

Overflow: TypeAlias = Literal["spill", "block", "drop_oldest", "drop_newest", "latest"]
"""What happens to events for a worker that cannot keep up: see `--overflow`."""

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Pattern:
    """One topic pattern with one event pattern, compiled."""

    __slots__ = ("_event", "_topic", "event", "topic")

    def __init__(self, topic: str, event: str) -> None:
        """
        Compile the pair.

        Raises:
            AppError: If `*` stands anywhere but at the end of the topic, or a brace is not closed.
        """
        self.topic, self.event = topic, event
        self._topic = re.compile(_topic_expression(topic))
        self._event = re.compile(translate(event)) if any(c in event for c in "*?[") else None

    def match(self, topic: str, event: str) -> dict[str, str] | None:
        """Return the captures if both fit, else None."""
        if event != self.event and (self._event is None or not self._event.match(event)):
            return None
        found = self._topic.fullmatch(topic)
        return None if found is None else found.groupdict()

    @property
    def joinable(self) -> bool:
        """True if the topic can be joined as it stands: it captures nothing."""
        return "{" not in self.topic

    def covers(self, topic: str) -> bool:
        """Return True if the topic pattern matches, whatever the event."""
        return self._topic.fullmatch(topic) is not None


def shard(key: bytes, shards: int) -> int:
    """Return which of `shards` workers takes the events with this ordering key: the same in every process, for ever."""
    return crc32(key) % shards


def lane(key: bytes, lanes: int) -> int:
    """Return which of a worker's `lanes` handles this ordering key, independent of `shard`."""
    return (crc32(key, 0x5EED) >> 8) % lanes


def rendezvous(topic: str, sockets: int) -> int:
    """
    Return which of `sockets` a topic is joined on: the same in every process, for ever.

    Each socket draws a number for the topic, and the highest wins. So one socket more takes its even share from all others,
    and no topic moves between those. The checksum of `shard` cannot draw them: for two sockets its numbers differ in the same
    bits whatever the topic.

    Args:
        topic: The topic.
        sockets: How many there are, at least 1.

    Raises:
        ValueError: If there are none, or if the topic cannot be encoded as UTF-8.

    Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998); RFC 7693 for the hash.
    """
    from hashlib import (
        blake2b,
    )  # not above: a worker with one io process needs no hash library

    name = topic.encode()
    return max(range(sockets), key=lambda number: blake2b(name, digest_size=8, salt=b"%d" % number).digest())


def joined_topics(named: Mapping[str, object], patterns: list[Pattern]) -> list[str]:
    """
    Return the topics to join, in order: those that are named, then each pattern that covers none of them.

    A pattern such as `applications:*` is joined as it is written: it is a legal Phoenix topic, and the usual name
    for the stream of everything.

    Raises:
        AppError: If a pattern with captures covers no named topic, since `{name}` cannot be joined.
    """
    topics = list(named)
    for pattern in patterns:
        if any(pattern.covers(topic) for topic in topics):
            continue
        if not pattern.joinable:
            example = _CAPTURE.sub("1", pattern.topic)
            raise AppError(f"nothing to join for {pattern.topic!r}: name its topics, as in app.join({example!r})")
        topics.append(pattern.topic)
    return topics


def _topic_expression(topic: str) -> str:
    if "*" in topic[:-1]:
        raise AppError(f"topic pattern {topic!r}: '*' can only stand at the end; use {{name}} for a segment in the middle")
    wild = topic.endswith("*")
    parts = _CAPTURE.split(topic[:-1] if wild else topic)
    literals, names = parts[::2], parts[1::2]
    if any(c in literal for literal in literals for c in "{}"):
        raise AppError(f"topic pattern {topic!r}: a capture is written {{name}}, with letters, digits and underscores")
    if len(set(names)) != len(names):
        raise AppError(f"topic pattern {topic!r}: each capture needs a name of its own")
    expression = re.escape(literals[0])
    for name, literal in zip(names, literals[1:], strict=True):
        expression += f"(?P<{name}>[^:]+)" + re.escape(literal)
    return expression + ("(?s:.*)" if wild else "")
