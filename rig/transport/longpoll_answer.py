"""
What the answers of a long-poll session mean.

Phoenix answers HTTP 200 to almost everything; the status that counts is in the JSON body. Nothing in a body is trusted: what is
no answer of Phoenix is no answer, and a token that could not be sent back as it is, in a header and in a URL, is none.

Source: Phoenix.Transports.LongPoll; phoenix.js `LongPoll`; `tests/golden/*longpoll*.json`.
"""

from typing import Annotated, NamedTuple

import msgspec

from rig.phoenix.message import BinaryFrame
from rig.transport.base import Closed
from rig.transport.close_codes import INTERNAL_ERROR

SESSION_GONE = 3410
UNREADABLE, TOO_LARGE = 1007, 1009

_POLICY_VIOLATION, _TRY_LATER = 1008, 1013
_BINARY_KINDS = ("\x00", "\x01", "\x02")  # push, reply, broadcast: no JSON text begins so

SessionToken = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{0,4096}\Z")]
"""Signed by Phoenix and no more than some hundred characters; it travels in a header and in the URL of every request."""


class Body(msgspec.Struct):
    """What an answer holds."""

    status: int
    token: SessionToken | None = None
    messages: list[str] = []

    def frames(self) -> list[bytes]:
        """Return the messages as the frames that they are, in order."""
        return [_frame(message) for message in self.messages]


class Answer(NamedTuple):
    """An answer as HTTP sees it."""

    status: int
    body: bytes
    retry_after: float | None


def read_body(answer: Answer) -> Body | None:
    """
    Read what an answer holds, None if it is no answer of Phoenix.

    Raises:
        Nothing.
    """
    try:
        return msgspec.json.decode(answer.body, type=Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def ended(status: int, what: str) -> Closed:
    """
    Say what a status means for the session: that of the body, or of HTTP where that is not 200.

    Args:
        status: Another one than those of a session that goes on.
        what: What it answers, `poll` or `POST`.

    Raises:
        Nothing.
    """
    match status:
        case 410:
            return Closed(SESSION_GONE, "session_gone")
        case 401 | 403:
            return Closed(_POLICY_VIOLATION, "forbidden")
        case 413:
            return Closed(TOO_LARGE, f"a {what} was too large")
        case 429 | 503:
            return Closed(_TRY_LATER, f"the server is busy ({status})")
        case 408:
            return Closed(INTERNAL_ERROR, f"the server did not get a {what} done in time (408)")
        case _:
            return Closed(INTERNAL_ERROR, f"a {what} was answered with {status}")


def _frame(message: str) -> bytes:
    return BinaryFrame(message.encode()) if message.startswith(_BINARY_KINDS) else message.encode()
