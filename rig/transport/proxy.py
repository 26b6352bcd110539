"""
Which proxy is between us and the server: as the user typed it, or as the environment says for this server.

The URL of a proxy can hold a password: only `display` is for people, and no error here repeats what was typed.

Source: curl `--proxy`, `--noproxy` (suffixes, networks, `*`); Python's `urllib.request` (which variable goes first).
"""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies_environment

from rig.errors import ConfigError
from rig.masking import MASK

ENVIRONMENT = "env"
"""The setting that takes the proxy from the environment."""

# In all of them the proxy finds the name: that is what the "h" and the "a" say elsewhere.
_SCHEMES = {"http": "http", "socks5": "socks5", "socks5h": "socks5", "socks4": "socks4", "socks4a": "socks4"}
_FORM = "write http://HOST:PORT, socks5://HOST:PORT or socks4://HOST:PORT, with USER:PASSWORD@ before the host if it asks for them"
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_MAX_SOCKS_BYTES = 255


@dataclass(frozen=True, slots=True)
class Proxy:
    """
    A proxy, checked.

    Attributes:
        scheme: `http`, `socks5` or `socks4`.
        host: Its name or address, without the brackets of IPv6.
        port: Its port.
        user: None if none was written.
        password: Empty if none was written.
    """

    scheme: str
    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The URL with its password, as libraries take it."""
        userinfo = "" if self.user is None else f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@"
        return f"{self.scheme}://{userinfo}{self._authority}"

    @property
    def display(self) -> str:
        """The URL for people: user and password are masked, since either can be the secret."""
        return f"{self.scheme}://{'' if self.user is None else f'{MASK}@'}{self._authority}"

    @property
    def _authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def find_proxy(setting: str | None, *, secure: bool, host: str, port: int) -> Proxy | None:
    """
    Say which proxy leads to a server, or None if the way is direct.

    Args:
        setting: A URL, `env`, or None for no proxy.
        secure: True asks for HTTPS_PROXY, False for HTTP_PROXY; without it, ALL_PROXY counts. Variables in lower case go first.
        host: The server's name or address, which NO_PROXY may except.
        port: The server's port.

    Raises:
        ConfigError: If the setting or the variable is not the URL of a proxy.
    """
    if setting is None:
        return None
    if setting != ENVIRONMENT:
        return parse_proxy(setting, source="--proxy")
    variables = getproxies_environment()
    name = next((name for name in ("https" if secure else "http", "all") if name in variables), None)
    if name is None or _is_excepted(host, port, variables.get("no", "")):
        return None
    return parse_proxy(variables[name], source=f"the environment variable {name.upper()}_PROXY")


def parse_proxy(text: str, *, source: str) -> Proxy:
    """
    Read the URL of a proxy.

    Args:
        text: A URL; without a scheme it is an HTTP proxy.
        source: Where it comes from, for the error.

    Raises:
        ConfigError: If it cannot be used.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
    except ValueError:
        _refuse(source, "host or port cannot be read")
    if parts.scheme == "https":
        _refuse(source, "TLS to the proxy itself is not supported, TLS through it is")
    if parts.scheme not in _SCHEMES:
        _refuse(source, "its kind is unknown")
    if not host or not port or _UNSAFE.search(text) or _UNSAFE.search(host):
        _refuse(source, "it needs a host and a port, and no blanks")
    user, password = parts.username, unquote(parts.password or "")
    proxy = Proxy(_SCHEMES[parts.scheme], host, port, None if user is None else unquote(user), password)
    _check_credentials(proxy, source)
    return proxy


def _check_credentials(proxy: Proxy, source: str) -> None:
    if proxy.user is None:
        return
    if proxy.scheme == "http":
        if ":" in proxy.user:
            _refuse(source, "the user's name cannot hold a colon")
        return
    if proxy.scheme == "socks5" and not (proxy.user and proxy.password):
        _refuse(source, "SOCKS5 takes a user and a password, or neither")
    for value in (proxy.user, proxy.password):
        if not value.isascii() or len(value) > _MAX_SOCKS_BYTES or "\0" in value:
            _refuse(source, "user and password of SOCKS are ASCII, at most 255 characters each")


def _refuse(source: str, reason: str) -> NoReturn:
    raise ConfigError(f"{source} is not the URL of a proxy that can be used ({reason}): {_FORM}")


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    return any(_excepts(entry.lower(), host.rstrip("."), port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _excepts(entry: str, host: str, port: int) -> bool:
    entry = entry.removesuffix(f":{port}") if entry.count(":") == 1 or "]:" in entry else entry
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = entry.removeprefix("*").strip(".")
        return entry == "*" or host == name or (bool(name) and host.endswith(f".{name}"))
    try:
        return entry == "*" or address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False
