"""
The way through a proxy: a TCP connection to it that ends, once it has agreed, at the server.

The proxy is given the server's name, and finds the address itself. Whatever goes wrong here is the proxy's: what comes
later, in TLS or in the upgrade, is the server's. An attempt that fails or is cancelled leaves no socket.

SOCKS is spoken by python-socks. CONNECT is not: python-socks takes the first piece of the answer for the whole, and an answer in
two pieces would make its rest the beginning of TLS.

Source: RFC 9110 section 9.3.6 (CONNECT), RFC 7617 (Basic); RFC 1928 and 1929 (SOCKS5); the SOCKS 4A memo.
"""

import asyncio
import base64
import re
import socket
from typing import Any

from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy as SocksProxy

from rig.errors import ProxyFailed
from rig.transport.proxy import Proxy
from rig.transport.tcp import connect_tcp, os_reason

WANTS_CREDENTIALS = 407
"""The status that only a proxy answers. Source: RFC 9110 section 15.5.8."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d\d\d)(?: |\r)")
_END_OF_HEADERS = b"\r\n\r\n"
_MAX_ANSWER_BYTES = 64 * 1024
_NO_LIMIT = 86_400.0  # python-socks has a time-out of its own, of 60 s; the limit is the caller's


class _Refused(Exception):
    """The proxy's answer, in words."""


async def connect_through(proxy: Proxy, host: str, port: int) -> socket.socket:
    """
    Return a socket on which the server answers.

    Args:
        proxy: What leads there.
        host: The server's name or address.
        port: The server's port.

    Raises:
        ProxyFailed: If the proxy cannot be reached, refuses, or does not speak its protocol.
    """
    try:
        sock = await connect_tcp(proxy.host, proxy.port)
    except OSError as exc:
        raise ProxyFailed(proxy.display, os_reason(exc)) from exc
    try:
        await (_connect_http if proxy.scheme == "http" else _connect_socks)(sock, proxy, host, port)
    except BaseException as exc:
        sock.close()
        if isinstance(exc, OSError):
            raise ProxyFailed(proxy.display, os_reason(exc)) from exc
        if isinstance(exc, _Refused | ProxyError | UnicodeError):
            raise ProxyFailed(proxy.display, str(exc)) from exc
        raise
    return sock


def status_refused(proxy: Proxy, status: int) -> str:
    """Say in words with which HTTP status a proxy has refused."""
    if status == WANTS_CREDENTIALS:
        return f"HTTP 407: it {'asks for' if proxy.user is None else 'does not accept this'} user and password"
    return f"HTTP {status}"


async def _connect_http(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    if proxy.user is not None:
        credentials = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode("ascii")
        request += f"Proxy-Authorization: Basic {credentials}\r\n"
    await loop.sock_sendall(sock, f"{request}\r\n".encode("ascii"))
    answer = b""
    while _END_OF_HEADERS not in answer:
        piece = await loop.sock_recv(sock, _MAX_ANSWER_BYTES)
        answer += piece
        if not piece:
            raise _Refused("it hung up without an answer")
        if not answer.startswith(b"HTTP/"[: len(answer)]) or len(answer) > _MAX_ANSWER_BYTES:
            raise _Refused("its answer is not HTTP")
    _check_answer(answer, proxy)


def _check_answer(answer: bytes, proxy: Proxy) -> None:
    found = _STATUS_LINE.match(answer)
    if not found:
        raise _Refused("its answer is not HTTP")
    status = int(found[1])
    if not 200 <= status < 300:
        raise _Refused(status_refused(proxy, status))
    if answer.partition(_END_OF_HEADERS)[2]:
        raise _Refused("it sent more than its answer, though the server has not been asked yet")


async def _connect_socks(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    kind = ProxyType.SOCKS5 if proxy.scheme == "socks5" else ProxyType.SOCKS4
    there = _AlreadyThere(kind, proxy.host, proxy.port)
    there.sock = sock
    way = SocksProxy(kind, proxy.host, proxy.port, proxy.user or "", proxy.password, rdns=True, forward=there)
    await way.connect(host, port, timeout=_NO_LIMIT)


class _AlreadyThere(SocksProxy):
    """The first link of a chain of python-socks: a connection to the proxy that tried both address families."""

    sock: socket.socket

    async def connect(self, *args: Any, **kwargs: Any) -> socket.socket:
        return self.sock
