"""
How long to wait before trying again. Pure: the caller brings the randomness.

Full jitter: the wait is uniform between zero and a ceiling that doubles, so that clients cut off together do not come
back together. Some causes put a floor under it.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

Random = Callable[[], float]
"""Returns a float in [0, 1), as `random.random` does."""


class Cause(StrEnum):
    """Why there is no connection. The values are metric labels and log fields."""

    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TLS = "tls"
    PROXY = "proxy"
    NO_TOKEN = "no_token"  # noqa: S105 - a label
    NOT_WEBSOCKET = "not_websocket"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    UNAUTHORIZED = "unauthorized"
    BUSY = "busy"
    HEARTBEAT_LOST = "heartbeat_lost"
    DRAINING = "draining"
    POLICY_VIOLATION = "policy_violation"
    SERVER_CLOSED = "server_closed"
    LINK_LOST = "link_lost"
    REQUESTED = "requested"


@dataclass(frozen=True, slots=True)
class Rule:
    """
    What follows from a cause.

    Attributes:
        floor: Seconds that every wait is at least; a server's `Retry-After` takes its place.
        first: Seconds over which the first wait is spread, above the floor.
        loud: True if it mostly stays until somebody does something about it: the log says so as an error.
    """

    floor: float = 0.0
    first: float = 1.0
    loud: bool = False


RULES: Mapping[Cause, Rule] = {
    Cause.DNS: Rule(),
    Cause.REFUSED: Rule(),
    Cause.UNREACHABLE: Rule(),
    Cause.TIMEOUT: Rule(),
    Cause.TLS: Rule(floor=5.0, loud=True),
    Cause.PROXY: Rule(),
    Cause.NO_TOKEN: Rule(loud=True),
    Cause.NOT_WEBSOCKET: Rule(),
    Cause.HTTP_4XX: Rule(floor=5.0, loud=True),
    Cause.HTTP_5XX: Rule(),
    Cause.UNAUTHORIZED: Rule(floor=60.0, loud=True),
    Cause.BUSY: Rule(floor=30.0),
    Cause.HEARTBEAT_LOST: Rule(),
    Cause.DRAINING: Rule(),
    Cause.POLICY_VIOLATION: Rule(floor=60.0, loud=True),
    Cause.SERVER_CLOSED: Rule(),
    Cause.LINK_LOST: Rule(),
    Cause.REQUESTED: Rule(first=0.25),
}
"""A server that restarts cuts all its clients in one moment, so the first wait is mostly spread over a whole second."""


class Decision(NamedTuple):
    """
    What happens next, after a connection ended or did not come about.

    Attributes:
        what: In words, for a log line.
        delay: Seconds until the next attempt.
    """

    what: str
    delay: float


END = "end"
"""The decision where no attempt follows, because the owner has closed."""


def full_jitter(attempt: int, random: Random, *, base: float = 0.25, cap: float = 30.0) -> float:
    """
    Return a wait in seconds, uniform in [0, min(cap, base · 2^attempt)).

    Args:
        attempt: 0 for the first wait.
        random: The source of randomness.
        base: Seconds, the ceiling of the first wait.
        cap: Seconds, the highest ceiling.
    """
    return min(cap, base * 2.0 ** min(attempt, 60)) * random()


def decide(attempt: int, cause: Cause, random: Random, *, retry_after: float | None = None) -> Decision:
    """
    Say when the next connection attempt follows, and by which rule.

    Args:
        attempt: How many waits came before this one, since the connection was last well.
        cause: What ended the connection or kept it from coming about.
        random: The source of randomness.
        retry_after: Seconds that the server asked for (`Retry-After`).
    """
    rule = RULES[cause]
    jitter = rule.first * random() if attempt == 0 else full_jitter(attempt, random)
    if retry_after is not None:
        return Decision("reconnect when the server asked to", max(0.0, retry_after) + jitter)
    return Decision("reconnect slowly" if rule.floor else "reconnect", rule.floor + jitter)


def rejoin_delay(attempt: int, random: Random, *, unauthorized: int = 0) -> float:
    """
    Return the wait in seconds before a refused or crashed channel is joined again.

    The first refusal as unauthorised may only mean that the token is too old: it is tried again soon, after a second in which
    the caller can get a fresh one. If that is no better, the slow lane follows.

    Args:
        attempt: 0 for the first wait.
        random: The source of randomness.
        unauthorized: How many times in a row the join was refused as unauthorised.
    """
    match unauthorized:
        case 0:
            return full_jitter(attempt, random, base=1.0)
        case 1:
            return 1.0 + random()
        case _:
            return RULES[Cause.UNAUTHORIZED].floor + full_jitter(attempt, random, base=1.0)


def restart_delay(deaths: int) -> float:
    """Return the wait in seconds before a process that died is started again; `deaths` of it in a row, 1 for the first."""
    return float(min(30.0, 0.1 * 2.0 ** min(deaths - 1, 60)))
