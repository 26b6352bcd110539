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
from types import MappingProxyType
from urllib.parse import SplitResult, quote, unquote, urlencode

from rig.errors import ConfigError
from rig.masking import MASK, names_a_secret
from rig.transport.pins import parse_pin
from rig.transport.proxy import Proxy, find_proxy
from rig.transport.tls import tls_context
from rig.transport.url import DEFAULT_PORTS, SCHEMES, over_http, parse_url, quoted

SUBPROTOCOL = "sec-websocket-protocol"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_UNSAFE_IN_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_UNRESERVED_IN_JS = "!*'()~"  # what encodeURIComponent leaves as it is, beyond what `quote` leaves
_HANDSHAKE_HEADERS = {"upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    A Phoenix socket: its URL, what is sent along, how far its certificate is trusted, and the way there.

    Args:
        url: As the user typed it: ws, wss, http or https, with or without `/websocket` at the end.
        params: Connect params, appended to the URL's own query.
        headers: Further headers of the upgrade request, in order.
        vsn: The version of the serializer.
        ca_file: Certificates to trust instead of the system's (PEM).
        cert_file: Our own certificate, with its chain (PEM).
        key_file: Its private key, not encrypted, if it is not in `cert_file` (PEM).
        insecure: Accept any certificate, and send secrets without TLS. With `pins`, these alone decide.
        auth_token: Offered as a subprotocol, the way phoenix.js sends `authToken`.
        pins: The server's certificate must fit one of these, see `rig.transport.pins.parse_pin`; none accepts any that is trusted.
        proxy: The URL of a proxy, or `env` to take it from the environment; None connects directly.
        secret_names: Names of params and headers that hold a secret, beside those whose name tells.
        token_follows: True if a token is sent later, in the payload of joins: to leak it there would be as bad as here.
        verbatim: Dial the URL as it is, without `/websocket`, `params` and `vsn`: a server has named it, in a redirect.

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
    pins: tuple[str, ...] = ()
    proxy: str | None = None
    secret_names: frozenset[str] = frozenset()
    token_follows: bool = False
    verbatim: bool = False
    via: Proxy | None = field(init=False, compare=False)
    _parts: SplitResult = field(init=False, compare=False)
    _port: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        parts, port = parse_url(self.url)
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_port", port)
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))
        object.__setattr__(self, "headers", tuple((name, value) for name, value in self.headers))
        object.__setattr__(self, "pins", tuple(self.pins))
        object.__setattr__(self, "secret_names", frozenset(self.secret_names))
        object.__setattr__(self, "via", find_proxy(self.proxy, secure=self.secure, host=self.host, port=port))
        _check_headers(self.headers)
        _check_pins(self.pins, secure=self.secure)
        if self.key_file and not self.cert_file:
            raise ConfigError(f"--key {self.key_file} is of no use alone: name the certificate that it belongs to with --cert")
        if not self.may_carry_secrets and (secrets := self.secrets()):
            raise ConfigError(
                f"{' and '.join(secrets)} would travel unencrypted to {self.host}: write wss:// instead of ws://, "
                "or allow it with --insecure"
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
    def exposed(self) -> bool:
        """True if others can read what is sent: it leaves this machine without TLS."""
        stays_here = _is_loopback(self.host) and (self.via is None or _is_loopback(self.via.host))
        return not (self.secure or stays_here)

    @property
    def may_carry_secrets(self) -> bool:
        """True if a token may be sent: over TLS, to this machine, or where the user allowed it."""
        return self.insecure or not self.exposed

    @property
    def display(self) -> str:
        """The URL for people: complete, but for its secrets."""
        userinfo = f"{MASK}@" if "@" in self._parts.netloc else ""
        query = "&".join(self._masked(pair) for pair in self._query.split("&"))
        return f"{self._scheme}://{userinfo}{self._authority}{self._path}{'?' if query else ''}{query}"

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
        query = self._query
        return f"{self._scheme}://{self._authority}{self._path}{'?' if query else ''}{query}"

    def longpoll_url(self) -> str:
        """
        Build the URL that long-poll asks: http or https, the path ends in `/longpoll`, the query is that of a WebSocket.

        Source: phoenix.js `LongPoll.normalizeEndpoint`.
        """
        return over_http(self.websocket_url())

    @property
    def longpoll_display(self) -> str:
        """The URL of long-poll for people: complete, but for its secrets."""
        return over_http(self.display)

    def longpoll_headers(self) -> list[tuple[str, str]]:
        """
        List the headers that every request of long-poll carries, the token not among them.

        The subprotocol is a WebSocket's: where it would carry `auth_token`, long-poll has a header of its own.
        """
        return [(name, value) for name, value in self.request_headers() if name.lower() != SUBPROTOCOL]

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
        Return the TLS settings, or None where no TLS is spoken. To be asked before each connection: a file may have been replaced.

        Raises:
            ConfigError: If a file is missing, unreadable or not what it should be.
        """
        if not self.secure:
            return None
        return tls_context(
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            insecure=self.insecure,
            pins=frozenset(map(parse_pin, self.pins)),
        )

    def proxy_url(self) -> str | None:
        """
        Return the URL of the proxy that leads to this endpoint, password and port included, or None if the way is direct.

        The scheme is `http`, `socks5` or `socks4`; in each the proxy is to find the server's name.
        """
        return self.via.url if self.via else None

    def secrets(self) -> list[str]:
        """Name what is sent along and must not reach another server: in words for people, without values."""
        named = ["the token"] if self.auth_token is not None or self.token_follows else []
        if self._parts.username is not None:
            named.append("user and password")
        named += [f"the header {name}" for name, _ in self.headers if self._is_secret(name)]
        pairs = (pair.partition("=") for pair in self._query.split("&"))
        return named + [f"the param {unquote(name)}" for name, _, value in pairs if value and self._is_secret(unquote(name))]

    def secret_values(self) -> list[str]:
        """List the secrets themselves, for whoever must keep them out of sight: a server may repeat what it was sent."""
        headers = [value for name, value in self.headers if self._is_secret(name)]
        pairs = (pair.partition("=") for pair in self._query.split("&"))
        params = [unquote(value) for name, _, value in pairs if self._is_secret(unquote(name))]
        passwords = [unquote(self._parts.password or ""), "" if self.via is None else self.via.password]
        tokens = [value.rpartition(" ")[2] for value in headers]  # without "Bearer" before it
        return [value for value in (self.auth_token, *headers, *tokens, *params, *passwords) if value]

    @property
    def _scheme(self) -> str:
        return SCHEMES[self._parts.scheme]

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self._scheme] else f"{host}:{self.port}"

    @property
    def _path(self) -> str:
        if self.verbatim:
            return quoted(self._parts.path or "/")
        path = quoted(self._parts.path.rstrip("/"))
        return path if path.endswith("/websocket") else f"{path}/websocket"

    @property
    def _query(self) -> str:
        own = quoted(self._parts.query)
        if self.verbatim:
            return own
        kept = [pair for pair in own.split("&") if pair and pair.partition("=")[0] != "vsn"]
        added = urlencode({**self.params, "vsn": self.vsn}, quote_via=quote, safe=_UNRESERVED_IN_JS)
        return "&".join([*kept, added])

    def _masked(self, pair: str) -> str:
        name, equals, _ = pair.partition("=")
        return f"{name}={MASK}" if equals and self._is_secret(unquote(name)) else pair

    def _is_secret(self, name: str) -> bool:
        # A header or param with "auth" in its name holds a secret; in a log this may be the name of a setting.
        return names_a_secret(name) or "auth" in name.lower() or name.lower() in map(str.lower, self.secret_names)


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ConfigError(f"{name!r} is not the name of an HTTP header: write it like X-Request-Id:value")
        if _UNSAFE_IN_HEADER.search(value):
            raise ConfigError(f"the value of the header {name} holds a control character: leave it out")
        if name.lower() in _HANDSHAKE_HEADERS:
            raise ConfigError(f"the header {name} belongs to the WebSocket handshake: leave it out")
        if name.lower() == SUBPROTOCOL and any(other.lower() == SUBPROTOCOL for other, _ in headers if other is not name):
            raise ConfigError(f"the header {name} is given twice: write its values with a comma between them")


def _check_pins(pins: Iterable[str], *, secure: bool) -> None:
    for pin in pins:
        parse_pin(pin)
        if not secure:
            raise ConfigError("--pin pins a certificate, and without TLS there is none: write wss:// instead of ws://")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
