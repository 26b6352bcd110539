"""
Which origins a socket accepts.

Source: Phoenix.Socket.Transport, `check_origin/5`.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def origin_allowed(origin: str | None, allowed: Sequence[str]) -> bool:
    """
    Say whether a request with this `Origin` header may connect; one without the header may.

    Args:
        origin: The header, None where there is none.
        allowed: `//host` for any scheme and port, `scheme://host` for the scheme's own port, `//host:port`, and
            `*.host` in the place of the host for it and all below it. Empty for no check.
    """
    if origin is None or not allowed:
        return True
    scheme, host, port = _parse(origin)
    if host is None:
        return False
    for rule in allowed:
        rule_scheme, rule_host, rule_port = _parse(rule)
        if rule_scheme in (None, scheme) and rule_port in (None, port) and rule_host and _host_matches(host, rule_host):
            return True
    return False


def _parse(text: str) -> tuple[str | None, str | None, int | None]:
    """Return scheme, host and port, None for what is absent or cannot be read."""
    try:
        parts = urlsplit(text)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        return parts.scheme or None, parts.hostname, port
    except ValueError:
        return None, None, None


def _host_matches(host: str, rule: str) -> bool:
    if rule.startswith("*."):
        return host == rule[2:] or host.endswith(rule[1:])
    return host == rule
