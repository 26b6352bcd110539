"""
Where to connect, and with what.

An `Endpoint` is checked when it is made, so that a typing error is a sentence before the first packet and not a failed
handshake after it. It is the only place that turns what the user typed into the URL that goes out, and the only place
that turns it into text for people: `display` has every secret masked, and errors and logs use nothing else.

Source: phoenix.js `Socket.endPointURL` and `Ajax.appendParams` (path and order of the parameters), `Socket` `authToken`
(subprotocol); RFC 6455 section 3 (URIs).
"""

import base64
import ipaddress
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from rig.errors import ConfigError

_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_SECRET_NAMES = ("token", "api_key", "apikey", "secret", "password", "jwt", "auth")
_MASK = "***"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_UNSAFE_IN_URL = re.compile(r"[\x00-\x20\x7f]")
_UNSAFE_IN_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_URL_DELIMITERS = "/:?#[]@!$&'()*+,;=%~"
_UNRESERVED_IN_JS = "!*'()~"  # what encodeURIComponent leaves as it is, beyond what `quote` leaves
_HANDSHAKE_HEADERS = {"upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}
_SUBPROTOCOL = "sec-websocket-protocol"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    A Phoenix socket: its URL, what is sent along, and how far its certificate is trusted.

    Args:
        url: As the user typed it: ws, wss, http or https, with or without `/websocket` at the end.
        params: Connect params, appended to the URL's own query.
        headers: Further headers of the upgrade request, in order.
        vsn: The version of the serializer.
        ca_file: Certificates to trust instead of the system's (PEM).
        cert_file: Our own certificate, with its chain (PEM).
        key_file: Its private key, not encrypted, if it is not in `cert_file` (PEM).
        insecure: Accept any certificate, and send secrets without TLS.
        auth_token: Offered as a subprotocol, the way phoenix.js sends `authToken`.
        secret_names: Params and headers whose values are secrets, beside those whose names say so.

    Raises:
        ConfigError: If a part cannot be used, or a secret would travel unencrypted to another host.

    Source: phoenix.js `Socket` constructor.
    """

    url: str
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
    headers: tuple[tuple[str, str], ...] = ()
    vsn: str = "2.0.0"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False
    auth_token: str | None = None
    secret_names: frozenset[str] = frozenset()
    _parts: SplitResult = field(init=False, compare=False)
    _port: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        parts, port = _parse(self.url)
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_port", port)
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))
        object.__setattr__(self, "headers", tuple((name, value) for name, value in self.headers))
        _check_headers(self.headers)
        if self.key_file and not self.cert_file:
            raise ConfigError(f"--key {self.key_file} is of no use alone: name the certificate that it belongs to with --cert")
        if self._carries_secret and not self.may_carry_secrets:
            raise ConfigError(
                f"a token would travel unencrypted to {self.host}: write wss:// instead of ws://, or allow it with --insecure"
            )

    def __repr__(self) -> str:
        return f"Endpoint({self.display!r})"

    @property
    def host(self) -> str:
        """The name or address to connect to, in lower case, without the brackets of IPv6."""
        host = self._parts.hostname or ""
        return host if host.isascii() else host.encode("idna").decode("ascii")

    @property
    def port(self) -> int:
        """The port to connect to: 80 or 443 if the URL names none."""
        return self._port

    @property
    def secure(self) -> bool:
        """True if TLS is spoken."""
        return self._scheme == "wss"

    @property
    def may_carry_secrets(self) -> bool:
        """True if a token may be sent: over TLS, to this machine, or where the user allowed it."""
        return self.secure or self.insecure or _is_loopback(self.host)

    @property
    def display(self) -> str:
        """The URL for people: complete, but for its secrets."""
        userinfo = f"{_MASK}@" if "@" in self._parts.netloc else ""
        query = "&".join(_masked(pair, self.secret_names) for pair in self._query.split("&"))
        return f"{self._scheme}://{userinfo}{self._authority}{self._path}?{query}"

    def with_token(self, value: str, mode: str) -> "Endpoint":
        """
        Return the same endpoint with a token, which is masked wherever the endpoint is shown.

        Args:
            value: The token.
            mode: `subprotocol`, `param:NAME`, `header` (`Authorization: Bearer`) or `header:NAME` (the token as it is). A param
                or header of that name that is there already gives way.

        Raises:
            ConfigError: If the token would travel unencrypted to another host, has characters that no token has, or the mode
                is none of these. The message does not show the token.

        Source: phoenix.js `Socket` `authToken`; RFC 6750 section 2.1.
        """
        if not value or not value.isprintable():
            raise ConfigError("the token is empty, or has a line break or a control character in it: give the token alone")
        kind, _, name = mode.partition(":")
        match kind, name:
            case "subprotocol", "":
                return replace(self, auth_token=value)
            case "param", name if name and name != "vsn":
                return replace(self, params={**self.params, name: value}, secret_names=self.secret_names | {name})
            case "header", name:
                shown, value = (name, value) if name else ("Authorization", f"Bearer {value}")
                others = tuple(header for header in self.headers if header[0].lower() != shown.lower())
                return replace(self, headers=(*others, (shown, value)), secret_names=self.secret_names | {shown})
        raise ConfigError(f"the token cannot travel as {mode}: write subprotocol, param:NAME, header or header:NAME")

    def websocket_url(self) -> str:
        """
        Build the URL that is dialled: the path ends in `/websocket`, the query in `vsn`.

        The user's own `vsn` in the URL gives way, because the serializer must fit what is sent. User and password are
        left out: they travel as a header.

        Source: phoenix.js `Socket.endPointURL`.
        """
        return f"{self._scheme}://{self._authority}{self._path}?{self._query}"

    def longpoll_url(self) -> str:
        """
        Build the URL that long-poll asks: http or https, the path ends in `/longpoll`, the query is that of a WebSocket.

        Source: phoenix.js `LongPoll.normalizeEndpoint`.
        """
        return _over_http(self.websocket_url())

    @property
    def longpoll_display(self) -> str:
        """The URL of long-poll for people: complete, but for its secrets."""
        return _over_http(self.display)

    def longpoll_headers(self) -> list[tuple[str, str]]:
        """
        List the headers that every request of long-poll carries, the token not among them.

        The subprotocol is a WebSocket's: where it would carry `auth_token`, long-poll has a header of its own.
        """
        return [(name, value) for name, value in self.request_headers() if name.lower() != _SUBPROTOCOL]

    def request_headers(self) -> list[tuple[str, str]]:
        """
        List the headers that the upgrade request carries beside those of the handshake.

        Source: phoenix.js `Socket.transportConnect`; RFC 7617 for user and password in the URL.
        """
        headers = list(self.headers)
        if self._parts.username is not None and not any(name.lower() == "authorization" for name, _ in headers):
            credentials = f"{unquote(self._parts.username)}:{unquote(self._parts.password or '')}"
            headers.append(("Authorization", f"Basic {base64.b64encode(credentials.encode()).decode('ascii')}"))
        if self.auth_token is not None:
            # Standard base64, not the URL-safe kind that the prefix promises: Phoenix answers HTTP 500 to a "-" or "_".
            token = base64.b64encode(self.auth_token.encode()).decode("ascii").rstrip("=")
            headers.append(("Sec-WebSocket-Protocol", f"phoenix, base64url.bearer.phx.{token}"))
        return headers

    def ssl_context(self) -> ssl.SSLContext | None:
        """
        Return the TLS settings, or None where no TLS is spoken. Endpoints with the same files share one context.

        Raises:
            ConfigError: If a file is missing, unreadable or not what it should be.
        """
        return _ssl_context(self.ca_file, self.cert_file, self.key_file, self.insecure) if self.secure else None

    @property
    def _scheme(self) -> str:
        return _SCHEMES[self._parts.scheme]

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self._scheme] else f"{host}:{self.port}"

    @property
    def _path(self) -> str:
        path = quote(self._parts.path.rstrip("/"), safe=_URL_DELIMITERS)
        return path if path.endswith("/websocket") else f"{path}/websocket"

    @property
    def _query(self) -> str:
        own = quote(self._parts.query, safe=_URL_DELIMITERS).split("&")
        kept = [pair for pair in own if pair and pair.partition("=")[0] != "vsn"]
        added = urlencode({**self.params, "vsn": self.vsn}, quote_via=quote, safe=_UNRESERVED_IN_JS)
        return "&".join([*kept, added])

    @property
    def _carries_secret(self) -> bool:
        return self.auth_token is not None or self._parts.password is not None or bool(self.secret_names)


def _over_http(url: str) -> str:
    beside, _, query = url.removeprefix("ws").partition("?")
    return f"http{beside.removesuffix('/websocket').removesuffix('/longpoll')}/longpoll?{query}"


def _parse(url: str) -> tuple[SplitResult, int]:
    if _UNSAFE_IN_URL.search(url):
        _refuse(url, "leave out blanks, and write those that belong to it as %20")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        _refuse(url, "write a host name, and a port from 1 to 65535")
    if parts.scheme not in _SCHEMES:
        _refuse(url, "it must begin with ws:// or wss://, like wss://example.com/socket")
    if not parts.hostname:
        _refuse(url, "a host is missing; write it like wss://example.com/socket")
    if parts.fragment or url.endswith("#"):
        _refuse(url, 'a URL of a socket has no fragment; write a "#" that belongs to it as %23')
    if port == 0:
        _refuse(url, "write a host name, and a port from 1 to 65535")
    return parts, port or _DEFAULT_PORTS[_SCHEMES[parts.scheme]]


def _refuse(url: str, remedy: str) -> NoReturn:
    # A URL that cannot be parsed cannot be masked part by part: show nothing from the first secret on.
    head, found, _ = url.partition("?")
    shown = re.sub(r"//[^/]*@", f"//{_MASK}@", head).partition("#")[0] + ("?…" if found else "")
    raise ConfigError(f"{shown!r} is not the URL of a Phoenix socket: {remedy}")


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ConfigError(f"{name!r} is not the name of an HTTP header: write it like X-Request-Id:value")
        if _UNSAFE_IN_HEADER.search(value):
            raise ConfigError(f"the value of the header {name} holds a control character: leave it out")
        if name.lower() in _HANDSHAKE_HEADERS:
            raise ConfigError(f"the header {name} belongs to the WebSocket handshake: leave it out")
        if name.lower() == _SUBPROTOCOL and any(other.lower() == _SUBPROTOCOL for other, _ in headers if other is not name):
            raise ConfigError(f"the header {name} is given twice: write its values with a comma between them")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _masked(pair: str, secret_names: frozenset[str]) -> str:
    name, equals, _ = pair.partition("=")
    plain = unquote(name)
    secret = plain in secret_names or any(part in plain.lower() for part in _SECRET_NAMES)
    return f"{name}={_MASK}" if equals and secret else pair


@lru_cache(maxsize=16)
def _ssl_context(ca_file: str | None, cert_file: str | None, key_file: str | None, insecure: bool) -> ssl.SSLContext:
    for option, file in (("--ca", ca_file), ("--cert", cert_file), ("--key", key_file)):
        if file:
            _check_readable(option, file)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (ssl.SSLError, OSError) as exc:
        raise ConfigError(f"--ca {ca_file} holds no certificate in PEM form: name a file that does") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_file:
        _load_own_certificate(context, cert_file, key_file)
    return context


def _load_own_certificate(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    def refuse_password() -> NoReturn:
        # Without this, OpenSSL would ask at the terminal, and a service has none.
        raise ConfigError(f"the key in {key_file or cert_file} is encrypted: store it without a password")

    try:
        context.load_cert_chain(cert_file, key_file, refuse_password)
    except (ssl.SSLError, OSError) as exc:
        where = f"{cert_file} and {key_file}" if key_file else cert_file
        raise ConfigError(f"{where} do not hold a certificate and its key in PEM form: check --cert and --key") from exc


def _check_readable(option: str, file: str) -> None:
    try:
        with Path(file).open("rb"):
            pass
    except OSError as exc:
        raise ConfigError(f"{option} {file} cannot be read ({exc.strerror}): check the name and the permissions") from exc
