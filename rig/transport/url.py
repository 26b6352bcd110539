"""
The URL of a Phoenix socket: which texts are one, and how it is written for either transport.

What must stay true: an error here shows no part of the URL that could be a secret.

Source: RFC 3986 section 2 (what may stand unquoted); phoenix.js `LongPoll.normalizeEndpoint`.
"""

import re
from typing import NoReturn
from urllib.parse import SplitResult, quote, urlsplit

from rig.errors import ConfigError
from rig.masking import MASK

SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
"""What may be typed, and what it is."""
DEFAULT_PORTS = {"ws": 80, "wss": 443}

_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_DELIMITERS = "/:?#[]@!$&'()*+,;=%~"


def parse_url(url: str) -> tuple[SplitResult, int]:
    """
    Return the parts of a socket's URL, and its port: 80 or 443 if it names none.

    Args:
        url: As the user typed it: ws, wss, http or https.

    Raises:
        ConfigError: If it is not the URL of a socket. The message says why, and shows no secret.

    Source: RFC 6455 section 3.
    """
    if _UNSAFE.search(url):
        _refuse(url, "leave out blanks, and write those that belong to it as %20")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        _refuse(url, "write a host name, and a port from 1 to 65535")
    if parts.scheme not in SCHEMES:
        _refuse(url, "it must begin with ws:// or wss://, like wss://example.com/socket")
    if not parts.hostname:
        _refuse(url, "a host is missing; write it like wss://example.com/socket")
    if parts.fragment or url.endswith("#"):
        _refuse(url, 'a URL of a socket has no fragment; write a "#" that belongs to it as %23')
    if port == 0:
        _refuse(url, "write a host name, and a port from 1 to 65535")
    return parts, port or DEFAULT_PORTS[SCHEMES[parts.scheme]]


def quoted(text: str) -> str:
    """
    Quote what of a path or a query may not stand there, and leave what is quoted already.

    Source: RFC 3986 section 2.
    """
    return quote(text, safe=_DELIMITERS)


def over_http(url: str) -> str:
    """
    Return where long-poll asks, for the URL of a WebSocket that is dialled: http or https, and `/longpoll` for `/websocket`.

    Source: phoenix.js `LongPoll.normalizeEndpoint`.
    """
    beside, _, query = url.removeprefix("ws").partition("?")
    return f"http{beside.removesuffix('/websocket').removesuffix('/longpoll')}/longpoll?{query}"


def _refuse(url: str, remedy: str) -> NoReturn:
    # A URL that cannot be parsed cannot be masked part by part: show nothing from the first secret on.
    head, found, _ = url.partition("?")
    shown = re.sub(r"//[^/]*@", f"//{MASK}@", head).partition("#")[0] + ("?…" if found else "")
    raise ConfigError(f"{shown!r} is not the URL of a Phoenix socket: {remedy}")
