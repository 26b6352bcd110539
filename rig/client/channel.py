"""A joined topic, as the client's caller sees it."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from rig.client.presence import Presence
from rig.client.queue import ClientEvent, EventQueue

if TYPE_CHECKING:
    from rig.client.client import Client


class ClientChannel:
    """
    A joined topic. Iterate over it to get its events, from its join on.

    Attributes:
        topic: Its topic.
        response: What the server answered the first join with.
        presence: What the join was given, or None.
    """

    def __init__(self, client: "Client", topic: str, *, wanted: bool, presence: Presence | None) -> None:
        self._client, self.topic, self.presence = client, topic, presence
        self._wanted = wanted
        self.response: Any = None
        self._queue = EventQueue(client._relieve)
        self._iterated = False

    def __aiter__(self) -> AsyncIterator[ClientEvent]:
        self._iterated = True
        return self._queue.iterate()

    def _end(self) -> None:
        self._queue.end()
        if self.presence is not None:
            self.presence.end()

    async def push(self, event: str, payload: Any = None, *, timeout: float | None = None) -> Any:
        """
        Push an event and return the response of its reply.

        Args:
            event: Its name.
            payload: Plain objects, structs or dataclasses (JSON), or bytes (a binary frame). None pushes `{}`.
            timeout: Seconds to wait; None takes the client's.

        Raises:
            LocalProtocolError: If the payload cannot be encoded, or the channel was left.
            PushRefused: If the reply's status is not ok.
            PushTimeout: If no reply came in time.
            ConnectionLost: If the connection or the channel ended before the reply came.
        """
        return await self._client._push(self.topic, event, payload, timeout)

    async def send(self, event: str, payload: Any = None) -> None:
        """
        Push an event for which no reply is wanted.

        Raises:
            LocalProtocolError: If the payload cannot be encoded, or the channel was left.
        """
        await self._client._send(self.topic, event, payload)

    async def leave(self) -> None:
        """Leave the topic, and return when the server has confirmed it; the iteration ends."""
        await self._client._leave(self)
