"""
The endpoints of one server or cluster, in order of preference, and how each has been of late.

What must stay true: an attempt leaves out no endpoint that may be asked, so that it fails only if all do; one that failed lately
comes behind those that did not, for a time that doubles with each failure; one that refused the token, or asked for time, is left
alone until that time is over; with a single endpoint there is nothing to choose, and it is always asked.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from rig.backoff import RULES, Cause
from rig.config import Settings
from rig.errors import AuthenticationRefused, ConfigError, ConnectError, HandshakeRefused, NoEndpoint, RigError, TokenUnavailable
from rig.log import Throttle
from rig.transport import Endpoint, Transport, TransportOwner

_FIRST_REST, _LONGEST_REST = 5.0, 60.0
_WELL_AFTER = 30.0
"""Seconds that a connection must have lasted for its end to count as the first failure."""
_BUSY = (429, 503)
_STAY_AWAY = {1008: RULES[Cause.POLICY_VIOLATION].floor, 1013: RULES[Cause.BUSY].floor}
"""Close code → seconds for which a server is left alone."""

_warned = Throttle(math.inf)

Clock = Callable[[], float]

log = structlog.get_logger()


class Choice(Protocol):
    """What picks the transport; `rig.transport` has it."""

    @property
    def fallback(self) -> str:
        """Why the transport that was taken last is not of the kind that was wanted; empty if it is."""

    async def dial(self, endpoint: Endpoint, owner: TransportOwner, *, connect_timeout: float, max_frame_bytes: int) -> Transport:
        """
        Return an open transport.

        Raises:
            ConnectError: If there is none.
        """


@dataclass(frozen=True, slots=True)
class Health:
    """
    How an endpoint has been, for people.

    Attributes:
        url: Where it is, with secrets masked.
        failures: In a row; 0 for one that is well, or was never asked.
        reason: What the latest of them was.
        rest: Seconds for which the others come first.
        barred: True if it is not asked at all meanwhile.
    """

    url: str
    failures: int
    reason: str
    rest: float
    barred: bool


class Candidate:
    """
    One endpoint, what its network has taught, and how it has been.

    Attributes:
        endpoint: Where it is.
        choice: Which transport is taken there.
        error: Why there is no connection to it, None if the latest attempt succeeded.
        reason: What its latest failure was, an end of a connection included; empty if there was none.
    """

    def __init__(self, endpoint: Endpoint, choice: Choice, *, clock: Clock = time.monotonic) -> None:
        self.endpoint, self.choice, self._clock = endpoint, choice, clock
        self.error: RigError | None = None
        self.reason = ""
        self._failures = 0
        self._rests_until = self._barred_until = self._opened_at = clock()

    def opened(self) -> None:
        """Note that a connection came about."""
        self.error = None
        self._opened_at = self._rests_until = self._barred_until = self._clock()

    def failed(self, error: RigError) -> None:
        """Note that none came about."""
        self.error = error
        self._rest(str(error), _time_asked_for(error))

    def lost(self, reason: str, code: int | None) -> None:
        """Note that a connection ended that nobody here asked to end: the server drains, restarts, or cannot be reached."""
        if self._clock() - self._opened_at >= _WELL_AFTER:
            self._failures = 0
        self._rest(reason, _STAY_AWAY.get(code, 0.0) if code is not None else 0.0)

    @property
    def rest(self) -> float:
        """Seconds for which others come first."""
        return max(0.0, self._rests_until - self._clock())

    @property
    def barred(self) -> float:
        """Seconds for which it is to be left alone."""
        return max(0.0, self._barred_until - self._clock())

    @property
    def health(self) -> Health:
        """How it has been."""
        well = self.error is None and not self.rest
        return Health(self.endpoint.display, 0 if well else self._failures, "" if well else self.reason, self.rest, self.barred > 0)

    def _rest(self, reason: str, asked_for: float) -> None:
        self.reason, now = reason, self._clock()
        self._failures += 1
        self._barred_until = now + asked_for
        self._rests_until = now + max(asked_for, min(_FIRST_REST * 2.0 ** min(self._failures - 1, 8), _LONGEST_REST))


class Endpoints:
    """All candidates, the preferred one first."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.all = tuple(candidates)

    @property
    def first(self) -> Candidate:
        """The one to be at, if it is well."""
        return self.all[0]

    def order(self, among: Sequence[Candidate] | None = None) -> list[Candidate]:
        """
        Return which to ask now, and in which order: those that rest come last, the one whose rest ends first before the others.

        Those that are barred are left out, unless all are: then it is the one that may be asked first.

        Args:
            among: Only these, all if None.
        """
        among = self.all if among is None else among
        free = [candidate for candidate in among if not candidate.barred]
        return sorted(free, key=lambda candidate: candidate.rest) or [min(among, key=lambda candidate: candidate.barred)]

    def better_than(self, candidate: Candidate) -> list[Candidate]:
        """Return those that are preferred to this one."""
        return list(self.all[: self.all.index(candidate)])

    def another_is_well(self, than: Candidate) -> bool:
        """Return True if there is one beside this that did not fail lately."""
        return any(not candidate.rest for candidate in self.all if candidate is not than)

    def failure(self, among: Sequence[Candidate] | None = None) -> RigError:
        """
        Return the error of an attempt in which none took us.

        It is that of the one endpoint where there was one to choose. Else it names each, and the most telling decides what follows.
        Where one is to be left alone, the next attempt is due when the first of all may be asked.

        Args:
            among: Those that there were to choose from, all if None.
        """
        among = self.all if among is None else among
        errors = [candidate.error for candidate in among if candidate.error is not None]
        if len(among) == 1:
            return errors[0]
        decisive = next((error for error in errors if isinstance(error, AuthenticationRefused | TokenUnavailable)), errors[0])
        waits = [candidate.barred for candidate in among]
        reasons = [(candidate.endpoint.display, candidate.reason) for candidate in among]
        return NoEndpoint(reasons, decisive, retry_after=min(waits) if any(waits) else None)


