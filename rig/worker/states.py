"""
The application's `on_state` callbacks: called one after the other, in the order of the changes, in a task of their own.

What must stay true: whatever a callback does, no event waits for it, and the next change is told all the same.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Sequence

import structlog

from rig.app import State, StateCallback
from rig.records import decode_state

_MOST_WAITING = 1000
"""Changes that wait for a callback that does not end; of more, the oldest are passed over."""
_LAST_CALLS = 2.0
"""Seconds that callbacks may take once the worker ends."""

log = structlog.get_logger()


class StateCallbacks:
    """Those of one worker."""

    def __init__(self, callbacks: Sequence[StateCallback]) -> None:
        """Call nothing yet; `callbacks` are in the order in which they are called."""
        self._callbacks = callbacks
        self._waiting: deque[State] = deque(maxlen=_MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def put(self, payload: bytes) -> None:
        """Take a STATE record."""
        if not self._callbacks:
            return
        self._waiting.append(decode_state(payload))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="on_state")

    async def close(self) -> None:
        """Let the callbacks hear of what has come, for a moment."""
        if self._task is None:
            return
        _, late = await asyncio.wait([self._task], timeout=_LAST_CALLS)
        if late:
            log.warning("an on_state callback does not end, and is given up")
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_LAST_CALLS)

    async def _run(self) -> None:
        while self._waiting:
            state = self._waiting.popleft()
            for callback in self._callbacks:
                try:
                    await _call(callback, state)
                except Exception:
                    log.exception("an on_state callback raised", callback=getattr(callback, "__qualname__", repr(callback)))


async def _call(callback: StateCallback, state: State) -> None:
    """Call an async function here, and a plain one in a thread that is not one of the handlers'."""
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None)):  # noqa: B004
        result = callback(state)
    else:
        result = await asyncio.to_thread(callback, state)
    if inspect.isawaitable(result):
        await result
