"""
Every exception that rig raises on purpose, in one tree.

    RigError                        what a user may want to catch
    ├── ConfigError                 an option, an environment variable or a key in rig.toml is wrong
    ├── AppError                    the application cannot be loaded or does not fit
    │   ├── HandlerSignatureError   a handler or a callback takes the wrong parameters
    │   └── StateDirectoryUnusable  the state directory cannot be made or written to
    │       └── StateDirectoryBusy  … because another run has it
    ├── ConnectError                no connection came about
    │   ├── ConnectFailed           no TCP connection: the host cannot be reached
    │   │   ├── HostNotFound        … because its name is not known
    │   │   └── ConnectRefused      … because nothing listens on the port
    │   ├── ConnectTimeout          not done within the connect time-out
    │   ├── ProxyFailed             the proxy cannot be reached, or does not let us through
    │   ├── TlsFailed               the certificate or the TLS handshake was refused
    │   │   └── PinMismatch         … because the certificate is not the pinned one
    │   ├── TokenUnavailable        the provider has no token to connect with
    │   │   └── TokenMissing        … and says that there is none: nobody is signed in
    │   ├── NotWebSocket            something answered that does not speak WebSocket
    │   ├── NotLongPoll             something answered that does not speak Phoenix's long-poll
    │   ├── NoEndpoint              none of several endpoints took us
    │   └── HandshakeRefused        the server answered the upgrade with an HTTP error
    │       ├── AuthenticationRefused   … with 401 or 403
    │       └── RedirectRefused         … with a redirect that is not followed
    ├── AuthenticationFailed        the server does not accept our token, and the run is to end for it
    ├── NoRun                       no run answers on the admin socket
    ├── HandOverFailed              no second connection took the place of the first, which stays
    ├── TokenNotStored              the keyring or the folder did not take, or give up, a token
    ├── StoreFailed                 the store did not take it: disk full, file damaged, not writable
    │   ├── StoreUnusable           … and never will: it is no database that this rig can read
    │   └── OutboxFull              … because the outbox holds as much as it may
    ├── ConnectionLost              the connection ended while something waited for it
    ├── JoinRefused, JoinTimeout    a join was answered with an error, or not at all
    ├── PushRefused, PushTimeout    a push was answered with an error, or not at all
    ├── PingTimeout                 a ping was not answered
    ├── RingFull                    the consumer of a ring has not freed enough room
    ├── LocalProtocolError          we broke the protocol: a bug in rig or in the calling code
    └── RemoteProtocolError         the peer broke the protocol: counted and survived, never fatal

The message of each is a sentence that says what to do. `exit_code` is what the command line ends with.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar


class RigError(Exception):
    """The root of the tree."""

    exit_code: ClassVar[int] = 1


class ConfigError(RigError):
    """A setting is unknown or has a value that cannot be used."""

    exit_code = 2


class AppError(RigError):
    """The application cannot be imported, found or run."""

    exit_code = 3


class HandlerSignatureError(AppError):
    """A handler or a callback does not take what it is called with."""


class StateDirectoryUnusable(AppError):
    """The state directory cannot be made, is not ours, or cannot be written to."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"the state directory {path} cannot be used ({reason}): make it writable, or name another with --state-dir"
        )


class StateDirectoryBusy(StateDirectoryUnusable):
    """Another run has the state directory. `holder` is its process number as text, empty if it is not known."""

    def __init__(self, path: str, holder: str) -> None:
        self.path, self.holder, self.reason = path, holder, "another run has it"
        process = f" (process {holder})" if holder else ""
        AppError.__init__(
            self,
            f"another rig run{process} uses the state directory {path}: end that one, or give this one its own with --state-dir",
        )


class StoreFailed(RigError):
    """The store did not take or give what it was asked for; nothing of that was stored. `reason` says why."""

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        self.path, self.reason, self.remedy = path, reason, remedy
        super().__init__(f"{path} failed ({reason}): {remedy}")


class StoreUnusable(StoreFailed):
    """The file is no database, damaged, or written by another program or a newer rig: it does not get well by itself."""


class OutboxFull(StoreFailed):
    """The outbox holds as much as it may: the push was not stored."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            path,
            f"the outbox has reached its limit of {limit_bytes} bytes",
            "wait until the server has taken some, purge what is not wanted with rig outbox purge, or raise --outbox-max-bytes",
        )


class ConnectError(RigError):
    """No connection came about. `retry_after` is what the server asked for, in seconds, or None."""

    retry_after: float | None = None


class ConnectFailed(ConnectError):
    """No TCP connection: the name is unknown, the port is closed, the host cannot be reached."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host, self.port, self.reason = host, port, reason
        super().__init__(f"cannot reach {host}:{port} ({reason}): check the address, and that the server is running")


