"""
Where a worker stands, told from inside: its threads on a signal, even while the loop is blocked, its tasks where the loop
lives.

Files, lines and names of functions; no value of any variable but the topic and the event.
Source: faulthandler; PEP 492, `cr_await`.
"""

import asyncio
import faulthandler
import os
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from rig.child import STACKS_SIGNAL
from rig.control import Stacks
from rig.worker import binding, lane

_OURS = (lane.__file__, binding.__file__)


def answer_signal(fd: int) -> None:
    """
    Write the stacks of all threads to a file whenever the signal comes.

    Args:
        fd: The file; it stays open.
    """
    os.set_inheritable(fd, False)
    faulthandler.register(STACKS_SIGNAL, file=fd, all_threads=True, chain=False)


def describe_tasks(lanes: Sequence["asyncio.Task[None]"]) -> Stacks:
    """
    Return what the tasks of this loop wait for.

    Args:
        lanes: Those of the lanes.

    Raises:
        Nothing.
    """
    handlers = [found for task in lanes if (found := _in_hand(task)) is not None]
    others = sorted((task for task in asyncio.all_tasks() if task not in lanes), key=lambda task: task.get_name())
    text = "".join(_describe(task) for task in (*lanes, *others))
    return Stacks(handlers, text)


def _in_hand(task: "asyncio.Task[None]") -> str | None:
    """Return the handler that a lane is busy with, its event and its line; None for a lane that waits for events."""
    frames = list(_frames(task.get_coro()))
    call = next((frame.f_locals.get("call") for frame in frames if frame.f_code is lane.Lane._handle_list.__code__), None)
    if call is None:
        return None
    inside = next((frame for frame in frames if frame.f_code.co_filename not in _OURS), None)
    return f"{call.route.name} ({call.topic} {call.event}{f', {_place(inside)}' if inside is not None else ''})"


def _describe(task: "asyncio.Task[Any]") -> str:
    lines = [f'  File "{f.f_code.co_filename}", line {f.f_lineno} in {f.f_code.co_name}\n' for f in _frames(task.get_coro())]
    return f"Task {task.get_name()} (most recent call last):\n{''.join(lines) or '  not in Python code'}\n"


def _frames(waiting: Any) -> Iterator[FrameType]:
    """Yield the frames of a suspended coroutine, from the outermost to the one that waits."""
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            yield frame
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)


def _place(frame: FrameType) -> str:
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
