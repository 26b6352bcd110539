"""
One child process and its control line: started with exec, watched, started again when it dies.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from rig.backoff import restart_delay
from rig.control import (
    Control,
    Crashed,
    DescribeSpec,
    Drain,
    DumpStacks,
    Failed,
    FromChild,
    IoSpec,
    Question,
    Ready,
    Recycle,
    Stop,
    WorkerSpec,
)

_GOOD_LIFE = 10.0
"""Seconds alive after which a death counts as the first again."""
_TRIES = 3
"""Deaths in a row after which a child is given up that was never ready."""
_LAST_WORDS = 2.0
"""Seconds between the end of a child's control line and the end of its process, whichever comes first."""
_START_FAILED = 3
_DEAF = ("/bin/sh", "-c", 'trap "" INT TERM; exec "$@"', "sh")
"""Executes a command that ignores both signals from its first instruction on. The loop resets what `preexec_fn` would set."""
_KEEP_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_TOP_PAD_": str(4 << 20)}
"""For glibc: a batch's memory is used again by the next, instead of going back to the kernel and being asked for anew."""
_PRINT_AT_ONCE = {"PYTHONUNBUFFERED": "1"}
"""What a handler prints is seen when it prints it, and not lost when its process is killed, where stdout is a pipe too."""

log = structlog.get_logger()


async def spawn(module: str, fds: Sequence[int]) -> tuple[asyncio.subprocess.Process, Control]:
    """
    Start `python -m module`, with these descriptors inherited, and return it with our end of its control line.

    Raises:
        OSError: If the system has no process or descriptor left.
    """
    ours, theirs = socket.socketpair()
    try:
        # -P: what lies in the current directory must not shadow what rig imports.
        # A session of its own: Ctrl-C in the terminal reaches a child before it can ignore it.
        process = await asyncio.create_subprocess_exec(
            *_DEAF,
            sys.executable,
            "-P",
            "-m",
            module,
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), *fds),
            start_new_session=True,
            env={**_KEEP_HEAP, **_PRINT_AT_ONCE, **os.environ},
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, await Control.open(ours, child=False)


@dataclass(frozen=True, slots=True)
class Died:
    """
    What is heard of a process that has ended and is started again.

    Attributes:
        how: The signal or the exit code, and its last words if it had any.
        deaths: How often in a row, this one included.
        delay: Seconds until its successor is started.
    """

    how: str
    deaths: int
    delay: float

    def __str__(self) -> str:
        times = f" {self.deaths} times in a row" if self.deaths > 1 else ""
        return f"the process died{times} ({self.how}), and is started again after {self.delay:g} s"


