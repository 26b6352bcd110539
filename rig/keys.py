"""
The ordering key of an event: what it must share with another to be handled after it.

The io process takes it to find the worker, the worker to find the lane; both must find the same, so both come here. A
payload field is read without decoding the rest, and its JSON text is the key. An event without the field is ordered by
its topic.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

KeyOf: TypeAlias = Callable[[Any], bytes | None]
"""Takes a payload (`msgspec.Raw` or bytes) and returns the key, None if the field is not there."""


def payload_key(path: str) -> KeyOf:
    """
    Return a function that reads one field of a payload.

    Args:
        path: As in `payload.user.id`.
    """
    names = path.split(".")[1:]
    leaf: Any = msgspec.Raw
    for depth, name in reversed(list(enumerate(names))):
        fields = [("value", leaf, msgspec.field(name=name))]
        leaf = msgspec.defstruct(f"Key{depth}", fields, gc=False)
    decode = msgspec.json.Decoder(leaf).decode

    def key(payload: Any) -> bytes | None:
        if isinstance(payload, bytes):
            return None
        try:
            value: Any = decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        for _ in names:
            value = value.value
        return bytes(value)

    return key
