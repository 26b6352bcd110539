"""
A cluster of Phoenix servers in memory, for tests of hand-overs: every broadcast reaches every connection that has joined its topic.

Nothing travels by itself: a test decides which connection delivers, and when, so that one can be far behind another.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from rig.auth import TokenSource
from rig.auth.provider import NoToken
from rig.connection import Connection
from rig.dialling import Dialler
from rig.endpoints import Candidate
from rig.errors import ConnectFailed
from rig.io.uplink import Uplink
from rig.phoenix import Push, Socket, events
from rig.transport import Endpoint
from rig.transport.base import Closed, Transport, TransportOwner
from rig.transport.memory import MemoryTransport, pair
from tests.running import until

PATIENCE = 5.0
URLS = ("ws://127.0.0.1:1/socket", "ws://127.0.0.1:2/socket", "ws://127.0.0.1:3/socket")


class Peer:
    """
    The server's end of one connection.

    Attributes:
        url: Which server it is.
        joined: Topic → join_ref.
        heard: What came, but for heartbeats.
        closed: How it ended.
    """

    def __init__(self, cluster: "Cluster", url: str) -> None:
        self.cluster, self.url = cluster, url
        self.joined: dict[str, str] = {}
        self.heard: list[list[Any]] = []
        self.unanswered: list[list[Any]] = []
        self.closed: Closed | None = None
        self.end: MemoryTransport

    def text_received(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._handle(msgspec.json.decode(frame))

    def binary_received(self, frames: list[bytes]) -> None:
        raise AssertionError("nothing here pushes bytes")

    def frames_rejected(self, count: int, reason: str) -> None:
        raise AssertionError("nothing here is too large")

    def transport_closed(self, closed: Closed) -> None:
        self.closed = closed
        self.joined.clear()

    def say(self, *messages: list[Any]) -> None:
        self.end.send([msgspec.json.encode(message) for message in messages])

    def reply(self, message: list[Any], status: str = "ok", response: Any = None) -> None:
        join_ref, ref, topic, _, _ = message
        self.say([join_ref, ref, topic, "phx_reply", {"status": status, "response": response or {}}])

    def accept(self, join: list[Any]) -> None:
        """Have the client in the topic from now on, also where its join was ignored at first."""
        join_ref, _, topic, _, _ = join
        self.joined[topic] = join_ref
        self.reply(join)

    def crash(self, topic: str) -> None:
        join_ref = self.joined.pop(topic)
        self.say([join_ref, join_ref, topic, "phx_error", {}])

    def _handle(self, message: list[Any]) -> None:
        join_ref, _, topic, event, payload = message
        if topic == "phoenix":
            self.reply(message)
            return
        self.heard.append(message)
        match event:
            case "phx_join" if topic in self.cluster.refused:
                self.reply(message, "error", {"reason": "full"})
            case "phx_join" if topic in self.cluster.ignored:
                pass
            case "phx_join":
                self.accept(message)
            case "phx_leave":
                self.reply(message)
                if topic not in self.cluster.clinging and self.joined.pop(topic, None) is not None:
                    self.say([join_ref, join_ref, topic, "phx_close", {}])
            case _:
                self.cluster.pushed.append((topic, payload))
                if self.cluster.answering:
                    self.reply(message)
                else:
                    self.unanswered.append(message)


class Cluster:
    """
    The servers, and how they behave.

    Attributes:
        down: URLs that refuse every connection.
        refused: Topics whose joins are refused.
        ignored: Topics whose joins are not answered.
        clinging: Topics that a leave does not end.
        answering: False keeps the pushes in `Peer.unanswered`.
        pushed: (topic, payload) of every push, in the order of arrival.
        peers: Every connection so far.
        dialled: Every URL that was dialled, in order.
        fallback: Why the transports from now on are not of the kind that was wanted.
    """

    fallback = ""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.refused: set[str] = set()
        self.ignored: set[str] = set()
        self.clinging: set[str] = set()
        self.answering = True
        self.pushed: list[tuple[str, Any]] = []
        self.peers: list[Peer] = []
        self.dialled: list[str] = []
        self._ends: list[tuple[MemoryTransport, MemoryTransport]] = []

    async def dial(self, endpoint: Endpoint, owner: TransportOwner, **limits: object) -> Transport:
        """Take the place of the network, as `rig.endpoints.Choice`."""
        self.dialled.append(endpoint.url)
        if endpoint.url in self.down:
            raise ConnectFailed("127.0.0.1", endpoint.port, "refused")
        peer = Peer(self, endpoint.url)
        ours, peer.end = pair(owner, peer)
        self.peers.append(peer)
        self._ends.append((ours, peer.end))
        return ours

    def broadcast(self, topic: str, payload: Any, event: str = "tick") -> None:
        """Send to every connection that has joined the topic."""
        for peer in self.peers:
            if topic in peer.joined:
                peer.say([None, None, topic, event, payload])

    def deliver(self, number: int) -> bool:
        """Let one connection deliver what is under way, first to the server, then from it; return True if anything was."""
        ours, theirs = self._ends[number]
        to_server, from_server = theirs.deliver(), ours.deliver()
        return to_server or from_server

    def hear(self, number: int) -> bool:
        """Let one server hear what is under way to it, and return True if anything was."""
        return self._ends[number][1].deliver()

    def deliver_all(self) -> None:
        """Let every connection deliver until nothing is under way."""
        while any(list(map(self.deliver, range(len(self._ends))))):
            pass

    def paused(self, number: int) -> bool:
        """Return True if the client reads nothing from a connection."""
        return self._ends[number][0].paused

    def cut(self, number: int) -> None:
        """End a connection without a close frame; what is under way is lost."""
        self._ends[number][1].abort()


class Owner:
    """
    An uplink over the cluster, and all that its owner is told.

    Attributes:
        told: Every event.
        on_event: Called with each.
        moved: How often the owner was told that there is another connection, or none.
    """

    def __init__(
        self,
        cluster: Cluster,
        *urls: str,
        failback_interval: float = 0.0,
        spread: Callable[[], float] = lambda: 0.0,
        **settings: Any,
    ) -> None:
        self.cluster = cluster
        self.told: list[events.Event] = []
        self.moved = 0
        self.on_event: Callable[[events.Event], None] = lambda event: None
        self.settings = settings
        self.dialler = Dialler(
            [Candidate(Endpoint(url), cluster) for url in urls or URLS[:1]],
            tokens=TokenSource(NoToken()),
            token_mode="subprotocol",
            connect_timeout=1.0,
            max_frame_bytes=1024,
        )
        self.uplink = Uplink(
            self.dialler,
            self._open,
            self._told,
            on_moved=self._moved,
            failback_interval=failback_interval,
            random=spread,
        )

    def _open(self, dial: Any, on_events: Callable[[list[events.Event]], None]) -> Connection:
        return Connection(Socket(**{"random": lambda: 0.0, "rejoin_stopped": True, **self.settings}), dial, on_events)

    def _told(self, received: list[events.Event]) -> None:
        for event in received:
            self.told.append(event)
            self.on_event(event)

    def _moved(self) -> None:
        self.moved += 1

    def all(self, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    def received(self, topic: str) -> list[Any]:
        """Return the payloads of a topic's events, in order, as they were handed on."""
        messages = [message for event in self.all(events.MessagesReceived) for message in event.messages]
        return [msgspec.json.decode(message.payload) for message in messages if message.topic == topic]

    def answered(self) -> list[Push]:
        return [event.push for event in self.all(events.ReplyReceived)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Deliver what is under way until something is so."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)
                self.cluster.deliver_all()

    async def open(self, *topics: str) -> "Owner":
        """Connect and join."""
        for topic in topics:
            self.uplink.join(topic, {})
        self.uplink.start()
        await self.until(lambda: self.uplink.open and len(self.all(events.Joined)) == len(topics))
        return self

    async def dialled(self, count: int) -> None:
        """Wait until so many connections were opened, and deliver nothing."""
        await until(lambda: len(self.cluster.peers) >= count)
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Close while the servers answer."""
        async with asyncio.timeout(PATIENCE):
            closing = asyncio.create_task(self.uplink.close())
            while not closing.done():
                self.cluster.deliver_all()
                await asyncio.sleep(0.001)
            await closing