class Child:
    """
    A process that is there until it is told to go.

    Attributes:
        name: For the log: "io", "worker-0".
        restarts: How often it was started again after a death.
        recycled: How often a fresh one took over from one that had ended as asked.
        failed: Why it cannot start: what it said before it was ever ready, or that it died over and over.
    """

    def __init__(
        self,
        name: str,
        module: str,
        spec: IoSpec | WorkerSpec | DescribeSpec,
        fds: Sequence[int],
        on_message: Callable[["Child", FromChild | Died], None],
    ) -> None:
        """
        Describe a child; `keep` runs it.

        Args:
            name: For the log.
            module: Run as `python -m`.
            spec: The first line on its control socket.
            fds: Descriptors that it inherits.
            on_message: Gets what it says, and how it died.
        """
        self.name, self._module, self._spec, self._fds, self._on_message = name, module, spec, fds, on_message
        self._process: asyncio.subprocess.Process | None = None
        self._control: Control | None = None
        self._told: list[Drain | Stop] = []
        self._killed = False
        self._recycling = False
        self._why = self._last_words = ""
        self._hurry = asyncio.Event()
        self.restarts = self.recycled = 0
        self.failed: Failed | None = None
        self.ready = asyncio.Event()
        self.was_ready = False

    @property
    def pid(self) -> int | None:
        """The process's number, None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def is_told(self) -> bool:
        """True once it is told how to end."""
        return bool(self._told)

    def tell(self, message: Drain | Stop) -> None:
        """Tell it now, and every successor too; one that is about to be started again is started now."""
        self._told.append(message)
        self._hurry.set()
        if self._control is not None:
            self._control.send(message)

    def ask(self, question: DumpStacks | Question) -> bool:
        """Ask the process that there is, and none of its successors; return False if there is none."""
        if self._control is None:
            return False
        self._control.send(question)
        return True

    def recycle(self) -> None:
        """Have it finish what it has in hand and end, and a successor go on at once: that is no death."""
        if self._control is not None:
            self._recycling = True
            self._control.send(Recycle())

    def replace(self, why: str) -> None:
        """End it at once; a successor is started as after a death, or at once if it was to be recycled."""
        self._why = why
        self.signal(signal.SIGKILL)

    def kill(self) -> None:
        """End it at once and for good."""
        self._killed = True
        self._hurry.set()
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Signal its process, if there is one."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def keep(self) -> None:
        """Start it, and start it again when it dies; return when it has ended as told, cannot start, or was killed."""
        deaths = 0
        while not self._killed:
            started = time.monotonic()
            code, how = await self._try_to_live()
            if self._recycling and (code == 0 or self._why) and not self._killed:
                self.recycled += 1
                continue
            if self._killed or (code == 0 and self._told) or (self.failed is not None and not self.was_ready):
                return
            deaths = 1 if self.was_ready and time.monotonic() - started > _GOOD_LIFE else deaths + 1
            if deaths >= _TRIES and not self.was_ready:
                reason = f"{self.name} died {deaths} times in a row before it was ready ({how}): see what it printed above"
                self.failed = Failed(reason, _START_FAILED)
                return
            delay = restart_delay(deaths)
            if not self._why:
                log.error("process died, and is started again", name=self.name, how=how, delay=delay)
            self.restarts += 1
            self._on_message(self, Died(how, deaths, delay))
            await self._pause(delay)

    async def _try_to_live(self) -> tuple[int, str]:
        try:
            code = await self._live()
        except OSError as exc:
            self.failed = Failed(
                f"{self.name} cannot be started ({exc}): the system has no process or descriptor left", _START_FAILED
            )
            return _START_FAILED, str(exc)
        how = self._why or _describe(code)
        return code, f"{how}: {self._last_words}" if self._last_words else how

    async def _live(self) -> int:
        """Return the exit code of one life; 0 too if it had done as told, and something of the application's kept it."""
        self.failed = None
        self._recycling, self._why, self._last_words = False, "", ""
        process, control = self._process, self._control = await spawn(self._module, self._fds)
        if self._killed:
            self.kill()
        control.send(self._spec)
        for message in self._told:
            control.send(message)
        listening = asyncio.create_task(self._listen(control), name=f"{self.name} line")
        exited = asyncio.create_task(process.wait(), name=f"{self.name} process")
        # What a child has forked may keep its line open, a thread that it has started the process itself.
        await asyncio.wait([listening, exited], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([listening, exited], timeout=_LAST_WORDS)
        lingers = not exited.done()
        if lingers:
            log.warning("process ended by force: a thread of the application kept it", name=self.name)
            process.kill()
        listening.cancel()
        code = await exited
        self.ready.clear()
        control.close()
        self._control = self._process = None
        return 0 if lingers and (self._told or self._recycling) else code

    async def _listen(self, control: Control) -> None:
        async for said in control.messages():
            match said:
                case Ready():
                    self.was_ready = True
                    self.ready.set()
                case Failed():
                    self.failed = said
                case Crashed(reason=reason):
                    self._last_words = reason
            self._on_message(self, said)

    async def _pause(self, seconds: float) -> None:
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
