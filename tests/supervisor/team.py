"""Children that do nothing but remember what they were told, for the tests of those who look after them."""

import asyncio
from signal import Signals
from typing import Any

from rig.supervisor.child import Child
from rig.supervisor.memory import SharedMemory


class FakeChild(Child):
    """Stands for a worker that is ready; its process is a number."""

    def __init__(self, name: str, pid: int) -> None:
        self.name, self.number = name, pid
        self.ready = asyncio.Event()
        self.ready.set()
        self.log: list[Any] = []
        self._told = []

    @property
    def pid(self) -> int | None:
        return self.number or None

    def ask(self, message: Any) -> None:
        self.log.append(message)

    def recycle(self) -> None:
        self.log.append("recycle")

    def replace(self, why: str) -> None:
        self.log.append(why)

    def signal(self, number: Signals) -> None:
        self.log.append(number)


def team(memory: SharedMemory) -> list[tuple[FakeChild, Any]]:
    """Return a fake worker for each that there is memory for."""
    return [(FakeChild(f"worker-{index}", 100 + index), one) for index, one in enumerate(memory.workers)]
