"""A link between a client and a server on this machine that can go dead without a word, as a cut cable or a lost NAT entry does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Link:
    """
    Passes bytes on in both directions.

    Attributes:
        url: What to connect to instead of the server's URL.
        opened: How many connections were ever made.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        self._live: set[_Pair] = set()
        self.url, self.opened = "", 0

    def freeze(self) -> int:
        """Let every connection that there is pass nothing on any more, and stay open; return how many these are."""
        for pair in self._live:
            pair.frozen = True
        return len(self._live)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        pair = _Pair()
        self._live.add(pair)
        upstream_reader, upstream_writer = await asyncio.open_connection(self._host, self._port)
        try:
            await asyncio.gather(pair.pump(reader, upstream_writer), pair.pump(upstream_reader, writer))
        finally:
            self._live.discard(pair)
            writer.close()
            upstream_writer.close()


class _Pair:
    """One connection, both ways."""

    def __init__(self) -> None:
        self.frozen = False

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes until its end; a frozen one reads, and says nothing to the other side, not even the end."""
        while data := await self._read(reader):
            if not self.frozen:
                writer.write(data)
        if not self.frozen:
            writer.close()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(65536)
        except ConnectionError:
            return b""


@asynccontextmanager
async def linked(upstream: str) -> AsyncIterator[Link]:
    """Put a link in front of a server's URL."""
    link = Link(upstream)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(link._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    link.url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}{link._path}"
    try:
        yield link
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
