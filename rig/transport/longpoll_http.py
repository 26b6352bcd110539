"""
The requests of one long-poll session.

What must stay true:

- A request is sent once. The server forgets a message when it has answered the poll that takes it, and acts on a frame when
  it has read the POST: an answer that did not arrive ends the session, so that the gap shows, and nothing happens twice.
- No answer is held in memory beyond a limit, and no wait is without one.
- The session's token is a secret. It travels in a header, as Phoenix reads it from 1.8.10 on, and in the URL, as all
  versions up to then do; neither is ever shown.

Source: Phoenix.Transports.LongPoll; phoenix.js `LongPoll`; `tests/golden/*longpoll*.json`.
"""

import asyncio
import os
import ssl
from datetime import UTC, datetime
from urllib.parse import quote

import aiohttp
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError
from yarl import URL

from rig.errors import (
    AuthenticationRefused,
    ConfigError,
    ConnectError,
    ConnectTimeout,
    HandshakeRefused,
    NotLongPoll,
    ProxyFailed,
)
from rig.transport.base import Closed
from rig.transport.close_codes import ABNORMAL
from rig.transport.endpoint import Endpoint
from rig.transport.handshake import connect_failed, handshake_failed, parse_retry_after
from rig.transport.longpoll_answer import TOO_LARGE, UNREADABLE, Answer, ended, read_body
from rig.transport.tcp import os_reason
from rig.transport.tunnel import WANTS_CREDENTIALS, status_refused

NDJSON = "application/x-ndjson"
JSON = "application/json"

_MOST_COOKIES = 50
_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
# Connections that wait longer are not used again: the server may be closing them at that very moment, and a POST that meets
# the end of a connection cannot be repeated. Polls follow each other at once, and never wait.
_KEEP_ALIVE = 4.0
_PROXY_ERRORS = (ProxyError, ProxyConnectionError, ProxyTimeoutError)


