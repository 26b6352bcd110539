"""How a TCP connection is made, and in which words it is told that it was not."""

import asyncio
import os
import socket

import aiohappyeyeballs

_HAPPY_EYEBALLS_DELAY = 0.25


async def connect_tcp(host: str, port: int) -> socket.socket:
    """
    Return a connected socket. Addresses of both families are tried, the next one 0.25 s after the last.

    Raises:
        OSError: If the name is not found, or no address answers.

    Source: RFC 8305.
    """
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY, interleave=1)


def os_reason(exc: OSError) -> str:
    """Say in a few plain words what the operating system or the resolver said."""
    if isinstance(exc, socket.gaierror):
        return str(exc.strerror).lower()
    if exc.errno:
        return os.strerror(exc.errno).lower()
    return "the connection was cut" if isinstance(exc, ConnectionError) else str(exc) or type(exc).__name__
