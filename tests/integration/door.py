"""
A port that leads to the stage's server: one endpoint of a cluster, for tests that shut it, open it again, cut what goes through, or
let nothing more of it go on.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class Door:
    """
    One port. It keeps its number when it is shut and opened again.

    Attributes:
        port: Its number.
        knocks: How many connections came.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0
        self.knocks = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.shut()
        self._flowing.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """What to connect to."""
        return f"ws://127.0.0.1:{self.port}/socket"

    async def open(self) -> None:
        """Let connections in."""
        self._server = await asyncio.start_server(self._lead, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self, *, cut: bool = True) -> None:
        """Refuse new connections, and cut those that there are, or let them be."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if cut:
            for writer in self._writers:
                writer.transport.abort()

    def stall(self) -> None:
        """Read nothing more of what comes from this side, as a server that hangs."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let all of it go on."""
        self._flowing.set()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocks += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, there}
        try:
            await asyncio.gather(_carry(reader, there, self._flowing), _carry(there_reader, writer))
        finally:
            for end in (writer, there):
                self._writers.discard(end)
                end.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event | None = None) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            if flowing is not None:
                await flowing.wait()
            if writer.is_closing():
                return
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
