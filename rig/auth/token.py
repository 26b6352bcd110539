"""
A token, and until when it is good.

What must stay true: no text that this module makes has the token in it, neither a repr nor an error. A JWT is read, never
verified: that is the server's part, and here its claims only say when to ask for the next one.

Source: RFC 7519 sections 3 and 4.1.4 (JWT, `exp`), RFC 7515 section 2 (base64url without padding).
"""

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any

import msgspec

from rig.errors import TokenUnavailable


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """
    What proves who we are.

    Attributes:
        value: The secret itself.
        expires_at: Wall-clock seconds since 1970 from which on it is no longer good; None if nobody says.
    """

    value: str
    expires_at: float | None = None

    @classmethod
    def read(cls, text: str, *, provider: str, expires_at: float | None = None) -> "Token":
        """
        Check a token as a provider gave it. Blanks around it are left out, and a JWT's own `exp` counts if it is earlier.

        Args:
            text: The token.
            provider: Who gave it, for the message.
            expires_at: What the provider says about its end, in wall-clock seconds.

        Raises:
            TokenUnavailable: If nothing is left, or a character is in it that no token has.
        """
        value = text.strip()
        if not value:
            raise TokenUnavailable(provider, "what it gave is empty")
        if not value.isprintable():
            raise TokenUnavailable(
                provider, "what it gave has a line break or a control character in it: let it give the token alone"
            )
        ends = [end for end in (expires_at, expiry(claims(value))) if end is not None]
        return cls(value, min(ends, default=None))

    def expired(self, now: float) -> bool:
        """Say if it is no longer good at `now`, in wall-clock seconds."""
        return self.expires_at is not None and now >= self.expires_at

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at!r})"


def claims(value: str) -> dict[str, Any]:
    """
    Return what a JWT says, unverified; nothing if it is none.

    Raises:
        Nothing.

    Source: RFC 7519 section 7.2.
    """
    parts = value.split(".")
    if len(parts) != 3:
        return {}
    try:
        payload = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        decoded = msgspec.json.decode(payload)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def expiry(claims: dict[str, Any]) -> float | None:
    """
    Return the claim `exp` in wall-clock seconds, None if there is none that makes sense.

    Raises:
        Nothing.
    """
    exp = claims.get("exp")
    if isinstance(exp, bool) or not isinstance(exp, int | float):
        return None
    try:
        seconds = float(exp)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None
