"""
The forms in which values are written: sizes, URLs, K=V pairs, HTTP headers.

What must stay true: whatever is wrong with a value is a `ValueError`; its caller knows the option's name and translates it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from rig.masking import MASK

_FACTORS = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB)?", re.IGNORECASE | re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def parse_size(text: str) -> int:
    """
    Turn "8MiB", "512 KiB" or "65536" into bytes.

    Raises:
        ValueError: If it is not a size, or not a whole number of bytes.
    """
    if not (found := _SIZE.fullmatch(text.strip())):
        raise ValueError(text)
    factors = {unit.lower(): factor for unit, factor in _FACTORS.items()}
    size = float(found[1]) * factors.get((found[2] or "b").lower(), 1)
    if not size.is_integer():
        raise ValueError(text)
    return int(size)


def show_size(size: int) -> str:
    """
    Write bytes in the largest unit that leaves a whole number: `8 MiB`.

    Raises:
        Nothing.
    """
    for unit, factor in _FACTORS.items():
        if size and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} bytes"


def parse_url(text: str) -> str:
    """
    Check that a text is the URL of a socket, and return it without surrounding blanks.

    Raises:
        ValueError: If the scheme is none of ws, wss, http and https, or host or port are missing or wrong.
    """
    parts = urlsplit(text.strip())
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(text)
    return text.strip()


def parse_urls(items: object) -> tuple[str, ...]:
    """
    Check a list of URLs, see `parse_url`, and return them in order, none twice.

    Raises:
        ValueError: If it is no list of texts, an empty one, or one of them is no URL of a socket.
    """
    if not isinstance(items, list | tuple) or not items or not all(isinstance(item, str) for item in items):
        raise ValueError(items)
    return tuple(dict.fromkeys(map(parse_url, items)))


def parse_pairs(items: object) -> dict[str, str]:
    """
    Turn `["K=V"]`, or a table with plain values, into a dict. The last one of the same name counts.

    Raises:
        ValueError: If an item has no `=`, no name, or a value that is not plain.
    """
    if isinstance(items, dict):
        return {key: _plain(value) for key, value in items.items()}
    return dict(_split(items, "="))


def parse_headers(items: object) -> tuple[tuple[str, str], ...]:
    """
    Turn `["K: V"]`, `[("K", "V")]` or a table with plain values into pairs, in order.

    Raises:
        ValueError: If an item has no `:`, the name is no token, or the value has control characters.

    Source: RFC 9110 §5.1 and §5.5.
    """
    pairs = ((key, _plain(value)) for key, value in items.items()) if isinstance(items, dict) else _split(items, ":")
    headers = tuple((key, value.strip()) for key, value in pairs)
    for key, value in headers:
        if not _HEADER_NAME.fullmatch(key) or _CONTROL.search(value):
            raise ValueError(key)
    return headers


def show_auth(text: str) -> str:
    """
    Write the option `auth` for people: of a command the first word only, and nothing that may be the token itself.

    Raises:
        Nothing.
    """
    kind, _, rest = text.partition(":")
    if text == "none" or (kind in ("env", "file", "keyring") and rest):
        return text
    if kind == "command" and rest.strip():
        first, *more = rest.split()
        return f"command:{first.partition('=')[0]}{' …' if more or '=' in first else ''}"
    return MASK


def _split(items: object, separator: str) -> Iterator[tuple[str, str]]:
    if not isinstance(items, Iterable) or isinstance(items, str):
        raise ValueError(items)
    for item in items:
        if isinstance(item, tuple | list) and len(item) == 2:
            yield _plain(item[0]), _plain(item[1])
            continue
        key, found, value = str(item).partition(separator)
        if not found or not key.strip():
            raise ValueError(item)
        yield key.strip(), value


def _plain(value: Any) -> str:
    """Write a TOML value as a connect parameter has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(value)
