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

import structlog

from rig.backoff import restart_delay
from rig.control import Control, DescribeSpec, Drain, Failed, FromChild, IoSpec, Ready, Stop, WorkerSpec

_GOOD_LIFE = 10.0
"""Seconds alive after which a death counts as the first again."""
_KEEP_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_TOP_PAD_": str(4 << 20)}
"""For glibc: a batch's memory is used again by the next, instead of going back to the kernel and being asked for anew."""

log = structlog.get_logger()


async def spawn(module: str, fds: Sequence[int]) -> tuple[asyncio.subprocess.Process, Control]:
    """Start `python -m module`, with these descriptors inherited, and return it with our end of its control line."""
    ours, theirs = socket.socketpair()
    try:
        # -P: what lies in the current directory must not shadow what rig imports.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            module,
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), *fds),
            env={**_KEEP_HEAP, **os.environ},
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, await Control.open(ours, child=False)


class Child:
    """
    A process that is there until it is told to go.

    Attributes:
        name: For the log: "io", "worker-0".
        restarts: How often it was started again.
        failed: Why it could not start, if it said so before it was ever ready.
    """

    def __init__(
        self,
        name: str,
        module: str,
        spec: IoSpec | WorkerSpec | DescribeSpec,
        fds: Sequence[int],
        on_message: Callable[["Child", FromChild], None],
    ) -> None:
        """
        Describe a child; `keep` runs it.

        Args:
            name: For the log.
            module: Run as `python -m`.
            spec: The first line on its control socket.
            fds: Descriptors that it inherits.
            on_message: Gets what it says.
        """
        self.name, self._module, self._spec, self._fds, self._on_message = name, module, spec, fds, on_message
        self._process: asyncio.subprocess.Process | None = None
        self._control: Control | None = None
        self._told: list[Drain | Stop] = []
        self._killed = False
        self.restarts = 0
        self.failed: Failed | None = None
        self.ready = asyncio.Event()
        self.was_ready = False

    @property
    def pid(self) -> int | None:
        """The process's number, None while there is none."""
        return None if self._process is None else self._process.pid

    def tell(self, message: Drain | Stop) -> None:
        """Tell it now, and every successor too."""
        self._told.append(message)
        if self._control is not None:
            self._control.send(message)

    def kill(self) -> None:
        """End it at once and for good."""
        self._killed = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    async def keep(self) -> None:
        """Start it, and start it again when it dies; return when it has ended as told, failed to start, or was killed."""
        deaths = 0
        while not self._killed:
            started = time.monotonic()
            code = await self._live()
            if self._killed or (code == 0 and self._told) or (self.failed is not None and not self.was_ready):
                return
            deaths = 1 if time.monotonic() - started > _GOOD_LIFE else deaths + 1
            delay = restart_delay(deaths)
            log.error("process died, and is started again", name=self.name, how=_describe(code), delay=delay)
            self.restarts += 1
            await asyncio.sleep(delay)

    async def _live(self) -> int:
        self.failed = None
        self._process, self._control = await spawn(self._module, self._fds)
        if self._killed:
            self.kill()
        self._control.send(self._spec)
        for message in self._told:
            self._control.send(message)
        async for said in self._control.messages():
            match said:
                case Ready():
                    self.was_ready = True
                    self.ready.set()
                case Failed():
                    self.failed = said
            self._on_message(self, said)
        self.ready.clear()
        code = await self._process.wait()
        self._control.close()
        self._control = self._process = None
        return code


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
