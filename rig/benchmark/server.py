"""The bundled mock server in a process of its own, and its control API, seen from the benchmark."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any, Self

import aiohttp
import msgspec

from rig.errors import RigError

_START_TIMEOUT = 20.0
_POLL = 0.01


class _Announcement(msgspec.Struct):
    url: str
    control: str


class SendResult(msgspec.Struct):
    """What the server says of a flood or a pace: events, frames over all connections, and the seconds it took to send them."""

    sent: int
    deliveries: int
    seconds: float


class BenchServer:
    """
    A mock server on a free port; it ends with this process.

    Attributes:
        url: Of its socket.
        pid: Of its process.
    """

    def __init__(self, module: str = "mock_server") -> None:
        """
        Describe the server; entering the context starts it.

        Args:
            module: Run as `python -m`; takes the options of `python -m mock_server`.
        """
        self._module = module
        self._process: asyncio.subprocess.Process
        self._http: aiohttp.ClientSession
        self._control = self.url = ""
        self.pid = 0

    async def __aenter__(self) -> Self:
        arguments = [*(("-P",) if self._module == "mock_server" else ()), "-m", self._module, "--port", "0", "--exit-with-parent"]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                announcement = msgspec.json.decode(await self._process.stdout.readline(), type=_Announcement)
        except BaseException as exc:
            await self._end()
            if isinstance(exc, TimeoutError | msgspec.DecodeError):
                raise RigError("the mock server did not start: run `rig mock --port 0` to see why") from exc
            raise
        self.url, self._control, self.pid = announcement.url, announcement.control, self._process.pid
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        await self._end()

    async def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def reset(self) -> None:
        """Have the numbers of every topic start at 0 again."""
        await self._post("reset", {})

    async def flood(self, topics: Sequence[str], count: int, *, event: str = "flood") -> SendResult:
        """
        Send events as fast as they are taken, and return when all are sent.

        Args:
            topics: Where to, in turn.
            count: Events over all topics, of 200 bytes each.
            event: Their name.

        Raises:
            RigError: If the server refuses.
        """
        return msgspec.convert(await self._post("flood", {"topics": topics, "event": event, "count": count}), SendResult)

    async def pace(self, topics: Sequence[str], rate: float, seconds: float, *, event: str = "pace") -> SendResult:
        """
        Send events of 200 bytes at a steady rate, and return when all are sent.

        Args:
            topics: Where to, in turn.
            rate: Events per second.
            seconds: For how long.
            event: Their name.

        Raises:
            RigError: If the server refuses.
        """
        body = {"topics": topics, "event": event, "rate": rate, "seconds": seconds}
        return msgspec.convert(await self._post("pace", body), SendResult)

    async def count_joined(self) -> int:
        """Count the channels of all clients."""
        async with self._http.get(f"{self._control}/clients") as response:
            return sum(len(client["channels"]) for client in await response.json())

    async def wait_joined(self, channels: int) -> None:
        """Return when the clients have joined so many channels, all together."""
        while True:
            if await self.count_joined() == channels:
                return
            await asyncio.sleep(_POLL)

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        async with self._http.post(f"{self._control}/{path}", data=msgspec.json.encode(body)) as response:
            answer = await response.json()
        if response.status != 200:
            raise RigError(f"the mock server refused {path}: {answer.get('error', answer)}")
        return answer
