"""
How long to wait before trying again. Pure: the caller brings the randomness.

Full jitter: the wait is uniform between zero and a ceiling that doubles, so that clients cut off together do not come
back together. Some causes put a floor under it.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

Random = Callable[[], float]
"""Returns a float in [0, 1), as `random.random` does."""


class Cause(StrEnum):
    """Why there is no connection. The values are metric labels and log fields."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TLS = "tls"
    PROXY = "proxy"
    NO_TOKEN = "no_token"  # noqa: S105 - a label
    NOT_WEBSOCKET = "not_websocket"
    HTTP_ERROR = "http_error"
    UNAUTHORIZED = "unauthorized"
    BUSY = "busy"
    HEARTBEAT_LOST = "heartbeat_lost"
    SERVER_CLOSED = "server_closed"
    LINK_LOST = "link_lost"
    REQUESTED = "requested"


FLOORS: Mapping[Cause, float] = {Cause.BUSY: 30.0, Cause.UNAUTHORIZED: 60.0}
"""The least wait in seconds, by cause."""


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


def reconnect_delay(attempt: int, cause: Cause, random: Random, *, retry_after: float | None = None) -> float:
    """
    Return the wait in seconds before the next connection attempt.

    The first wait is spread over a whole second, because a server that restarts cuts all its clients in one moment.

    Args:
        attempt: How many waits came before this one, since the connection was last well.
        cause: What ended the connection or kept it from coming about.
        random: The source of randomness.
        retry_after: Seconds that the server asked for (`Retry-After`).
    """
    delay = random() if attempt == 0 else full_jitter(attempt, random)
    floor = FLOORS.get(cause, 0.0) if retry_after is None else max(0.0, retry_after)
    return floor + delay


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
            return FLOORS[Cause.UNAUTHORIZED] + full_jitter(attempt, random, base=1.0)


def restart_delay(deaths: int) -> float:
    """Return the wait in seconds before a process that died is started again; `deaths` of it in a row, 1 for the first."""
    return float(min(30.0, 0.1 * 2.0 ** min(deaths - 1, 60)))
