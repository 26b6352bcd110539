"""aiohttp's WebSocket client with the standard library's json, and a coroutine per event."""

import asyncio
import json
from typing import Any

import aiohttp

from bench.peers.meter import Meter, joins, run


async def main(url: str, meter: Meter) -> None:
    """Join, then handle events."""

    async def handle(topic: str, payload: Any) -> None:
        meter.note(topic, payload["i"], payload["t"])

    async def read(connection: aiohttp.ClientWebSocketResponse) -> None:
        async for message in connection:
            _, _, topic, event, payload = json.loads(message.data)
            if event == meter.mode:
                await handle(topic, payload)

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/websocket?vsn=2.0.0", max_msg_size=0) as connection:
        for frame in joins(meter.topics):
            await connection.send_str(frame)
        for _ in meter.topics:
            await connection.receive()
        reading = asyncio.create_task(read(connection))
        await meter.measure()
        reading.cancel()


if __name__ == "__main__":
    run(main)