class HostNotFound(ConnectFailed):
    """The host's name is not known, or nobody could be asked."""


class ConnectRefused(ConnectFailed):
    """The host is there, and nothing listens on the port."""


class ConnectTimeout(ConnectError):
    """The connection was not ready in time."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self.seconds = url, seconds
        super().__init__(f"no answer from {url} within {seconds:g} s: check address and network, or raise --connect-timeout")


class TlsFailed(ConnectError):
    """The TLS handshake failed, most often because the certificate is not trusted."""

    def __init__(self, host: str, reason: str) -> None:
        self.host, self.reason = host, reason
        super().__init__(
            f"TLS with {host} failed ({reason}): name the authority that signed the certificate with --ca, "
            "or check that the port speaks TLS"
        )


class PinMismatch(TlsFailed):
    """The server's certificate is none of those that are pinned."""

    def __init__(self, host: str, pin: str) -> None:
        self.host, self.pin, self.reason = host, pin, "the certificate is not the pinned one"
        ConnectError.__init__(
            self,
            f"the certificate of {host} is not the pinned one: if it was renewed on purpose, pin it with --pin {pin}; "
            "else somebody stands between",
        )


class ProxyFailed(ConnectError):
    """The proxy cannot be reached, or refuses to connect us. `proxy` is its URL without the password."""

    def __init__(self, proxy: str, reason: str) -> None:
        self.proxy, self.reason = proxy, reason
        super().__init__(f"the proxy {proxy} did not let us through ({reason}): check --proxy, and user and password in it")


class TokenUnavailable(ConnectError):
    """The provider of `--auth` has no token. `provider` names it, never with a secret."""

    exit_code = 4

    def __init__(self, provider: str, reason: str) -> None:
        self.provider, self.reason = provider, reason
        super().__init__(f"no token from {provider}: {reason}")


class TokenMissing(TokenUnavailable):
    """There is no token any more, or never was. One that was there before must not be sent again."""


class TokenNotStored(RigError):
    """A token could not be stored or deleted. `where` names the place."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where} did not do it ({reason}): make it usable and try again")


class NotWebSocket(ConnectError):
    """The peer answered, but not with a WebSocket handshake."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(f"{url} does not speak WebSocket ({reason}): check host, port and path, mostly /socket")


