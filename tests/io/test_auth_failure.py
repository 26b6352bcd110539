"""What `--auth-failure` makes of a token that is refused."""

import pytest

from rig.backoff import Cause
from rig.io.auth_failure import AuthFailure
from rig.phoenix import events

HTTP = events.SocketClosed(Cause.UNAUTHORIZED, None, "ws://h/socket answered HTTP 403", 60.0)
REASON = "the server refuses to join 'room:1' with {'reason': 'unauthorized'}: check the token and its rights"


def refused(refusals: int) -> events.Event:
    return events.JoinRejected("room:1", {"reason": "unauthorized"}, 60.0, True, refusals)


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        ([HTTP], [HTTP.reason]),
        ([HTTP, HTTP], [HTTP.reason]),
        ([refused(1)], []),
        ([refused(1), refused(2)], [REASON]),
        ([refused(2), HTTP], [REASON]),
        ([events.JoinRejected("room:1", {"reason": "full"}, 1.0)] * 3, []),
        ([events.SocketClosed(Cause.REFUSED, None, "refused", 1.0), events.SocketClosed(Cause.BUSY, None, "503", 30.0)], []),
    ],
)
def test_exit_ends_the_run_once_a_fresh_token_is_refused_too(happened: list[events.Event], expected: list[str]) -> None:
    """HTTP 401 or 403 at once, since the dialler has tried a fresh token; a join at its second refusal; anything else never."""
    given_up: list[str] = []
    watching = AuthFailure("exit", renewing=lambda: False, give_up=given_up.append)
    for event in happened:
        watching.note(event)

    assert given_up == expected


def test_a_join_that_is_refused_while_a_token_is_fetched_decides_nothing() -> None:
    """A provider may take longer than the second try; the one after the fresh token counts."""
    given_up: list[str] = []
    renewing = [True, False]
    watching = AuthFailure("exit", renewing=lambda: renewing.pop(0), give_up=given_up.append)
    watching.note(refused(2))
    assert given_up == []

    watching.note(refused(3))
    assert given_up == [REASON]


def test_retry_never_ends_the_run() -> None:
    """It is left to the slow lane."""
    given_up: list[str] = []
    watching = AuthFailure("retry", renewing=lambda: False, give_up=given_up.append)
    for event in (HTTP, refused(2), refused(9)):
        watching.note(event)

    assert given_up == []
