"""
The stage of the tests with real processes: a mock server, and `rig` as a user starts it. No process is left when a test is over.

Nothing sleeps for a fixed time to let something happen: tests await log lines, the ledger of the application, or what the
server sees.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import uvloop

from mock_server.flood import Flood, FloodRequest
from mock_server.server import MockServer
from rig.admin.client import ask
from rig.errors import NoRun
from rig.routing import lane, shard

APPLICATIONS = Path(__file__).parent / "integration"
"""Where the application of these tests is."""
PATIENCE = 20.0
MARK = "INTEGRATION_TEST"
ENDING = 2.0
"""Seconds after the end of its parent in which a process must be gone."""


async def until(condition: Callable[[], object], *, within: float = PATIENCE) -> Any:
    """Wait until something is so, and return it."""
    async with asyncio.timeout(within):
        while not (found := condition()):  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.003)
        return found


class Ledger:
    """What the handlers of `ledger_app` wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[int, list[list[Any]]]] = {}

    def lives(self) -> list[list[list[Any]]]:
        """Return the lines of each life of a worker, [kind, topic, value], the oldest life first."""
        return [self._lines(path) for path in sorted(self.folder.glob("*.life"))]

    def handled_by(self, pid: int) -> int:
        """Count the lines of one process."""
        return sum(len(self._lines(path)) for path in self.folder.glob(f"*-{pid}.life"))

    def _lines(self, path: Path) -> list[list[Any]]:
        """Read on where the last look ended."""
        position, lines = self._read.get(path, (0, []))
        with path.open("rb") as file:
            file.seek(position)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        lines += [json.loads(line) for line in whole.splitlines()]
        self._read[path] = (position + len(whole), lines)
        return lines

    def all(self, kind: str) -> list[list[Any]]:
        """Return [topic, value] of each line of a kind."""
        return [line[1:] for life in self.lives() for line in life if line[0] == kind]

    @property
    def size(self) -> int:
        """Count all lines."""
        return sum(map(len, self.lives()))

    def repeats(self, kind: str, expected: dict[str, int]) -> int:
        """
        Insist that everything was handled, in order for each topic, and return how many events were handled twice.

        The only event that may come twice is the last of a life, as the first of the next.
        """
        repeats = 0
        seen: dict[str, list[tuple[int, int]]] = {topic: [] for topic in expected}
        for number, life in enumerate(self.lives()):
            for of, topic, value in life:
                if of == kind:
                    seen[topic].append((number, value))
        for topic, count in expected.items():
            last, life = -1, None
            for number, value in seen[topic]:
                if value == last and number != life:
                    repeats += 1
                else:
                    assert value == last + 1, f"{topic}: {value} came after {last}"
                last, life = value, number
            assert last == count - 1, f"{topic}: {last + 1} of {count} events were handled"
        return repeats

    def complete(self, kind: str, expected: dict[str, int]) -> bool:
        """Return True once the last event of each topic is handled."""
        handled = {(topic, value) for topic, value in self.all(kind)}
        return all((topic, count - 1) in handled for topic, count in expected.items())

    def open_gate(self) -> None:
        """Let the handlers of `gated` go on."""
        (self.folder / "gate").touch()


