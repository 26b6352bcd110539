"""
When the server does not accept our token, although it is a fresh one: `--auth-failure retry` leaves it to the slow lane, `exit`
ends the run.

What must stay true: a token that was only too old ends nothing. HTTP 401 or 403 comes here after the dialler has tried a fresh
one; a join counts when it is refused for the second time in a row, and nobody is fetching a token for it.
"""

from collections.abc import Callable

from rig.backoff import Cause
from rig.phoenix import events

_REFUSALS = 2


class AuthFailure:
    """Watches one connection."""

    def __init__(self, mode: str, *, renewing: Callable[[], bool], give_up: Callable[[str], None]) -> None:
        """
        Remember what to do.

        Args:
            mode: "retry" or "exit".
            renewing: True while a token is fetched for a join that was refused, or a connection is made for it.
            give_up: Ends the run for a reason; called once.
        """
        self._exits, self._renewing, self._give_up = mode == "exit", renewing, give_up

    def note(self, event: events.Event) -> None:
        """Look at what happened; all but refusals are passed over."""
        if not self._exits:
            return
        match event:
            case events.SocketClosed(cause=Cause.UNAUTHORIZED, reason=reason):
                self._end(reason)
            case events.JoinRejected(topic=topic, response=response, refusals=refusals) if refusals >= _REFUSALS:
                if not self._renewing():
                    self._end(f"the server refuses to join {topic!r} with {response!r}: check the token and its rights")

    def _end(self, reason: str) -> None:
        self._exits = False
        self._give_up(reason)
