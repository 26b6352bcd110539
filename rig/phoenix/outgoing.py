"""Frames on their way out, and the refs that they carry."""

from typing import Any

import msgspec

from rig.phoenix.serializer import Serializer


class Outgoing:
    """Refs are strings of a counter that never goes back, so that none is used twice in the life of a socket."""

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer
        self._frames: list[bytes] = []
        self._count = 0

    def next_ref(self) -> str:
        """Return a ref that was never used."""
        self._count += 1
        return str(self._count)

    def add(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any) -> None:
        """
        Encode a message and put it at the end.

        Raises:
            LocalProtocolError: If the payload does not fit the serializer; nothing is added then.
        """
        self._frames.append(self._serializer.encode(join_ref, ref, topic, event, payload))

    def freeze(self, topic: str, event: str, payload: Any) -> Any:
        """
        Return the payload as it will be sent later, whatever its owner does to it meanwhile.

        Raises:
            LocalProtocolError: If it will not fit the serializer.
        """
        self._serializer.encode(None, None, topic, event, payload)
        if isinstance(payload, bytes | bytearray | memoryview):
            return bytes(payload)
        return msgspec.Raw(msgspec.json.encode(payload))

    def take(self) -> list[bytes]:
        """Return what is to be sent, once."""
        frames, self._frames = self._frames, []
        return frames
