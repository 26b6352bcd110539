"""
The codes with which a WebSocket ends, and which of them may be on the wire.

Source: RFC 6455 section 7.4; the IANA registry of close codes (1012 to 1014).
"""

from rig.errors import LocalProtocolError

PROTOCOL_ERROR = 1002
CODE_MISSING = 1005
ABNORMAL = 1006
INVALID_TEXT = 1007
TOO_LARGE = 1009
INTERNAL_ERROR = 1011

ON_THE_WIRE = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))
"""The codes that a CLOSE frame may carry, in either direction."""


def check_close_code(code: int) -> None:
    """
    Let a code pass that an endpoint may send.

    Raises:
        LocalProtocolError: If it may not.
    """
    if code not in ON_THE_WIRE:
        raise LocalProtocolError(f"the close code {code} may not be sent: use 1000, or one from 3000 to 4999")