def _time_asked_for(error: RigError) -> float:
    """Return the seconds for which a server is to be left alone after this."""
    if not isinstance(error, ConnectError):
        return 0.0
    if error.retry_after is not None:
        return error.retry_after
    match error:
        case AuthenticationRefused():
            return RULES[Cause.UNAUTHORIZED].floor
        case HandshakeRefused(status=status) if status in _BUSY:
            return RULES[Cause.BUSY].floor
        case _:
            return 0.0


def endpoints_of(settings: Settings) -> list[Endpoint]:
    """
    Return where the settings lead, the preferred endpoint first.

    Raises:
        ConfigError: If there is none, a part cannot be used, or a secret would travel unencrypted to another host.
    """
    if not settings.url:
        raise ConfigError("there is no URL: name the server's socket with --url")
    return [
        Endpoint(
            url=url,
            params=settings.param,
            headers=settings.header,
            vsn=settings.vsn,
            ca_file=settings.ca,
            cert_file=settings.cert,
            key_file=settings.key,
            pins=settings.pin,
            proxy=settings.proxy,
            insecure=settings.insecure,
        )
        for url in dict.fromkeys(settings.url)
    ]


def warn_of_risk(endpoint: Endpoint, *, gives_tokens: bool) -> None:
    """Say once a process and server what `--insecure` has allowed."""
    if endpoint.exposed and (gives_tokens or endpoint.secrets()):
        risk = "secrets travel unencrypted to another host: anybody in between can read them"
    elif endpoint.secure and endpoint.insecure and not endpoint.pins:
        risk = "the server's certificate is not checked: anybody in between can read and change everything"
    else:
        return
    server = f"{endpoint.host}:{endpoint.port}"
    if _warned.allow((risk, server), 0.0) is not None:
        log.warning(risk, server=server, setting="insecure")
