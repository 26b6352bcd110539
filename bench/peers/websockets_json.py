"""The websockets library with the standard library's json, and a coroutine per event."""

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bench.peers.meter import Meter, joins, run


async def main(url: str, meter: Meter) -> None:
    """Join, then handle events."""

    async def handle(topic: str, payload: Any) -> None:
        meter.note(topic, payload["i"], payload["t"])

    async def read(connection: ClientConnection) -> None:
        async for frame in connection:
            _, _, topic, event, payload = json.loads(frame)
            if event == meter.mode:
                await handle(topic, payload)

    async with connect(f"{url}/websocket?vsn=2.0.0", max_size=None) as connection:
        for frame in joins(meter.topics):
            await connection.send(frame)
        for _ in meter.topics:
            await connection.recv()
        reading = asyncio.create_task(read(connection))
        await meter.measure()
        reading.cancel()


if __name__ == "__main__":
    run(main)
