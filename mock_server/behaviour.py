"""
What differs between Phoenix releases, as one value that the rest of the server asks.

Source: Phoenix's changelog and recordings of 1.7.24 and 1.8.12.
"""

import re
from dataclasses import dataclass
from typing import Any, Self

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


class UnknownPhoenixVersion(ValueError):
    """The text is not a Phoenix version this server can behave like."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not a Phoenix version; give one such as 1.8.12 or 1.7.24")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """
    The version switches.

    Args:
        phoenix: The version that is simulated.
        crash_payload: What a `phx_error` carries.
        checks_join_ref: A push with a join_ref that is not the live one is dropped (else only a leave is looked at).
        drops_null_join_ref: A push without a join_ref to a channel that has one is dropped.
        disconnect_code: The close code of a server's `disconnect`.
        auth_tokens: The token in `Sec-WebSocket-Protocol` is understood.
        list_vsn_status: The HTTP status of `vsn[]=…`.
        default_frame_bytes: The longest frame on a socket that sets no limit.
        max_channels: Topics one connection may join; None for any number.
        longpoll_header: A long-poll session's token may come in `x-phoenix-longpoll-token`, and wins over the parameter.
        longpoll_cache_control: The header of long-poll answers.
    """

    phoenix: str
    crash_payload: dict[str, str]
    checks_join_ref: bool
    drops_null_join_ref: bool
    disconnect_code: int
    auth_tokens: bool
    list_vsn_status: int
    default_frame_bytes: int
    max_channels: int | None
    longpoll_header: bool
    longpoll_cache_control: str

    @classmethod
    def of(cls, phoenix: str, *, strict_join_ref: bool = False) -> Self:
        """
        Look up how a version behaves; `strict_join_ref` asks for the null join_ref rule of 1.8.3 to 1.8.11.

        Raises:
            UnknownPhoenixVersion: If `phoenix` is not three numbers of a 1.x release.
        """
        match = _VERSION.fullmatch(phoenix)
        version = tuple(map(int, match.groups())) if match else (0, 0, 0)
        if version[0] != 1:
            raise UnknownPhoenixVersion(phoenix)
        return cls(
            phoenix=phoenix,
            crash_payload={"reason": "channel_crash"} if version >= (1, 8, 10) else {},
            checks_join_ref=version >= (1, 8, 3),
            drops_null_join_ref=strict_join_ref or (1, 8, 3) <= version <= (1, 8, 11),
            disconnect_code=1001 if version >= (1, 8, 8) else 1000,
            auth_tokens=version >= (1, 8, 0),
            list_vsn_status=403 if version >= (1, 8, 0) else 500,
            default_frame_bytes=10_000_000 if version >= (1, 8, 0) else 8_000_000,
            max_channels=100 if version >= (1, 8, 9) or (1, 7, 24) <= version < (1, 8, 0) else None,
            longpoll_header=version >= (1, 8, 10),
            longpoll_cache_control="no-store" if version >= (1, 8, 10) else "max-age=0, private, must-revalidate",
        )

    def accepts(self, event: Any, join_ref: Any, live: Any) -> bool:
        """Say whether a message with `join_ref` reaches a channel whose live one is `live`; if not, it is dropped silently."""
        if join_ref == live:
            return True
        if not self.checks_join_ref:
            return bool(event != "phx_leave") and not (self.drops_null_join_ref and join_ref is None)
        return join_ref is None and not self.drops_null_join_ref
