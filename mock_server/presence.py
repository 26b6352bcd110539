"""
Presence: who is on a topic, and the diffs that tell of every change.

A diff is a broadcast; an update is a leave of the old meta and a join of the new one, which names its predecessor.
Source: Phoenix.Presence, Phoenix.Tracker.
"""

import base64
import itertools
import os
from collections.abc import Callable
from typing import Any

from mock_server.channel import Channel
from mock_server.hub import Hub

Meta = dict[str, Any]
Entries = dict[str, dict[str, Any]]
Fetch = Callable[[str, Entries], Entries]


def _as_they_are(topic: str, entries: Entries) -> Entries:
    return entries


class Presence:
    """
    The presences of one server, keyed by the channel that tracks them.

    Args:
        hub: Where diffs go.
        fetch: Makes what clients see of a topic's entries, say with more keys beside `metas`.
    """

    def __init__(self, hub: Hub, fetch: Fetch = _as_they_are) -> None:
        self._hub = hub
        self._fetch = fetch
        self._tracked: dict[str, dict[Channel, tuple[str, Meta]]] = {}
        self._numbers = itertools.count(int.from_bytes(os.urandom(6), "big"))

    def track(self, channel: Channel, key: str, meta: Meta) -> None:
        """Start tracking `key` for a channel, and broadcast its join."""
        meta = {"phx_ref": self._new_ref(), **meta}
        self._tracked.setdefault(channel.topic, {})[channel] = (key, meta)
        self._hub.broadcast(channel.topic, "presence_diff", self._diff(channel.topic, joins=_entry(key, meta)))

    def update(self, channel: Channel, key: str, meta: Meta) -> None:
        """
        Replace a channel's meta; the diff goes out behind the reply to the push that asked for it.

        Raises:
            KeyError: If the channel is not tracked.
        """
        _, old = self._tracked[channel.topic][channel]
        new = {"phx_ref": self._new_ref(), "phx_ref_prev": old["phx_ref"], **meta}
        self._tracked[channel.topic][channel] = (key, new)
        diff = self._diff(channel.topic, joins=_entry(key, new), leaves=_entry(key, old))
        self._hub.broadcast_soon(channel.topic, "presence_diff", diff)

    def untrack(self, channel: Channel) -> None:
        """Stop tracking a channel and broadcast the leave; nothing happens if it is not tracked."""
        present = self._tracked.get(channel.topic, {})
        if channel not in present:
            return
        key, meta = present.pop(channel)
        if not present:
            del self._tracked[channel.topic]
        self._hub.broadcast(channel.topic, "presence_diff", self._diff(channel.topic, leaves=_entry(key, meta)))

    def state(self, topic: str) -> Entries:
        """Return every presence of a topic as `presence_state` shows it."""
        state: Entries = {}
        for key, meta in self._tracked.get(topic, {}).values():
            state.setdefault(key, {"metas": []})["metas"].append(meta)
        return self._fetch(topic, state)

    def _diff(self, topic: str, *, joins: Entries | None = None, leaves: Entries | None = None) -> dict[str, Entries]:
        return {"joins": self._fetch(topic, joins or {}), "leaves": self._fetch(topic, leaves or {})}

    def _new_ref(self) -> str:
        return base64.urlsafe_b64encode(next(self._numbers).to_bytes(12, "big")).decode()


def _entry(key: str, meta: Meta) -> Entries:
    return {key: {"metas": [meta]}}
