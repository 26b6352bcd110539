"""
The mock server as Supabase Realtime would answer: topics `realtime:*`, and events wrapped in `broadcast`.

Frames are as long as all others; what the wrapping takes is taken from the padding. Takes the options of
`python -m mock_server`, with `--scenario` fixed.
"""

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from mock_server import flood
from mock_server.channel import Channel
from mock_server.scenarios import SCENARIOS, Reference

TOPICS = tuple(f"realtime:bench-{number}" for number in range(64))


class BroadcastTemplate(flood.EventTemplate):
    """An event in the payload of a `broadcast`."""

    def __init__(self, version: str, topic: str, event: str, *, size: int, id: Any = None) -> None:
        super().__init__(version, topic, "broadcast", size=size, id=id)
        opening = b'{"event":' + msgspec.json.encode(event) + b',"payload":'
        start = self._before.rindex(b'{"i":') if id is None else self._before.rindex(b'{"id":')
        self._before = self._before[:start] + opening + self._before[start:]
        self._after = self._after.replace(b'"}', b'"}}', 1)
        self.number_offset = len(self._before)
        self._room -= len(opening) + 1


class Realtime(Reference):
    """Rooms for everybody."""

    routes: ClassVar[Sequence[tuple[str, type[Channel]]]] = (("realtime:*", Channel),)


if __name__ == "__main__":
    flood.EventTemplate = BroadcastTemplate  # type: ignore[misc]
    SCENARIOS["realtime"] = Realtime
    # Imported last: its options know the scenarios that there are by then.
    from mock_server.__main__ import main

    main(args=[*sys.argv[1:], "--scenario", "realtime"])
