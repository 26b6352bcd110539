"""
realtime (Supabase) as its README shows it: a callback per broadcast, all options at their defaults.

It knows topics `realtime:*` and events `broadcast` only, which carry the name of the event in their payload; its server is
`bench.realtime_server`.
"""

from typing import Any

from realtime import AsyncRealtimeClient

from bench.peers.meter import Meter, run
from bench.realtime_server import TOPICS


async def main(url: str, meter: Meter) -> None:
    """Join, then handle events."""

    def listen(topic: str) -> Any:
        def handle(message: Any) -> None:
            payload = message["payload"]
            meter.note(topic, payload["i"], payload["t"])

        return handle

    client = AsyncRealtimeClient(url)
    await client.connect()
    for topic in meter.topics:
        channel = client.channel(topic.removeprefix("realtime:"))
        await channel.on_broadcast(meter.mode, listen(topic)).subscribe()
    await meter.measure()
    await client.close()


if __name__ == "__main__":
    run(main, TOPICS)
