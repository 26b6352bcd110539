"""
Which tokens are still good: those that clients show when they connect, and those that name a long-poll session.

A session token is signed, so a token of a session that is long gone is told from one that never was.
Source: Phoenix.Token.
"""

import base64
import hashlib
import hmac
import os
import time

_PREFIX = "SFMyNTY"
_KEY = b"of a mock server, so that tokens outlive a restart as they do where the secret is configured"
_TIME_BYTES = 8
_RANDOM_BYTES = 49


class Tokens:
    """The tokens of one server."""

    def __init__(self) -> None:
        self._shown: set[str] = set()
        self._expired: set[str] = set()
        self._sessions_expired_at_ns = 0

    def show(self, token: str) -> bool:
        """Take a token that a client connects with; says whether it is still good."""
        self._shown.add(token)
        return token not in self._expired

    def expire(self) -> int:
        """Let every token expire that was ever shown, and that of every long-poll session; returns how many were shown."""
        fresh = len(self._shown - self._expired)
        self._expired |= self._shown
        self._sessions_expired_at_ns = time.time_ns()
        return fresh

    def sign_session(self) -> str:
        """Make the token of a new session."""
        data = _encode(time.time_ns().to_bytes(_TIME_BYTES, "big") + os.urandom(_RANDOM_BYTES))
        return f"{_PREFIX}.{data}.{_signature(data)}"

    def is_session(self, token: str) -> bool:
        """Say whether a token was signed for a session, be it gone or expired."""
        prefix, _, rest = token.partition(".")
        data, _, signature = rest.partition(".")
        return prefix == _PREFIX and hmac.compare_digest(signature.encode(), _signature(data).encode())

    def session_valid(self, token: str) -> bool:
        """Say whether a token names a session, be it gone, and has not expired."""
        if not self.is_session(token):
            return False
        signed_at = base64.urlsafe_b64decode(token.split(".")[1])[:_TIME_BYTES]
        return int.from_bytes(signed_at, "big") > self._sessions_expired_at_ns


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signature(data: str) -> str:
    return _encode(hmac.digest(_KEY, data.encode(), hashlib.sha256))