class _RequestFailed(Exception):
    """A request got no answer. aiohttp repeats a GET whose connection broke; an exception that it does not know it does not."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class _AnswerTooLarge(Exception):
    """An answer is larger than what is held."""


class LongPollSession:
    """
    A session of one client.

    Args:
        endpoint: Where it is.
        answer_timeout: Seconds that an answer may take; longer than the server's window, which is 10 s unless set otherwise.

    Attributes:
        bytes_received: Bytes of headers and bodies since it opened.
    """

    def __init__(self, endpoint: Endpoint, *, answer_timeout: float) -> None:
        self.bytes_received = 0
        self._endpoint, self._answer_timeout = endpoint, answer_timeout
        self._url = endpoint.longpoll_url()
        self._poll_headers = {"Accept": JSON}
        if endpoint.auth_token is not None:
            self._poll_headers["X-Phoenix-AuthToken"] = _header_value(endpoint.auth_token)
        self._token: str | None = None
        self._http = aiohttp.ClientSession(
            connector=_connector(endpoint),
            headers=endpoint.longpoll_headers(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            middlewares=(_send_once,),
            proxy=_http_proxy(endpoint),
        )

    async def open(self, connect_timeout: float) -> None:
        """
        Get a token.

        Args:
            connect_timeout: Seconds for the name, TCP, TLS and the answer together.

        Raises:
            ConnectError: If there is none; see `rig.transport.longpoll.dial_longpoll` for which one means what.

        Source: Phoenix.Transports.LongPoll `new_session`.
        """
        url = self._endpoint.longpoll_display
        try:
            async with asyncio.timeout(connect_timeout):
                answer = await self._request("GET", self._poll_headers)
        except _AnswerTooLarge:
            raise NotLongPoll(url, "its answer is too large") from None
        except _RequestFailed as exc:
            # What aiohttp raises carries the URL with its connect params, or the proxy's with its password: it is not kept.
            raise _not_opened(self._endpoint, exc.cause) from getattr(exc.cause, "os_error", None)
        except TimeoutError as exc:
            raise ConnectTimeout(url, connect_timeout) from exc
        if self._endpoint.via is not None and answer.status == WANTS_CREDENTIALS:
            raise ProxyFailed(self._endpoint.via.display, status_refused(self._endpoint.via, answer.status))
        body = read_body(answer)
        status = answer.status if body is None or answer.status != 200 else body.status
        if status in (401, 403):
            raise AuthenticationRefused(url, status, retry_after=answer.retry_after)
        if answer.status != 200:
            raise HandshakeRefused(url, status, retry_after=answer.retry_after)
        if body is None:
            raise NotLongPoll(url, "its answer is not what Phoenix says")
        if status != 410:
            raise HandshakeRefused(url, status) if status >= 400 else NotLongPoll(url, f"it opened no session, but said {status}")
        if not body.token:
            raise NotLongPoll(url, "its answer has no token")
        self._token, self.bytes_received = body.token, 0

    async def poll(self) -> list[bytes] | Closed:
        """
        Wait for messages, and return them in order: none when the server's window ended, or how the session did.

        A binary message comes as `BinaryFrame`. Phoenix puts its bytes into the JSON as they are, so that only those arrive
        that are UTF-8; of others it makes HTTP 500, and they are lost with everything beside them.

        Source: Phoenix.Transports.LongPoll `listen`; phoenix.js `LongPoll.poll`.
        """
        answer = await self._ask("GET", self._poll_headers, what="poll")
        if isinstance(answer, Closed):
            return answer
        body = read_body(answer)
        if body is None:
            return Closed(UNREADABLE, "a poll was answered with what is no answer of Phoenix")
        self._token = body.token or self._token
        match body.status:
            case 200 | 204:
                return body.frames()
            case status:
                return ended(status, "poll")

    async def post(self, body: bytes, content_type: str) -> Closed | None:
        """
        Send frames, and return when the server has acted on them: None, or how the session ended.

        Args:
            body: Lines for `NDJSON`, one frame for `JSON`.
            content_type: One of the two.

        Source: Phoenix.Transports.LongPoll `publish`; phoenix.js `LongPoll.batchSend`.
        """
        answer = await self._ask("POST", {"Accept": JSON, "Content-Type": content_type}, what="POST", body=body)
        if isinstance(answer, Closed):
            return answer
        read = read_body(answer)
        if read is None:
            return Closed(UNREADABLE, "a POST was answered with what is no answer of Phoenix")
        return None if read.status == 200 else ended(read.status, "POST")

    async def close(self) -> None:
        """Close the connections. The server is not told: it forgets a session that is not polled for 1.5 windows."""
        await self._http.close()

    async def _ask(self, method: str, headers: dict[str, str], *, what: str, body: bytes | None = None) -> Answer | Closed:
        try:
            async with asyncio.timeout(self._answer_timeout):
                answer = await self._request(method, headers, body)
        except TimeoutError:
            return Closed(ABNORMAL, f"no answer to a {what} within {self._answer_timeout:g} s")
        except _RequestFailed as exc:
            return Closed(ABNORMAL, f"a {what} failed: {_reason(exc.cause)}")
        except _AnswerTooLarge:
            return Closed(TOO_LARGE, f"an answer is larger than {_LARGEST_ANSWER_BYTES} bytes")
        return answer if answer.status == 200 else ended(answer.status, what)

    async def _request(self, method: str, headers: dict[str, str], body: bytes | None = None) -> Answer:
        url = self._url
        if self._token is not None:
            headers = {**headers, "X-Phoenix-Longpoll-Token": self._token}
            # At the end: of two parameters with one name Phoenix takes the last, and a connect param may be called token, too.
            url = f"{url}&token={quote(self._token, safe='')}"
        try:
            async with self._http.request(
                method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
            ) as response:
                self.bytes_received += sum(len(name) + len(value) + 4 for name, value in response.raw_headers)
                waits = response.headers.get("Retry-After")
                retry_after = parse_retry_after(waits, now=datetime.now(UTC)) if waits else None
                self._forget_cookies()
                return Answer(response.status, await self._body(response), retry_after)
        except (aiohttp.ClientError, *_PROXY_ERRORS) as exc:
            raise _RequestFailed(exc) from exc

    def _forget_cookies(self) -> None:
        """Keep the few that lead to the same server again, and not what a server makes up without end."""
        jar = self._http.cookie_jar
        if sum(1 for _ in jar) > _MOST_COOKIES:
            jar.clear()

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_any():
            self.bytes_received += len(piece)
            body += piece
            if len(body) > _LARGEST_ANSWER_BYTES:
                raise _AnswerTooLarge
        return bytes(body)


def _connector(endpoint: Endpoint) -> aiohttp.TCPConnector:
    """Make what opens the connections: the one place that decides on TLS and on a SOCKS proxy."""
    tls = endpoint.ssl_context() or True
    if endpoint.via is not None and endpoint.via.scheme != "http":
        return ProxyConnector.from_url(endpoint.via.url, rdns=True, ssl=tls, keepalive_timeout=_KEEP_ALIVE)
    return aiohttp.TCPConnector(ssl=tls, keepalive_timeout=_KEEP_ALIVE)


def _http_proxy(endpoint: Endpoint) -> str | None:
    # aiohttp's own: python-socks takes the first piece of the answer to CONNECT for the whole. Without TLS the proxy is asked for
    # the URL itself, which is what proxies let through that allow CONNECT to port 443 only.
    return endpoint.proxy_url() if endpoint.via is not None and endpoint.via.scheme == "http" else None


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise _RequestFailed(exc) from exc


def _not_opened(endpoint: Endpoint, exc: Exception) -> ConnectError:
    """Translate what aiohttp and the proxy say when no answer came."""
    via = endpoint.via
    of_tls = (getattr(exc, "certificate_error", None), getattr(exc, "os_error", None), exc.__cause__)
    fault = next((error for error in of_tls if isinstance(error, ssl.SSLError)), None)
    if fault is not None:
        return handshake_failed(endpoint, fault)
    if via is not None and isinstance(exc, aiohttp.ClientHttpProxyError):
        return ProxyFailed(via.display, status_refused(via, exc.status))
    if via is not None and isinstance(exc, aiohttp.ClientProxyConnectionError):
        return ProxyFailed(via.display, os_reason(exc.os_error))
    if via is not None and isinstance(exc, _PROXY_ERRORS):
        return ProxyFailed(via.display, str(exc))
    if isinstance(exc, aiohttp.ClientConnectorError):
        reset = endpoint.secure and isinstance(exc.os_error, ConnectionResetError)
        return handshake_failed(endpoint, exc.os_error) if reset else connect_failed(endpoint, exc.os_error)
    return NotLongPoll(endpoint.longpoll_display, _reason(exc))


def _reason(exc: Exception) -> str:
    """Say in a few words what happened. Never what aiohttp says of an answer: that holds the URL, with its token."""
    match exc:
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed without an answer"
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case aiohttp.ClientHttpProxyError(status=status):
            return f"the proxy answered HTTP {status}"
        case aiohttp.ClientPayloadError():
            return "the answer broke off"
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP"
        case _:
            return type(exc).__name__


def _header_value(token: str) -> str:
    if not token.isprintable():
        raise ConfigError("the token holds a control character, which no header can carry: check where it comes from")
    return token
