"""
The codes with which a WebSocket ends, and which of them an endpoint may send.

Source: RFC 6455 section 7.4; the IANA registry of close codes (1012 to 1014).
"""

from rig.errors import LocalProtocolError

PROTOCOL_ERROR = 1002
CODE_MISSING = 1005
ABNORMAL = 1006
INTERNAL_ERROR = 1011

# Codes of which picows accepts one or the other, though they may not be on the wire; it refuses the rest below 3000 itself.
NEVER_SENT = frozenset((0, CODE_MISSING, ABNORMAL))
FIRST_TOO_LARGE = 5000

_MAY_BE_SENT = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, FIRST_TOO_LARGE)))


def check_close_code(code: int) -> None:
    """
    Let a code pass that an endpoint may send.

    Raises:
        LocalProtocolError: If it may not.
    """
    if code not in _MAY_BE_SENT:
        raise LocalProtocolError(f"the close code {code} may not be sent: use 1000, or one from 3000 to 4999")
