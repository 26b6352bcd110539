"""
What can go wrong before a WebSocket is open, told as one of the errors of `rig.errors`.

picows, the ssl module and the operating system each have their own way to fail; this is the only place that knows them.
The reasons it gives are short, in plain words, and free of secrets.

Source: RFC 6455 section 4.2.2 (answers of the server); RFC 9110 sections 10.2.3 (Retry-After) and 15 (status codes).
"""

import errno
import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from picows import WSHandshakeError, WSInvalidHeaderError

from rig.errors import (
    AuthenticationRefused,
    ConnectError,
    ConnectFailed,
    ConnectRefused,
    HandshakeRefused,
    HostNotFound,
    NotWebSocket,
    PinMismatch,
    TlsFailed,
)
from rig.transport.endpoint import SUBPROTOCOL, Endpoint
from rig.transport.pins import PinFault
from rig.transport.tcp import os_reason

# picows reads no status lines of HTTP/1.0 and no statuses unknown to Python (Cloudflare's 520 to 530): they are read here.
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: |\r|$)")
_RETRY_AFTER = re.compile(rb"^retry-after:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_LOCATION = re.compile(rb"^location:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_SWITCHING_PROTOCOLS = 101
_REDIRECTS = (301, 302, 303, 307, 308)
_LONGEST_RETRY_AFTER = 3600.0


class Redirect(NamedTuple):
    """An answer that names another place: its status, and the place as it stands in `Location`."""

    status: int
    location: str


def connect_failed(endpoint: Endpoint, exc: OSError) -> ConnectFailed:
    """Translate a failure to find the host or to reach its port."""
    if isinstance(exc, socket.gaierror):
        kind: type[ConnectFailed] = HostNotFound
    else:
        kind = ConnectRefused if exc.errno == errno.ECONNREFUSED else ConnectFailed
    return kind(endpoint.host, endpoint.port, os_reason(exc))


def handshake_failed(endpoint: Endpoint, exc: OSError | WSHandshakeError) -> ConnectError:
    """Translate a failure that came after the TCP connection was made."""
    if isinstance(exc, WSHandshakeError):
        return _answer_refused(endpoint, exc)
    if isinstance(exc, PinFault):
        return PinMismatch(endpoint.host, exc.pin)
    if isinstance(exc, ssl.SSLError):
        return TlsFailed(endpoint.host, _tls_reason(exc))
    return TlsFailed(endpoint.host, os_reason(exc)) if endpoint.secure else NotWebSocket(endpoint.display, os_reason(exc))


def chosen_subprotocol(endpoint: Endpoint, headers: Mapping[str, str]) -> str | None:
    """
    Return the subprotocol that the server has chosen from those offered, None if it chose none.

    Args:
        endpoint: What offered them.
        headers: Of an answer that opens a WebSocket.

    Raises:
        NotWebSocket: If it chose what was not offered, a subprotocol or an extension: then both sides would take the same bytes
            for different things. What it chose is not shown; it may be a piece of the token.

    Source: RFC 6455 section 4.1 (answer of the server, 5 and 6).
    """
    if "Sec-WebSocket-Extensions" in headers:
        raise NotWebSocket(endpoint.display, "it chose an extension that was not offered")
    offers = (value for name, value in endpoint.request_headers() if name.lower() == SUBPROTOCOL)
    offered = {offer.strip() for value in offers for offer in value.split(",")}
    chosen = headers.get(SUBPROTOCOL)
    if chosen is not None and chosen.strip() not in offered:
        raise NotWebSocket(endpoint.display, "it chose a subprotocol that was not offered")
    return chosen


def redirect_in(exc: BaseException) -> Redirect | None:
    """
    Find the redirect in what picows raised, None if the answer is something else.

    Source: RFC 9110 sections 10.2.2 and 15.4.
    """
    header = (exc.raw_header or b"") if isinstance(exc, WSHandshakeError) else b""
    found, location = _STATUS_LINE.match(header), _LOCATION.search(header)
    if found and location and int(found[1]) in _REDIRECTS and location[1].strip():
        return Redirect(int(found[1]), location[1].decode("latin-1").strip())
    return None


def closed_during_handshake(endpoint: Endpoint) -> NotWebSocket:
    """Tell that the server hung up instead of answering the upgrade request."""
    hint = "" if endpoint.secure else ", as a port does that speaks TLS"
    return NotWebSocket(endpoint.display, f"the connection was closed without an answer{hint}")


def parse_retry_after(value: str, *, now: datetime) -> float | None:
    """
    Read a Retry-After header: seconds from `now`, never negative, or None if it says nothing useful.

    What is more than an hour counts as one: nobody can tell a client to stay away for good.

    Raises:
        Nothing.

    Source: RFC 9110 section 10.2.3.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_RETRY_AFTER)
    try:
        when = parsedate_to_datetime(value)
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)


def _answer_refused(endpoint: Endpoint, exc: WSHandshakeError) -> ConnectError:
    header = exc.raw_header or b""
    found = _STATUS_LINE.match(header)
    status = int(found[1]) if found else _SWITCHING_PROTOCOLS
    if status != _SWITCHING_PROTOCOLS:
        refused = AuthenticationRefused if status in (401, 403) else HandshakeRefused
        waits = _RETRY_AFTER.search(header)
        retry_after = parse_retry_after(waits[1].decode("latin-1"), now=datetime.now(UTC)) if waits else None
        return refused(endpoint.display, status, retry_after=retry_after)
    if isinstance(exc, WSInvalidHeaderError):
        return NotWebSocket(endpoint.display, f"the header {exc.name} of its answer is missing or wrong")
    return NotWebSocket(endpoint.display, "its answer is not HTTP" if not found else "its answer is malformed")


def _tls_reason(exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return str(exc.verify_message).rstrip(".")
    if exc.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return "the port does not speak TLS"
    return exc.reason.lower().replace("_", " ") if exc.reason else str(exc)
