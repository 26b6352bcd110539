"""
What is written down of a stalled worker: where its threads and its tasks stand, in a file of its own, which a line in the
log names.

The stacks of the threads come by a signal, so they are there even if the loop is blocked; the tasks tell of themselves where
the loop lives. A process that a signal has stopped can do neither, and that is said. What must stay true: the folder is
private, and only the newest files are kept; no value of a variable is in them.
"""

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path

import structlog

from rig.child import STACKS_SIGNAL
from rig.control import DumpStacks, Stacks
from rig.private import keep_newest
from rig.supervisor.child import Child
from rig.supervisor.watchdog import Stall

KEPT = 20
"""Files in the folder."""
_ANSWER = 1.0
"""Seconds that a worker has to say where it stands."""
_LOOK = 0.02
_QUIET = 3
"""Looks in a row at which nothing more was written: then the stacks are complete."""
_MOST_BYTES = 1024 * 1024
_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>.+)$', re.MULTILINE)
_LANE, _BINDING = (os.path.join("rig", "worker", name) for name in ("lane.py", "binding.py"))
"""What stands between the loop and a handler. An application may have files of these names, in other folders."""
_HANDLING = "_handle_list"
"""The function of a lane that calls handlers."""

log = structlog.get_logger()


class Stalls:
    """Reports stalls, and restarts the worker if that is wanted."""

    def __init__(self, folder: Path, stacks: dict[Child, int], *, restart: bool) -> None:
        """
        Describe where to.

        Args:
            folder: For the files; made when there is one.
            stacks: For each worker the file to which the stacks of its threads go.
            restart: True has a stalled worker killed after its report.
        """
        self._folder, self._stacks, self._restart = folder, stacks, restart
        self._answers: dict[Child, Stacks] = {}
        self._reporting: dict[Child, asyncio.Task[None]] = {}

    def report(self, stall: Stall) -> None:
        """Begin to report; the worker may be blocked, so nothing waits for it."""
        if stall.child not in self._reporting:
            task = self._reporting[stall.child] = asyncio.create_task(self._report(stall), name=f"stall of {stall.child.name}")
            task.add_done_callback(lambda _: self._reporting.pop(stall.child, None))

    def heard(self, child: Child, stacks: Stacks) -> None:
        """Take what a worker says of its tasks."""
        self._answers[child] = stacks

    async def close(self) -> None:
        """Give up the reports that are not finished."""
        tasks = list(self._reporting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _report(self, stall: Stall) -> None:
        child = stall.child
        self._answers.pop(child, None)
        child.ask(DumpStacks())
        threads = await self._threads(child)
        answer = self._answers.pop(child, None)
        stopped = _is_stopped(stall.pid)
        handlers = answer.handlers if answer else [found] if (found := handler_of(threads)) else []
        text = _compose(stall, threads, answer, stopped=stopped)
        log.error(
            "a worker handles nothing",
            name=child.name,
            seconds=round(stall.seconds, 1),
            handler=", ".join(handlers) or ("unknown: a signal has stopped the process" if stopped else "unknown"),
            file=self._write(child, text),
            action="restart" if self._restart else "report",
        )
        if self._restart and child.pid == stall.pid:
            child.replace(f"it handled nothing for {stall.seconds:.0f} s")

    async def _threads(self, child: Child) -> str:
        """Have the stacks of the threads written, and return them; nothing if the process does not run."""
        fd = self._stacks[child]
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        child.signal(STACKS_SIGNAL)
        size, quiet, until = 0, 0, time.monotonic() + _ANSWER
        while time.monotonic() < until and not (quiet >= _QUIET and child in self._answers):
            await asyncio.sleep(_LOOK)
            grown = os.fstat(fd).st_size
            quiet = quiet + 1 if grown == size and grown else 0
            size = grown
        return os.pread(fd, min(size, _MOST_BYTES), 0).decode(errors="replace")

    def _write(self, child: Child, text: str) -> str:
        """Write a file, delete the oldest that are too many, and return its path, or why there is none."""
        try:
            return str(keep_newest(self._folder.resolve(), f"{child.name}.txt", text, count=KEPT))
        except OSError as exc:
            return f"not written: {exc.strerror or exc}"


def handler_of(threads: str) -> str:
    """
    Find the handler that blocks the loop in the stacks of all threads, most recent call first; nothing if none does.

    Args:
        threads: As faulthandler writes them.

    Raises:
        Nothing.
    """
    for thread in threads.split("\n\n"):
        called: re.Match[str] | None = None
        for frame in _FRAME.finditer(thread):
            if frame["file"].endswith(_LANE) and frame["name"] == _HANDLING:
                return f"{called['name']} ({os.path.basename(called['file'])}:{called['line']})" if called else ""
            if not frame["file"].endswith((_LANE, _BINDING)):
                called = frame
    return ""


def _compose(stall: Stall, threads: str, answer: Stacks | None, *, stopped: bool) -> str:
    silence = "The process is stopped by a signal." if stopped else "There was no answer: the loop is blocked."
    handlers = "".join(f"  {handler}\n" for handler in answer.handlers) if answer else f"  {handler_of(threads) or 'unknown'}\n"
    return (
        f"{stall.child.name}, process {stall.pid}, has handled nothing for {stall.seconds:.1f} s, "
        f"at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}.\n\n"
        f"Handlers in hand:\n{handlers}\n"
        f"Tasks:\n{answer.text if answer else silence + chr(10)}\n"
        f"Threads:\n{threads or silence + chr(10)}"
    )


def _is_stopped(pid: int) -> bool:
    """
    Return True if a signal has stopped a process; False too where the system does not tell.

    Source: Linux, proc_pid_stat(5).
    """
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] in ("T", "t")
    return False
