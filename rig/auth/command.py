"""
`command:CMD`: a program that prints a token, such as `gcloud auth print-access-token`.

What must stay true: no shell; nothing that it printed gets into a message, but for the last line of its stderr; of its own
command line only the first word does; when this gives up on it, its whole process group is gone.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from typing import IO

from rig.auth.answer import read_answer
from rig.auth.token import Token
from rig.errors import ConfigError, TokenUnavailable

_MOST_OUTPUT_BYTES = 256 * 1024
_TAIL_BYTES = 4 * 1024
_CHUNK_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 200
_DYING = 2.0
"""Seconds that a killed program may take to be gone."""
_WORD_OF_A_TOKEN = 8
"""Words of stdout from this length on are cut out of what is shown of stderr."""


class CommandProvider:
    """Runs the program anew each time."""

    def __init__(self, command: str, *, timeout: float) -> None:
        """
        Take the command apart.

        Args:
            command: As for a shell, with quotes, but run without one.
            timeout: Seconds until it is killed.

        Raises:
            ConfigError: If the quotes do not fit, or it begins with the setting of a variable.
        """
        try:
            self._arguments = shlex.split(command)
        except ValueError:
            self._arguments = []
        if not self._arguments or "\0" in command:
            raise ConfigError("the command of --auth cannot be taken apart: check its quotes")
        if "=" in self._arguments[0]:
            raise ConfigError(
                "the command of --auth is run without a shell: put VARIABLE=value into the environment, or write a script"
            )
        self._timeout = timeout
        self.name = f"command:{self._arguments[0]}"

    async def fetch(self) -> Token:
        """
        Run the program and read what it prints.

        Raises:
            TokenUnavailable: If it cannot be started, fails, takes too long, or prints no token.
        """
        asked_at = time.time()
        process = self._start()
        try:
            async with asyncio.timeout(self._timeout):
                output, complaint = await asyncio.gather(_head(process.stdout), _tail(process.stderr))
                if (code := await asyncio.to_thread(_wait, process, self._timeout)) is None:
                    raise TimeoutError
        except TimeoutError:
            await _kill(process)
            raise TokenUnavailable(self.name, f"no answer within {self._timeout:g} s: raise --auth-timeout, or see why") from None
        except BaseException:
            await _kill(process)
            raise
        finally:
            _close(process)
        if len(output) > _MOST_OUTPUT_BYTES:
            raise TokenUnavailable(self.name, f"it printed more than {_MOST_OUTPUT_BYTES // 1024} KiB: that is no token")
        if code:
            raise TokenUnavailable(self.name, f"it ended with {_ending(code)}{_last_line(complaint, output)}")
        return read_answer(output, provider=self.name, now=asked_at)

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            # Not asyncio's: uvloop leaves descriptors open in what it starts, such as the other ends of these pipes, so that
            # whatever the program leaves behind would keep them from ending.
            return subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as exc:
            raise TokenUnavailable(self.name, f"it cannot be started ({exc.strerror}): check its name and PATH") from None


async def _head(pipe: IO[bytes] | None) -> bytes:
    """Read to the end, but keep no more than shows that it was too much."""
    kept = bytearray()
    async for chunk in _chunks(pipe):
        kept += chunk[: _MOST_OUTPUT_BYTES + 1 - len(kept)]
    return bytes(kept)


async def _tail(pipe: IO[bytes] | None) -> bytes:
    tail = b""
    async for chunk in _chunks(pipe):
        tail = (tail + chunk)[-_TAIL_BYTES:]
    return tail


async def _chunks(pipe: IO[bytes] | None) -> AsyncIterator[bytes]:
    if pipe is None:
        return
    loop, descriptor, readable = asyncio.get_running_loop(), pipe.fileno(), asyncio.Event()
    os.set_blocking(descriptor, False)
    loop.add_reader(descriptor, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                if not (chunk := os.read(descriptor, _CHUNK_BYTES)):
                    return
                yield chunk
    finally:
        loop.remove_reader(descriptor)


async def _kill(process: "subprocess.Popen[bytes]") -> None:
    # The group outlives its first process where that one has left children; they may hold the pipes.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if await asyncio.to_thread(_wait, process, _DYING) is None:
        # It runs as another user, say. Its end is waited for where nobody else waits.
        threading.Thread(target=process.wait, name="rig-command", daemon=True).start()


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    """Return the exit code, None if there is none in time: a thread that waits for ever would keep the loop from closing."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def _close(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _last_line(complaint: bytes, output: bytes) -> str:
    lines = [line for line in complaint.decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    line = lines[-1].strip()
    for word in output.decode(errors="replace").split():
        if len(word) >= _WORD_OF_A_TOKEN:
            line = line.replace(word, "***")
    shown = "".join(char if char.isprintable() else "?" for char in line)
    return f": {shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + '…'}"
