"""
A proxy for the tests: HTTP, SOCKS5 or SOCKS4, in front of servers on this machine.

As an HTTP proxy it makes a tunnel where it is asked for one with CONNECT, and passes a request on that names a whole URL.

It takes every name for its own machine's, so that a name that nobody else can resolve shows who has resolved it.
"""

import asyncio
import base64
import contextlib
import socket
from urllib.parse import urlsplit

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Refuse(Exception):
    """Carries what to answer before hanging up."""


class ProxyServer:
    """
    Serves on a free port.

    Args:
        scheme: `http`, `socks5` or `socks4`.
        credentials: User and password that it asks for; SOCKS4 takes the user only.
        refusal: Answered instead of connecting.
        gap: True sends its answer in two segments.
        silent: True reads and never answers.

    Attributes:
        asked: Host and port of every request, as they were sent.
        methods: The methods of the requests, for HTTP.
        live: How many connections are open.
    """

    def __init__(
        self,
        scheme: str,
        *,
        credentials: tuple[str, str] | None = None,
        refusal: bytes | None = None,
        gap: bool = False,
        silent: bool = False,
    ) -> None:
        self.scheme, self.credentials, self.refusal, self.gap, self.silent = scheme, credentials, refusal, gap, silent
        self.asked: list[tuple[str, int]] = []
        self.methods: list[str] = []
        self.live = 0
        self.connected = asyncio.Event()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ProxyServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, userinfo: str = "") -> str:
        """Return what the user types."""
        return f"{self.scheme}://{userinfo}127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        self.live += 1
        self.connected.set()
        try:
            with contextlib.suppress(_Refuse, OSError, asyncio.IncompleteReadError):
                await (self._relay if not self.silent else self._swallow)((reader, writer))
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self.live -= 1
            writer.transport.abort()
            self._tasks.discard(task)

    async def _swallow(self, client: Stream) -> None:
        while await client[0].read(1000):
            pass

    async def _relay(self, client: Stream) -> None:
        speak = {"http": self._http, "socks5": self._socks5, "socks4": self._socks4}[self.scheme]
        try:
            yes, no, passed_on = await speak(client)
        except _Refuse as refused:
            client[1].write(refused.args[0])
            await client[1].drain()
            client[1].close()
            await client[1].wait_closed()
            raise
        port = self.asked[-1][1]
        try:
            server = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            client[1].write(no)
            await client[1].drain()
            client[1].close()
            await client[1].wait_closed()
            return
        if passed_on:
            server[1].write(passed_on)
        else:
            await self._answer(client[1], yes)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(client[0], server[1]))
                pumps.create_task(_pump(server[0], client[1]))
        finally:
            server[1].transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.gap:
            writer.write(answer)
            return
        writer.write(answer[: len(answer) // 2])
        await asyncio.sleep(0.02)  # two segments: the peer must have read the first before the second is written
        writer.write(answer[len(answer) // 2 :])

    async def _http(self, client: Stream) -> tuple[bytes, bytes, bytes]:
        request = (await client[0].readuntil(b"\r\n\r\n")).decode()
        method, target, _ = request.split(" ", 2)
        authority = target if method == "CONNECT" else urlsplit(target).netloc
        self.methods.append(method)
        host, _, port = authority.rpartition(":")
        self.asked.append((host, int(port)))
        assert f"\r\nHost: {authority}\r\n" in request
        if self.refusal is not None:
            raise _Refuse(self.refusal)
        if self.credentials is not None:
            wanted = base64.b64encode(":".join(self.credentials).encode()).decode()
            if f"\r\nProxy-Authorization: Basic {wanted}\r\n" not in request:
                raise _Refuse(b'HTTP/1.1 407 Who are you?\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')
        bad_gateway = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
        if method != "CONNECT":
            return b"", bad_gateway, request.encode()
        return b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n", bad_gateway, b""

    async def _socks5(self, client: Stream) -> tuple[bytes, bytes, bytes]:
        reader, writer = client
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        assert version == 5
        method = 2 if self.credentials else 0
        if method not in methods:
            raise _Refuse(b"\x05\xff")
        writer.write(bytes([5, method]))
        if self.credentials:
            await reader.readexactly(1)
            given = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
            if tuple(given) != self.credentials:
                raise _Refuse(b"\x01\x01")
            writer.write(b"\x01\x00")
        _, command, _, kind = await reader.readexactly(4)
        assert command == 1
        match kind:
            case 1:
                host = socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
            case 4:
                host = socket.inet_ntop(socket.AF_INET6, await reader.readexactly(16))
            case _:
                host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        self.asked.append((host, int.from_bytes(await reader.readexactly(2), "big")))
        if self.refusal is not None:
            raise _Refuse(self.refusal)
        rest = b"\x00\x01" + bytes(6)
        return b"\x05\x00" + rest, b"\x05\x05" + rest, b""

    async def _socks4(self, client: Stream) -> tuple[bytes, bytes, bytes]:
        reader = client[0]
        version, command = await reader.readexactly(2)
        assert (version, command) == (4, 1)
        port = int.from_bytes(await reader.readexactly(2), "big")
        address = await reader.readexactly(4)
        user = (await reader.readuntil(b"\0"))[:-1].decode()
        by_name = address[:3] == b"\0\0\0" and address[3]
        host = (await reader.readuntil(b"\0"))[:-1].decode() if by_name else socket.inet_ntop(socket.AF_INET, address)
        self.asked.append((host, port))
        if self.refusal is not None:
            raise _Refuse(self.refusal)
        if self.credentials and user != self.credentials[0]:
            raise _Refuse(b"\x00\x5d" + bytes(6))
        return b"\x00\x5a" + bytes(6), b"\x00\x5b" + bytes(6), b""


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
