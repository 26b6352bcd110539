"""The ceiling: picows counting frames, which are not even looked at (for latencies, only the time is cut out)."""

import asyncio
import re

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.peers.meter import Meter, joins, run

_TIME = re.compile(rb'"t":(\d+)')


class Counter(WSListener):
    """Counts."""

    def __init__(self, meter: Meter, joined: asyncio.Event) -> None:
        self._meter, self._joined = meter, joined
        self._left = len(meter.topics)
        self._timed = meter.mode == "pace"

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._joined.set()
        elif self._timed:
            found = _TIME.search(frame.get_payload_as_memoryview())
            self._meter.note_frame(int(found[1]) if found else 0)
        else:
            self._meter.note_frame()


async def main(url: str, meter: Meter) -> None:
    """Join, then count."""
    joined = asyncio.Event()
    transport, _ = await ws_connect(lambda: Counter(meter, joined), f"{url}/websocket?vsn=2.0.0")
    for frame in joins(meter.topics):
        transport.send(WSMsgType.TEXT, frame.encode())
    await joined.wait()
    await meter.measure()
    transport.disconnect()


if __name__ == "__main__":
    run(main)
