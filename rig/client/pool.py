"""
Several connections that look like one: each topic is joined on one of them, always the same.

One connection's frames are read, decoded and answered one after the other, and Phoenix serves each connection with one
process. Where that is too slow, or a slow join must not hold up other topics, the topics are spread over several.

Must stay true: what befalls one connection is no other's business; a topic has one connection.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from rig.client.channel import ClientChannel
from rig.client.client import Client
from rig.client.presence import Presence
from rig.client.queue import ClientEvent, EventQueue
from rig.errors import LocalProtocolError
from rig.routing import rendezvous
from rig.transport import Endpoint


class Pool:
    """
    What `connect` gives for `pool=N`: the same methods as `Client`.

    Order holds within a topic, and not between topics of different connections.
    """

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = clients
        self._all: EventQueue | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Where the first of them is connected, or goes first."""
        return self._clients[0].endpoint

    @property
    def connected(self) -> bool:
        """True while all connections are open."""
        return all(client.connected for client in self._clients)

    async def join(
        self, topic: str, payload: Any = None, *, events: bool = True, presence: Presence | None = None
    ) -> ClientChannel:
        """
        Join a topic on its connection; see `Client.join`.

        Raises:
            JoinRefused: If the server answers with an error; the topic is not tried again.
            JoinTimeout: If it does not answer in time.
            ConnectionLost: If the pool was closed meanwhile, or the server ended the channel before it answered.
            LocalProtocolError: If the topic is joined already, the topic or the payload cannot be encoded, or the presence
                follows another channel.
        """
        try:
            client = self._clients[rendezvous(topic, len(self._clients))]
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(f"the topic {topic!r} cannot be written as UTF-8 ({exc})") from exc
        return await client.join(topic, payload, events=events, presence=presence)

    async def events(self) -> AsyncIterator[ClientEvent]:
        """Yield the events of all channels that are not iterated over, from this call on."""
        if self._all is None:
            self._all = EventQueue(self._relieve)
            for client in self._clients:
                client._collect(self._all)
        async for event in self._all.iterate():
            yield event

    async def ping(self, *, timeout: float | None = None) -> float:
        """
        Ping all connections, and return the seconds of the slowest; see `Client.ping`.

        Raises:
            ConnectionLost: If one of them is not open, or ends before a reply comes.
            PingTimeout: If one of them does not answer in time.
        """
        return max(await asyncio.gather(*(client.ping(timeout=timeout) for client in self._clients)))

    def _start(self) -> None:
        for client in self._clients:
            client._start()

    @property
    def _opened(self) -> "asyncio.Future[list[None]]":
        return asyncio.gather(*(client._opened for client in self._clients))

    async def _close(self) -> None:
        for client in self._clients:
            client._end()
        await asyncio.gather(*(client._close() for client in self._clients))

    def _relieve(self) -> None:
        for client in self._clients:
            client._relieve()
