"""
The pipeline under test: `rig run` as anybody starts it, with the benchmark's application.

Real processes: a supervisor, an io process and workers. The benchmark sees them through the workers' boards and accounts
and through what the kernel says of them, and asks them nothing while they are measured.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import msgspec

from rig.benchmark.app import TOPICS
from rig.benchmark.board import DIRECTORY_VARIABLE, Board
from rig.benchmark.server import BenchServer, SendResult
from rig.benchmark.tally import Account
from rig.benchmark.usage import Usage, child_running, read_usage
from rig.errors import RigError

_STDERR = 2
"""Where the run's own output goes, so that ours stays a table, or JSON."""
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 20.0
_POLL = 0.005
_FORCED = 5.0
"""Seconds that a run has to end when it is interrupted."""
_SETTLE = 0.2
"""Seconds between the last join and the first event."""
_PATIENCE = 2.0
"""Seconds without progress, after everything was sent, that prove a loss."""


class Pipeline:
    """One `rig run`, from its start to its account."""

    def __init__(self, server: BenchServer, workers: int) -> None:
        """
        Describe the run; entering the context starts it.

        Args:
            server: What it connects to; no other client may be connected.
            workers: Worker processes.
        """
        self._server, self._count = server, workers
        self._directory: tempfile.TemporaryDirectory[str]
        self._process: asyncio.subprocess.Process
        self._boards: dict[int, Board] = {}

    async def __aenter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="rig-bench-", ignore_cleanup_errors=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RIG_") and name != "WEB_CONCURRENCY"}
        arguments = [
            "rig.benchmark.app:app",
            "--url",
            self._server.url,
            "--workers",
            str(self._count),
            "--state-dir",
            self._directory.name,
        ]
        self._process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-P",
                "-m",
                "rig.benchmark.run",
                str(os.getpid()),
                *arguments,
                "--status-interval",
                "0",
                "--log-level",
                "warning",
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=_STDERR,
            cwd=self._directory.name,
            env=inherited | {DIRECTORY_VARIABLE: self._directory.name},
            start_new_session=True,
        )
        try:
            await self._wait_up()
            await asyncio.sleep(_SETTLE)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _wait_up(self) -> None:
        ended = asyncio.create_task(self._process.wait())
        joined = asyncio.create_task(self._wait_joined())
        try:
            done, _ = await asyncio.wait([ended, joined], timeout=_START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            joined.cancel()
            await asyncio.wait([ended, joined])
        if joined not in done:
            raise RigError("rig run did not come up: what it printed above says why")
        joined.result()

    async def _wait_joined(self) -> None:
        await self._server.wait_joined(len(TOPICS))
        while True:
            boards = self._files("board")
            if len(boards) == self._count:
                break
            await asyncio.sleep(_POLL)
        self._boards = {int(path.name.rpartition("-")[2]): Board(path) for path in boards}

    def _files(self, kind: str) -> list[Path]:
        return sorted(Path(self._directory.name).glob(f"{kind}-*"))

    @property
    def handled(self) -> int:
        """Events handled, as far as the workers have posted it."""
        return sum(board.handled for board in self._boards.values())

    @property
    def last_ns(self) -> int:
        """When the last of them was handled, in ns of the monotonic clock."""
        return max(board.time_ns for board in self._boards.values())

    async def wait_handled(self, events: int, sending: "asyncio.Task[SendResult]") -> None:
        """
        Return when so many events are handled, or when some can be taken for lost.

        Args:
            events: How many the server sends.
            sending: Done when it has sent them.
        """
        handled, progressed = -1, time.monotonic()
        while self.handled < events:
            now = time.monotonic()
            if self.handled != handled or not sending.done():
                handled, progressed = self.handled, now
            elif now - progressed > _PATIENCE:
                return
            await asyncio.sleep(_POLL)

    def usage(self) -> dict[str, Usage]:
        """Return what the server and the processes of the run use by now, as far as the system tells."""
        pids: dict[str, int | None] = {"server": self._server.pid, "supervisor": self._process.pid}
        pids["io"] = child_running(self._process.pid, "rig.io")
        pids |= {f"worker-{index}": pid for index, pid in enumerate(self._boards)}
        found = {name: read_usage(pid) for name, pid in pids.items() if pid is not None}
        return {name: usage for name, usage in found.items() if usage is not None}

    async def finish(self) -> list[Account]:
        """
        Have it drain and end, and return the workers' accounts.

        Raises:
            RigError: If it ends with an error, or a worker has left no account.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                code = await self._process.wait()
        except TimeoutError as exc:
            raise RigError(f"rig run did not drain within {_STOP_TIMEOUT:g} s") from exc
        accounts = self._files("account")
        if code or len(accounts) != self._count:
            raise RigError(f"rig run ended with exit code {code} and {len(accounts)} of {self._count} accounts")
        return [msgspec.json.decode(path.read_bytes(), type=Account) for path in accounts]

    async def _end_run(self) -> None:
        """End the run if it still runs: as one that is to finish, so that it ends its children first, or else by force."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                self._process.terminate()
                async with asyncio.timeout(_FORCED):
                    await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _end(self) -> None:
        await self._end_run()
        for board in self._boards.values():
            board.close()
        self._boards = {}
        self._directory.cleanup()