class NotLongPoll(ConnectError):
    """The peer answered, but not as Phoenix's long-poll does."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(
            f"{url} does not speak Phoenix's long-poll ({reason}): check host, port and path, "
            "and that the socket is declared with longpoll: true"
        )


class HandshakeRefused(ConnectError):
    """The server answered the upgrade request with an HTTP status other than 101."""

    def __init__(self, url: str, status: int, *, retry_after: float | None = None) -> None:
        self.url, self.status, self.retry_after = url, status, retry_after
        super().__init__(f"{url} answered HTTP {status}: {_remedy(status)}")


class AuthenticationRefused(HandshakeRefused):
    """The server answered 401 or 403. Phoenix also answers 403 to a wrong `vsn` or origin."""

    exit_code = 4


class RedirectRefused(HandshakeRefused):
    """The server answered with a redirect that would give up TLS, leave the host with a secret, or never end."""

    def __init__(self, url: str, status: int, target: str, reason: str) -> None:
        self.url, self.status, self.target, self.reason = url, status, target, reason
        ConnectError.__init__(self, f"{url} redirects to {target}, which is not followed: {reason}")


class AuthenticationFailed(RigError):
    """The server did not accept a fresh token either, and `--auth-failure exit` ends the run for it."""

    exit_code = 4

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the run has ended because of --auth-failure exit: {reason}")


class NoEndpoint(ConnectError):
    """
    None of several endpoints took us.

    Attributes:
        reasons: For each its URL, with secrets masked, and what kept us from it.
        decisive: The error that says what to do about it: a refused token before anything else.
    """

    def __init__(self, reasons: Sequence[tuple[str, str]], decisive: RigError, *, retry_after: float | None = None) -> None:
        self.reasons, self.decisive, self.retry_after = reasons, decisive, retry_after
        self.exit_code = decisive.exit_code  # type: ignore[misc]
        each = "; ".join(f"{url}: {reason}" for url, reason in reasons)
        super().__init__(f"none of {len(reasons)} endpoints took us: {each}")


class HandOverFailed(RigError):
    """No second connection took the place of the first, which stays as it is. `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the connection stays as it is, and was not handed over: {reason}")


class NoRun(RigError):
    """No run answers on the admin socket of a state directory."""


class ConnectionLost(RigError):
    """The connection ended before the answer came; whether the server acted is unknown."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the connection was lost ({reason}): whether the server acted is unknown; try again")


class JoinRefused(RigError):
    """The server answered a join with an error. `response` is what it said."""

    def __init__(self, topic: str, response: Any) -> None:
        self.topic, self.response = topic, response
        super().__init__(f"the server refused to join {topic!r} with {response!r}: check the topic, the join payload and the token")

    @property
    def unauthorized(self) -> bool:
        """True if the response says that it is about the token or the rights, see `says_unauthorized`."""
        return says_unauthorized(self.response)


class JoinTimeout(RigError):
    """The server did not answer a join in time."""

    def __init__(self, topic: str, seconds: float) -> None:
        self.topic, self.seconds = topic, seconds
        super().__init__(f"no answer to the join of {topic!r} within {seconds:g} s: the server may be overloaded")


class PushRefused(RigError):
    """The server answered a push with a status other than ok."""

    def __init__(self, topic: str, event: str, status: str, response: Any) -> None:
        self.topic, self.event, self.status, self.response = topic, event, status, response
        super().__init__(f"the server answered {event!r} on {topic!r} with {status}: {response!r}")


class PushTimeout(RigError):
    """The server did not answer a push in time; whether it acted is unknown."""

    def __init__(self, topic: str, event: str, seconds: float) -> None:
        self.topic, self.event, self.seconds = topic, event, seconds
        super().__init__(
            f"no reply to {event!r} on {topic!r} within {seconds:g} s: the server may not reply to this event; "
            "push it without waiting for a reply, or raise the time-out"
        )


class PingTimeout(RigError):
    """The server did not answer a ping in time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"no answer to a ping within {seconds:g} s: the server is busy or the link is cut; try again")


class RingFull(RigError):
    """A record does not fit until the consumer commits."""


class LocalProtocolError(RigError):
    """A call that the protocol does not allow in this state."""


class RemoteProtocolError(RigError):
    """A frame that no Phoenix server would send."""


_UNAUTHORIZED = re.compile(
    r"""(\w+:\ )?((you|user|client)\ (are|is)\ )?(
        (unauthori[sz]ed|unauthenticated|forbidden|not\ (authori[sz]ed|authenticated)|(access|permission)\ denied)\b
        | authentication\ (failed|required|error)\b | authori[sz]ation\ (failed|required|error)\b
        | (
            (invalid|expired|bad|malformed|missing|revoked)\ ?((access|auth|bearer|id|user)\ )?(jwt\ ?token|token|jwt|credentials)
            | (the\ )?((access|auth|bearer|id|user)\ )?(token|jwt|credentials|signature)\ ((is|are|has|have|was)\ )?
              (expired|invalid|not\ valid|malformed|missing|revoked|required)
            | invalid\ signature | no\ token
          )(?!\w|\ (?!at\b|on\b|since\b|given\b|provided\b|\d))
    )""",
    re.VERBOSE,
)
_LONGEST_REASON = 200


def says_unauthorized(response: Any) -> bool:
    """
    Return True if the answer to a join says that it is about the token or the rights, as its `reason` or alone.

    Phoenix has no code for it, so that each server has words of its own: `unauthorized`, `token_expired`, `Invalid token: …`. What
    else can expire or be invalid, such as a room, does not count: to fetch a token would not help, and the slow lane would hurt.
    """
    reason = response.get("reason") if isinstance(response, dict) else response
    if not isinstance(reason, str):
        return False
    words = " ".join(re.split(r"[\s_-]+", reason[:_LONGEST_REASON].strip().lower()))
    return _UNAUTHORIZED.match(words) is not None


def _remedy(status: int) -> str:
    match status:
        case 401 | 403:
            return "check the token and the connect params, and that the server accepts this vsn and origin"
        case 404:
            return "check the path; a Phoenix socket is mostly at /socket"
        case 429 | 503:
            return "the server is busy; it is tried again later"
        case _ if status >= 500:
            return "the server failed; see its log"
        case _:
            return "check that the URL is that of a Phoenix socket"
