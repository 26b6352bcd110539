"""
What a command prints about a token: the token alone, or JSON with its end.

What must stay true: no message quotes what was printed.

Source: RFC 6749 section 5.1 (`access_token`, `expires_in`), Kubernetes client authentication v1 (`ExecCredential`), RFC 3339.
"""

import datetime
import math
from typing import Any

import msgspec

from rig.auth.token import Token
from rig.errors import TokenUnavailable

_TOKENS = ("token", "access_token", "id_token")
_ENDS = ("expires_at", "expiry", "expiration", "expirationTimestamp")
_MILLISECONDS_FROM = 1e11
"""A number from here on would be the year 5138 in seconds: it is in milliseconds."""


def read_answer(output: bytes, *, provider: str, now: float) -> Token:
    """
    Read the token out of what a command printed.

    Args:
        output: Text that is the token, a JSON string that is it, or a JSON object that has it as `token`, `access_token` or
            `id_token`, with or without `expires_in` (seconds) or `expires_at`, `expiry` or `expiration` (a time); Kubernetes'
            `ExecCredential` is understood too. An end that cannot be read counts as unknown.
        provider: For the message.
        now: Wall-clock seconds, from which `expires_in` counts.

    Raises:
        TokenUnavailable: If there is no token in it.
    """
    text = _decoded(output)
    if text is None:
        raise TokenUnavailable(provider, "what it printed is not UTF-8: let it print the token, or JSON")
    if not text.startswith(("{", '"')):
        return Token.read(text, provider=provider)
    answer = _parsed(text)
    if isinstance(answer, str):
        return Token.read(answer, provider=provider)
    if not isinstance(answer, dict):
        raise TokenUnavailable(provider, "what it printed begins like JSON and is none: let it print the token, or JSON")
    status = answer.get("status")
    fields = status if isinstance(status, dict) else answer
    token = next((fields[name] for name in _TOKENS if isinstance(fields.get(name), str)), None)
    if token is None:
        raise TokenUnavailable(provider, f"the JSON that it printed has none of the fields {', '.join(_TOKENS)}")
    return Token.read(token, provider=provider, expires_at=_end(fields, now))


def _decoded(output: bytes) -> str | None:
    # An exception of the decoder would carry what it could not decode; so it ends here.
    try:
        return output.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return None


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _end(fields: dict[str, Any], now: float) -> float | None:
    lifetime = _number(fields.get("expires_in"))
    ends = [_time(fields[name]) for name in _ENDS if name in fields]
    if lifetime is not None:
        ends.append(now + lifetime)
    return min((end for end in ends if end is not None), default=None)


def _time(value: object) -> float | None:
    number = _number(value)
    if number is not None:
        return number / 1000 if number >= _MILLISECONDS_FROM else number
    if not isinstance(value, str):
        return None
    try:
        # Without an offset it is taken for UTC, which is the earlier mistake in half of the world and common in answers.
        read = datetime.datetime.fromisoformat(value)
        return (read if read.tzinfo else read.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
