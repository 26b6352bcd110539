"""The bundled mock server as a child process, for a run without a URL."""

import asyncio
import contextlib
import sys

import msgspec

from rig.config import Settings
from rig.errors import AppError

_ENDING = 5.0
"""Seconds that it has to end."""


class _Announcement(msgspec.Struct):
    url: str


class BundledMock:
    """
    A mock server on a free port, with the Max platform's traffic. It ends with us: its standard input does.

    Attributes:
        url: Of its socket.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process, self.url = process, url

    @classmethod
    async def start(cls, settings: Settings) -> "BundledMock":
        """
        Start it and wait until it listens.

        Raises:
            AppError: If it does not start.
        """
        arguments = ["--port", "0", "--scenario", "max", "--rate", str(settings.mock_rate), "--exit-with-parent"]
        # A session of its own: Ctrl-C in the terminal must not end it before the drain is over.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "mock_server", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            line = await process.stdout.readline()
            return cls(process, msgspec.json.decode(line, type=_Announcement).url)
        except BaseException as exc:
            await _kill(process)
            if isinstance(exc, msgspec.DecodeError):
                raise AppError("the bundled mock server did not start: name a server with --url") from exc
            raise

    async def stop(self) -> None:
        """End it, by force if it takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING):
                await self._process.wait()
        await _kill(self._process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
