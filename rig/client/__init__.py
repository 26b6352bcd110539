"""
The asyncio client: one process, no workers, for scripts and other frameworks.

    async with rig.connect("wss://max.example/socket", params={"token": token}) as connection:
        channel = await connection.join("room:lobby", {"since": 41})
        reply = await channel.push("new_msg", {"body": "hi"}, timeout=5)
        async for event in channel:
            ...

It runs on the same `Connection` as the io process: it reconnects and rejoins by itself. Events wait in a queue for whoever
iterates; when `max_queued` wait, reading from the socket pauses, so nothing is dropped and nothing grows without bound.
"""

from rig.client.channel import ClientChannel
from rig.client.client import Client
from rig.client.connect import connect, connect_with
from rig.client.pool import Pool
from rig.client.presence import Presence
from rig.client.queue import ClientEvent

__all__ = ["Client", "ClientChannel", "ClientEvent", "Pool", "Presence", "connect", "connect_with"]