class Command:
    """A command in a process of its own, and what it writes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self._reading = [
            asyncio.create_task(self._read(process.stdout, self.out)),
            asyncio.create_task(self._read(process.stderr, self.err)),
        ]

    @staticmethod
    async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        async for line in stream:
            lines.append(line.decode().rstrip("\n"))  # noqa: PERF401 - seen line by line

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log lines on stderr, if they are JSON."""
        return [json.loads(line) for line in self.err if line.startswith("{")]

    def said(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the log lines with this message and these fields."""
        return [entry for entry in self.log if entry["event"] == event and fields.items() <= entry.items()]

    async def hear(self, event: str, *, times: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for a log line, and return it."""
        await until(lambda: len(self.said(event, **fields)) >= times)
        return self.said(event, **fields)[times - 1]

    def pids(self, module: str) -> list[int]:
        """Return the processes that run a module, workers in the order in which they were started."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if module in child.cmdline():
                        found.append((child.create_time(), child.pid))
        return [pid for _, pid in sorted(found)]

    def signal(self, number: int) -> None:
        """Send a signal to the process itself."""
        self.process.send_signal(number)

    async def end(self, *, within: float = PATIENCE) -> int:
        """Wait for the end, and return the exit code."""
        async with asyncio.timeout(within):
            code = await self.process.wait()
            await asyncio.gather(*self._reading)
        return code

    async def drain(self) -> dict[str, Any]:
        """Ask it to end, insist that it does so in peace, and return its summary."""
        self.signal(signal.SIGTERM)
        code = await self.end()
        assert code == 0, "\n".join(self.err)
        assert not any("Traceback" in line for line in self.err), "\n".join(self.err)
        return self.said("done")[0]

    async def clear(self) -> None:
        """Read what a killed process had written, and show it beside the failure of the test."""
        await asyncio.wait(self._reading, timeout=ENDING)
        await self.process.wait()
        sys.stderr.write("".join(f"{line}\n" for line in self.err[-40:]))


class Stage:
    """
    What a test plays on.

    Attributes:
        server: A mock server in the test's own process.
        ledger: What the application's handlers wrote.
        state: The state directory of its runs.
    """

    def __init__(self, folder: Path, server: MockServer) -> None:
        self.folder, self.server = folder, server
        self.state = folder / "state"
        self.ledger = Ledger(folder / "ledger")
        self.ledger.folder.mkdir()
        self.topics: list[str] = []
        self._mark = uuid.uuid4().hex
        self._commands: list[Command] = []

    async def start(self, *arguments: str, **environment: str) -> Command:
        """Start `python ARGUMENTS…`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env={
                **_clean_environment(),
                MARK: self._mark,
                "XDG_STATE_HOME": str(self.folder / "home"),
                "LEDGER": str(self.ledger.folder),
                **environment,
            },
        )
        command = Command(process)
        self._commands.append(command)
        return command

    async def rig(self, *arguments: str, **environment: str) -> Command:
        """Start a `rig` command."""
        return await self.start("-m", "rig", *arguments, **environment)

    async def run_worker(
        self, *options: str, topics: int = 64, workers: int = 2, url: str | None = None, **environment: str
    ) -> Command:
        """Start `rig run` with the application of these tests, and return when it has joined all its topics."""
        command = await self.rig(
            *("run", "ledger_app:app", "--app-dir", str(APPLICATIONS), "--url", url or self.server.url, "--workers", str(workers)),
            *("--log-format", "json", "--status-interval", "0", "--state-dir", str(self.state), *options),
            LEDGER_TOPICS=str(topics),
            **environment,
        )
        self.topics = [f"room:{number}" for number in range(topics)]
        if url is None:
            await until(lambda: self.joined() == set(self.topics) or command.process.returncode is not None)
            assert command.process.returncode is None, "\n".join(command.err)
        return command

    def joined(self) -> set[str]:
        """Return the topics that the worker has joined, as the server sees it."""
        return {topic for client in self.server.clients for topic in client["channels"]}

    @property
    def client(self) -> str:
        """The server's name for the one connection that there is."""
        [client] = self.server.clients
        name: str = client["client"]
        return name

    async def flood(self, event: str, count: int, *, topics: list[str] | None = None, size: int = 200) -> dict[str, int]:
        """Send events as fast as they are taken, round-robin, and return how many of this event each topic should have seen."""
        topics = topics or self.topics
        await Flood(FloodRequest(topics=topics, count=count, event=event, size=size), self.server.hub).run()
        return {topic: self.server.ledger.next_sequence(topic) for topic in topics}

    async def received(self, count: int) -> None:
        """Return when the run has received so many events: Phoenix sends nothing twice that was on its way to a dead connection."""
        received = 0
        async with asyncio.timeout(PATIENCE):
            while received < count:
                with contextlib.suppress(NoRun):  # soon after the start nobody answers yet
                    received = (await ask(self.state, "GET", "/status"))[1]["totals"]["received"]
                await asyncio.sleep(0.003)

    def topics_of(self, worker: int, count: int) -> list[str]:
        """Return topics that go to one of two workers, each to a lane of its own."""
        lanes = {}
        for topic in self.topics:
            if shard(topic.encode(), 2) == worker:
                lanes.setdefault(lane(topic.encode(), 16), topic)
        return list(lanes.values())[:count]

    async def until_received(self) -> None:
        """Return when the io process has handed on all that was sent: a later event for the second worker has been answered."""
        probe, [by] = uuid.uuid4().hex, self.topics_of(1, 1)
        self.server.publish(by, "ask", {"event": "echo", "payload": {"probe": probe}})
        await until(lambda: [by, {"probe": probe}] in self.ledger.all("answer"))

    def processes(self) -> list[psutil.Process]:
        """Return every living process that was started for this test, by whomever."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    async def until_gone(self) -> None:
        """Insist that no process of this test is left."""
        with contextlib.suppress(TimeoutError):
            await until(lambda: not self.processes(), within=ENDING)
        left = [(process.pid, process.cmdline()) for process in self.processes()]
        assert not left, left

    async def clear(self) -> None:
        """Kill what is left, whatever became of the test."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for command in self._commands:
            await command.clear()


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RIG_") and name != "WEB_CONCURRENCY"}


@contextlib.asynccontextmanager
async def _stage(folder: Path, **server_settings: Any) -> AsyncIterator[Stage]:
    async with MockServer(**server_settings) as server:
        stage = Stage(folder, server)
        try:
            yield stage
            await stage.until_gone()
        finally:
            await stage.clear()


Play = Callable[..., None]


def play_in(folder: Path) -> Play:
    """Return a function that runs an async test on a stage, for so many seconds at most; a second one has a stage of its own."""
    numbers = itertools.count()

    def run(test: Callable[[Stage], Awaitable[None]], *, seconds: float = 45.0, **server_settings: Any) -> None:
        own = folder / str(next(numbers))
        own.mkdir()

        async def main() -> None:
            async with asyncio.timeout(seconds), _stage(own, **server_settings) as stage:
                await test(stage)

        uvloop.run(main())

    return run
