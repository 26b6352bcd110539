"""
phoenix-channels-python-client as its README shows it: a coroutine per topic.

All options are at their defaults, but the protocol is V1: in V2 it (0.4.1) takes the null `join_ref` of a broadcast for a
stale one, and drops every broadcast. It also drops what does not fit the queue of a topic (1,000 by default).
"""

from typing import Any

from phoenix_channels_python_client import PhoenixChannelsProtocolVersion, PHXChannelsClient  # type: ignore[import-untyped]

from bench.peers.meter import Meter, run


async def main(url: str, meter: Meter) -> None:
    """Join, then handle events."""

    async def handle(message: Any) -> None:
        meter.note(message.topic, message.payload["i"], message.payload["t"])

    version = PhoenixChannelsProtocolVersion.V1
    async with PHXChannelsClient(websocket_url=f"{url}/websocket", api_key="benchmark", protocol_version=version) as client:
        for topic in meter.topics:
            await client.subscribe_to_topic(topic, handle)
        await meter.measure()


if __name__ == "__main__":
    run(main)
