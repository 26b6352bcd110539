"""
What the tests of the transports share: a server that does only what a test tells it, byte by byte, and an owner that
writes down what it hears.
"""

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from rig.transport import Closed, Endpoint, dial

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


async def reached(event: asyncio.Event, task: "asyncio.Future[Any]") -> None:
    """Wait until an attempt got so far, or is over: on a busy machine its time limit may come first."""
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await asyncio.wait({waiting})


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = False) -> bytes:
    """Encode a frame as a server sends it, or wrongly masked."""
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        length = bytes([mask | len(payload)])
    elif len(payload) < 65536:
        length = bytes([mask | 126]) + struct.pack(">H", len(payload))
    else:
        length = bytes([mask | 127]) + struct.pack(">Q", len(payload))
    return bytes([fin << 7 | rsv << 4 | opcode]) + length + (bytes(4) if masked else b"") + payload


def text(*payloads: bytes) -> bytes:
    """Encode text frames."""
    return b"".join(frame(TEXT, payload) for payload in payloads)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """Encode a CLOSE frame."""
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


def holds_close(data: bytes) -> bool:
    """Look for a CLOSE among the client's frames, of which the first begins `data`."""
    pos = 0
    while pos + 2 <= len(data):
        if data[pos] & 0xF == CLOSE:
            return True
        size, header = data[pos + 1] & 0x7F, 6
        if size >= 126:
            header += 2 if size == 126 else 8
            size = int.from_bytes(data[pos + 2 : pos + header - 4], "big")
        pos += header + size
    return False


class Received(NamedTuple):
    """A frame from the client, unmasked."""

    opcode: int
    payload: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.request = ""
        self.upgraded = False
        self.got_close = False

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_request(self) -> str:
        self.request = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        return self.request

    def header(self, name: str) -> str | None:
        lines = (line.partition(": ") for line in self.request.split("\r\n"))
        return next((value for key, _, value in lines if key.lower() == name.lower()), None)

    def accept(self) -> bytes:
        digest = hashlib.sha1((self.header("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
        return base64.b64encode(digest.digest())

    async def upgrade(self, then: bytes = b"", *, header: bytes = b"") -> None:
        """Read the request and answer it, with a further header, and write more in the same segment."""
        await self.read_request()
        self.switch_protocols(then, header=header)

    def switch_protocols(self, then: bytes = b"", *, header: bytes = b"") -> None:
        """Answer the request that was read, and write more in the same segment."""
        self.upgraded = True
        self.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + self.accept() + b"\r\n" + header + b"\r\n" + then
        )

    async def receive(self) -> Received:
        first, second = await self.reader.readexactly(2)
        assert second & 0x80, "a client must mask its frames"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        masked = await self.reader.readexactly(size)
        self.got_close = self.got_close or first & 0xF == CLOSE
        return Received(first & 0xF, bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked)))

    async def read_to_end(self) -> bytes:
        """Read until the client has hung up. Once it has sent its CLOSE it waits for us to do it first."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while not self.got_close:
                piece = await self.reader.read(65536)
                if not piece:
                    return data
                data += piece
                self.got_close = self.upgraded and holds_close(data)
            if not self.writer.can_write_eof():
                self.writer.close()
                return data
            self.writer.write_eof()
            data += await self.reader.read()
        return data

    def reset(self) -> None:
        """Hang up with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Peer], Awaitable[None]]


class RawServer:
    """Serves every connection with one behaviour, on a free port; an exception in it fails the test."""

    def __init__(self, behaviour: Behaviour, context: ssl.SSLContext | None = None, *, host: str = "127.0.0.1") -> None:
        self._behaviour, self._context, self._host = behaviour, context, host
        self._errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> "RawServer":
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        if exc_info[0] is not None:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if exc_info[0] is None:
            await self._server.wait_closed()
        if self._errors and exc_info[0] is None:
            raise self._errors[0]

    def endpoint(self, **settings: Any) -> Endpoint:
        scheme = "wss" if self._context else "ws"
        return Endpoint(
            f"{scheme}://localhost:{self.port}/socket" if self._context else f"{scheme}://127.0.0.1:{self.port}/socket", **settings
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._behaviour(Peer(reader, writer))
        except BaseException as exc:
            self._errors.append(exc)
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._tasks.discard(task)


class Owner:
    """Writes down what it is told, and can be waited on."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.closed: Closed | None = None
        self._changed = asyncio.Event()

    def text_received(self, frames: list[bytes]) -> None:
        self._note("text", frames)

    def binary_received(self, frames: list[bytes]) -> None:
        self._note("binary", frames)

    def frames_rejected(self, count: int, reason: str) -> None:
        self._note("rejected", (count, reason))

    def transport_closed(self, closed: Closed) -> None:
        self.closed = closed
        self._note("closed", closed)

    @property
    def texts(self) -> list[bytes]:
        return [item for kind, frames in self.heard if kind == "text" for item in frames]

    @property
    def batches(self) -> list[list[bytes]]:
        return [frames for kind, frames in self.heard if kind == "text"]

    @property
    def rejected(self) -> list[tuple[int, str]]:
        return [what for kind, what in self.heard if kind == "rejected"]

    @property
    def flow(self) -> list[tuple[str, bytes]]:
        """Every message with its kind, in order, without the borders of batches."""
        return [(kind, item) for kind, frames in self.heard if kind in ("text", "binary") for item in frames]

    async def wait_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def wait_closed(self) -> Closed:
        await self.wait_until(lambda: self.closed)
        assert self.closed is not None
        return self.closed

    def _note(self, kind: str, what: Any) -> None:
        assert kind == "closed" or self.closed is None, "nothing may come after transport_closed"
        self.heard.append((kind, what))
        self._changed.set()


async def converse(behaviour: Behaviour, owner: Owner | None = None, **settings: Any) -> Owner:
    """Dial a server with this behaviour, wait until the connection is over, and return the owner."""
    owner = owner or Owner()
    async with RawServer(behaviour) as server:
        await dial(server.endpoint(), owner, **settings)
        await owner.wait_closed()
    return owner


def sends(*pieces: bytes) -> Behaviour:
    """Make a server that upgrades, writes each piece in a segment of its own, and reads to the end."""

    async def behaviour(peer: Peer) -> None:
        await peer.upgrade()
        for piece in pieces:
            peer.write(piece)
            await asyncio.sleep(0.005)
        await peer.read_to_end()

    return behaviour
