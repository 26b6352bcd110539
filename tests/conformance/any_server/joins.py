"""A join payload that tells when the client joins."""

import asyncio


class Joins:
    """A join payload that counts how often it was asked for: once for each join."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    def __call__(self) -> dict[str, int]:
        self.count += 1
        self._changed.set()
        return {"count": self.count}

    async def reach(self, count: int) -> None:
        """Return when that many joins were sent."""
        while self.count < count:
            self._changed.clear()
            await self._changed.wait()
