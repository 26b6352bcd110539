"""What the user's code wants to push: refused here, in the handler, where it would spoil the record with the pushes of others."""

from typing import Any

import msgspec

from rig.errors import LocalProtocolError


def check_names(topic: str, event: str) -> None:
    """
    Insist on a topic and an event that can be sent.

    Raises:
        LocalProtocolError: If one is no text, or cannot be encoded as UTF-8.
    """
    try:
        (topic + event).encode()
    except (TypeError, AttributeError, UnicodeEncodeError) as exc:
        raise LocalProtocolError(f"topic {topic!r} and event {event!r} must be text ({exc})") from exc


def encode_payload(payload: Any) -> tuple[bytes, bool]:
    """
    Return a payload as it is sent, and whether it is binary.

    Raises:
        LocalProtocolError: If it is neither bytes nor can be written as JSON.
    """
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload), True
    try:
        return msgspec.json.encode(payload), False
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise LocalProtocolError(f"the payload cannot be written as JSON ({exc}): use plain objects, structs or bytes") from exc
