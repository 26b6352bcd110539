"""
The scenario `max`: a platform with applications, networks and variables that change all the time.

Every topic has a history. Its events carry `id`, contiguous per topic, so a client that joins with `{"last_seen_id": n}`
gets what came after n, and any gap can be proven.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from mock_server.channel import Channel, Handler, Outcome, Push, Reply
from mock_server.hub import Hub

HISTORY_EVENTS = 1_000

_TICK_SECONDS = 0.02
_APPS = ("billing", "checkout", "search", "gateway", "reports")
_NETWORKS = ("core", "edge", "lab")
_LINKS = ("uplink-a", "uplink-b", "mesh-1", "mesh-2")
_VARIABLES = ("TIMEOUT_MS", "REPLICAS", "LOG_LEVEL", "FEATURE_CHECKOUT", "REGION")
_HEALTH = ("healthy", "degraded", "unhealthy")


@dataclass(slots=True)
class Topic:
    """What the platform knows of one topic: its latest state by name, and its last events."""

    last_id: int = 0
    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: deque[tuple[str, dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=HISTORY_EVENTS))


class MaxPlatform:
    """
    The platform behind the three kinds of topics.

    Args:
        hub: Where events go.
        rate: Live updates per second, over all topics that were ever joined.
    """

    routes: ClassVar[Sequence[tuple[str, type[Channel]]]]

    def __init__(self, hub: Hub, rate: float) -> None:
        self._hub = hub
        self._rate = rate
        self._topics: dict[str, Topic] = {}
        self._random = random.Random(1)
        self._updates: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the live updates."""
        if self._rate > 0:
            self._updates = asyncio.get_running_loop().create_task(self._update_forever())

    async def stop(self) -> None:
        """End them."""
        if self._updates is not None:
            self._updates.cancel()
            await asyncio.wait([self._updates])

    def topic(self, name: str) -> Topic:
        """Return what is known of a topic, which exists from its first join on."""
        return self._topics.setdefault(name, Topic())

    def emit(self, name: str, event: str, key: str, values: dict[str, Any]) -> None:
        """Make one event of a topic: number it, remember it, broadcast it."""
        topic = self.topic(name)
        topic.last_id += 1
        payload = {"id": topic.last_id, **values, "at": datetime.now(UTC).isoformat(timespec="microseconds")}
        topic.state[key] = {**topic.state.get(key, {}), **values}
        topic.history.append((event, payload))
        self._hub.broadcast(name, event, payload)
        self._hub.ledger.count(name, 0, last=topic.last_id)

    def set_variable(self, name: str, variable: str, value: Any, *, by: str) -> None:
        """Change a variable and tell everybody."""
        previous = self.topic(name).state.get(variable, {}).get("value")
        self.emit(name, "changed", variable, {"name": variable, "value": value, "previous": previous, "by": by})

    async def _update_forever(self) -> None:
        """Make events at the rate; a late turn catches up, by at most a second's worth."""
        made, started = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            due = (time.monotonic() - started) * self._rate
            made = max(made, due - self._rate)
            names = list(self._topics)
            while made + 1 <= due:
                made += 1
                if names:
                    self._update(self._random.choice(names))

    def _update(self, name: str) -> None:
        kind = name.partition(":")[0]
        _UPDATES[kind](self, name, self._random)


def _update_application(platform: MaxPlatform, name: str, chance: random.Random) -> None:
    app = chance.choice(_APPS)
    (event,) = chance.choices(("deployed", "scaled", "health_changed"), (1, 3, 6))
    match event:
        case "deployed":
            version = f"{chance.randint(1, 3)}.{chance.randint(0, 20)}.{chance.randint(0, 9)}"
            platform.emit(name, event, app, {"app": app, "version": version})
        case "scaled":
            platform.emit(name, event, app, {"app": app, "instances": chance.randint(1, 12)})
        case _:
            (status,) = chance.choices(_HEALTH, (90, 8, 2))
            platform.emit(name, event, app, {"app": app, "status": status})


def _update_network(platform: MaxPlatform, name: str, chance: random.Random) -> None:
    link = chance.choice(_LINKS)
    up = chance.random() < 0.98
    of_topic = name.partition(":")[2]
    network = chance.choice(_NETWORKS) if of_topic == "*" else of_topic
    values = {"network": network, "link": link, "up": up, "latency_ms": round(chance.uniform(0.2, 80), 2) if up else None}
    platform.emit(name, "link_changed", f"{network}/{link}", values)


def _update_variable(platform: MaxPlatform, name: str, chance: random.Random) -> None:
    platform.set_variable(name, chance.choice(_VARIABLES), chance.randint(0, 9_999), by="platform")


_UPDATES: Mapping[str, Callable[[MaxPlatform, str, random.Random], None]] = {
    "applications": _update_application,
    "networks": _update_network,
    "variables": _update_variable,
}


def _ack(channel: "LiveTopic", push: Push) -> Outcome:
    return Reply("ok", {"id": push.payload["id"]})


def _set(channel: "LiveTopic", push: Push) -> Outcome:
    user = channel.socket.identity.params.get("user", "anonymous")
    channel.platform.set_variable(channel.topic, str(push.payload["name"]), push.payload["value"], by=user)
    return Reply("ok")


class LiveTopic(Channel):
    """A topic with a snapshot, a history and live updates."""

    handlers: ClassVar[Mapping[str, Handler]] = {"ack": _ack}
    _missed: list[tuple[str, dict[str, Any]]]

    @property
    def platform(self) -> MaxPlatform:
        """The platform of this server."""
        platform: MaxPlatform = self.socket.environment.services[MaxPlatform]
        return platform

    def join(self, params: Any) -> Reply:
        """Accept, with the state as it is; what came after `last_seen_id` follows as pushes."""
        topic = self.platform.topic(self.topic)
        last_seen = params.get("last_seen_id") if isinstance(params, dict) else None
        if last_seen is not None and not isinstance(last_seen, int):
            return Reply("error", {"reason": "last_seen_id is not a number"})
        self._missed = [] if last_seen is None else [item for item in topic.history if item[1]["id"] > last_seen]
        snapshot = {"topic": self.topic, "last_id": topic.last_id, "state": list(topic.state.values())}
        if last_seen is not None:
            oldest = topic.history[0][1]["id"] if topic.history else topic.last_id + 1
            snapshot |= {"replayed": len(self._missed), "lost": max(0, oldest - last_seen - 1)}
        return Reply("ok", snapshot)

    def after_join(self) -> None:
        """Send what was missed, before any live update."""
        for event, payload in self._missed:
            self.push(event, payload)
        self._missed = []


class Variables(LiveTopic):
    """`variables:{id}`: may be written, too."""

    handlers: ClassVar[Mapping[str, Handler]] = {"ack": _ack, "set": _set}


MaxPlatform.routes = (("applications:*", LiveTopic), ("networks:*", LiveTopic), ("variables:*", Variables))
