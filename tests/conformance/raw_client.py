"""
A client that shows every byte, over a WebSocket or plain HTTP: what the golden transcripts are replayed with.

It shares no code with the server, nor with rig.
"""

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import Any, Self

OPCODES = {"continuation": 0, "text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}
TEXT, BINARY = OPCODES["text"], OPCODES["binary"]
NAMES = {number: name for name, number in OPCODES.items()}
PATIENCE = 10.0

UPGRADE = [
    ("Host", "localhost"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "cmlnLWdvbGRlbi1rZXktMA=="),
    ("Sec-WebSocket-Version", "13"),
]


@dataclass
class Received:
    """One frame from the server, or the end of the connection (`eof`)."""

    opcode: str
    payload: bytes = b""
    rsv: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def code(self) -> int | None:
        return int.from_bytes(self.payload[:2], "big") if self.payload else None


def client_frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Build a client frame, a wrong one too; the mask is not zero, so that unmasking is tested."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    length, bit = len(payload), 0x80 if masked else 0
    if length < 126:
        header = bytes((first, bit | length))
    elif length < 65_536:
        header = bytes((first, bit | 126)) + length.to_bytes(2, "big")
    else:
        header = bytes((first, bit | 127)) + length.to_bytes(8, "big")
    if not masked:
        return header + payload
    mask = b"\x01\x02\x03\x04"
    repeated = (mask * (length // 4 + 1))[:length]
    return header + mask + (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(length, "little")


@dataclass
class Client:
    """A connection to the mock server, before or after the upgrade."""

    sock: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def request(self, target: str, headers: list[tuple[str, str]], *, method: str = "GET", body: bytes = b"") -> None:
        """Send a request and read the answer, up to its body if it is not an upgrade; the status is 0 without an answer."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        await self.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        while b"\r\n\r\n" not in self.buffer:
            if not await self._fill():
                return
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        status_line, *header_lines = head.decode().split("\r\n")
        self.status = int(status_line.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in header_lines)}
        self.buffer = bytearray(rest)
        if self.status != 101:
            length = int(self.headers.get("content-length", "0"))
            while len(self.buffer) < length:
                assert await self._fill()
            self.body = bytes(self.buffer[:length])

    async def write(self, data: bytes) -> None:
        """Send bytes; a server that closes in the middle is no failure, what it said can still be read."""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def send(self, *message: Any) -> None:
        """Send one V2 text message."""
        await self.write(client_frame(OPCODES["text"], json.dumps(message, ensure_ascii=False).encode()))

    async def send_frame(self, opcode: str, payload: bytes = b"") -> None:
        """Send one frame."""
        await self.write(client_frame(OPCODES[opcode], payload))

    async def receive(self, *, within: float = PATIENCE) -> Received:
        """Return the next frame."""
        async with asyncio.timeout(within):
            while (frame := self._take()) is None:
                if not await self._fill():
                    return Received("eof")
            return frame

    async def receive_json(self) -> Any:
        """Return the next frame, which has to be text, as JSON."""
        frame = await self.receive()
        assert frame.opcode == "text", frame
        return frame.json

    async def join(self, topic: str, params: Any = None, *, ref: str = "1") -> Any:
        """Join a topic; returns the reply's payload."""
        await self.send(ref, ref, topic, "phx_join", {} if params is None else params)
        reply = await self.receive_json()
        assert reply[:4] == [ref, ref, topic, "phx_reply"], reply
        return reply[4]

    async def receive_until_silent(self, seconds: float) -> list[Received]:
        """Return every frame that comes before `seconds` of silence."""
        frames = []
        try:
            while True:
                frames.append(await self.receive(within=seconds))
        except TimeoutError:
            return frames

    async def _fill(self) -> bool:
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 18)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def _take(self) -> Received | None:
        buffer = self.buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1], 2
        assert length < 128, "a server does not mask"
        if length >= 126:
            start += 2 if length == 126 else 8
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start or len(buffer) < start + length:
            return None
        frame = Received(NAMES[buffer[0] & 0x0F], bytes(buffer[start : start + length]), (buffer[0] & 0x70) >> 4)
        del buffer[: start + length]
        return frame

    def close(self) -> None:
        """Drop the connection."""
        self.sock.close()


class Dialler:
    """Connects clients, and closes them at the end of the `with` block."""

    def __init__(self) -> None:
        self._clients: list[Client] = []

    async def __call__(self, port: int, target: str | None = "/socket/websocket?vsn=2.0.0", **headers: str) -> Client:
        """Connect to a port; with a target, upgrade to a WebSocket there."""
        sock = socket.socket()
        sock.setblocking(False)
        client = Client(sock)
        self._clients.append(client)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        if target is not None:
            extra = [(name.replace("_", "-"), value) for name, value in headers.items()]
            await client.request(target, [*UPGRADE, *extra])
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
