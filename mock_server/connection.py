"""
What a socket needs of the connection that it runs over, of which there are two kinds: a WebSocket and a long-poll session.

A connection is handed complete WebSocket frames, so that a broadcast is built once for all of them; the long-poll session
takes the messages out again.
Source: Phoenix.Socket.Transport.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Protocol

_numbers = itertools.count(1)


class Connection(Protocol):
    """
    One client's connection, as `Socket`, floods and the control API see it.

    Args:
        id: Its name in the control API.
        transport: "websocket" or "longpoll".
        connected_at: Seconds since the epoch.
        bytes_received: What the client sent, framing included where there is any.
        bytes_sent: What was written to it.
        on_message: Called with opcode and payload of each message of the client.
        on_batch_end: Called when the messages that came together have all been handed over.
        lost: Done when the connection is gone.
    """

    id: str
    transport: str
    connected_at: float
    bytes_received: int
    bytes_sent: int
    on_message: Callable[[int, bytes], None] | None
    on_batch_end: Callable[[], None] | None
    lost: asyncio.Future[None]

    @property
    def held(self) -> bool:
        """Whether everything waits."""

    @property
    def closed(self) -> bool:
        """Whether nothing more can be sent."""

    def hold(self) -> None:
        """Stop everything in both directions, as a socket process that waits for something does."""

    def release(self, first: Callable[[], None]) -> None:
        """Do what was waited for, then send and receive what has gathered meanwhile."""

    def write(self, frames: bytes) -> None:
        """Send one or many complete frames; nothing happens on a closed connection."""

    def freeze(self) -> None:
        """Send and read nothing until `thaw`, as on a link that is dead without a word; the client's TCP stays open."""

    def thaw(self) -> None:
        """Go on; a connection that the server has ended meanwhile ends now for its client too."""

    async def drained(self) -> None:
        """Wait until more may be written, or the client is gone."""

    async def flushed(self) -> None:
        """Wait until everything written has left the server, or the client is gone."""

    def close(self, code: int) -> None:
        """End the connection; a WebSocket says so with this close code, long-poll has no way to."""

    def drop(self) -> None:
        """End the connection without a word."""


def next_connection_id() -> str:
    """Return the name of one more connection."""
    return f"c{next(_numbers)}"
