"""An application for the tests of a worker's loop, and topics of which it is known where they go."""

import asyncio
from typing import Any

from rig.app import App, Event
from rig.routing import lane

LANES = 4
BY_LANE = {lane(topic.encode(), LANES): topic for topic in map("room:{}".format, range(50))}
"""One topic for each lane."""


class Handlers:
    """An app with one handler that notes each event, and waits where it is told to."""

    def __init__(self, **options: Any) -> None:
        self.app = App()
        self.started: list[tuple[str, int]] = []
        self.finished: list[tuple[str, int]] = []
        self.gates: dict[tuple[str, int], asyncio.Event] = {}
        self.app.on("room:*", "tick", **options)(self.handle)

    async def handle(self, event: Event[int]) -> None:
        item = (event.topic, event.payload)
        self.started.append(item)
        if item in self.gates:
            await self.gates[item].wait()
        self.finished.append(item)

    def hold(self, topic: str, number: int) -> asyncio.Event:
        """Let the handler wait at this event, until what is returned is set."""
        gate = self.gates[topic, number] = asyncio.Event()
        return gate


async def turns(count: int = 20) -> None:
    """Give the loop some turns."""
    for _ in range(count):
        await asyncio.sleep(0)
