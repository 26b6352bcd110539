"""
A timer that fires on time: uvloop's own timers count whole milliseconds, which is too coarse to measure latency with.

On Linux it is a timerfd watched by the loop; elsewhere the loop's timers have to do.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC if sys.platform == "linux" else 0


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Timer(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("first", _Timespec)]


class Ticker:
    """
    Calls `on_tick` every `interval_ns`, from `start_ns` (on the monotonic clock) until closed.

    A tick may come late and then stands for several: `on_tick` looks at the clock itself.
    """

    def __init__(self, start_ns: int, interval_ns: int, on_tick: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_tick = on_tick
        self._interval_ns = interval_ns
        self._next_ns = start_ns
        self._descriptor = _open_timer(start_ns, interval_ns) if sys.platform == "linux" else None
        self._handle: asyncio.TimerHandle | None = None
        if self._descriptor is not None:
            self._loop.add_reader(self._descriptor, self._fired)
        else:
            self._wait()

    def _fired(self) -> None:
        assert self._descriptor is not None
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        self._on_tick()

    def _wait(self) -> None:
        self._handle = self._loop.call_later(max(0, self._next_ns - time.monotonic_ns()) / 1e9, self._elapsed)

    def _elapsed(self) -> None:
        self._next_ns += self._interval_ns
        self._wait()
        self._on_tick()

    def close(self) -> None:
        """Stop ticking; a second call does nothing."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        if self._handle is not None:
            self._handle.cancel()


def _open_timer(start_ns: int, interval_ns: int) -> int | None:
    """Return a descriptor that becomes readable at every tick, or None where the system has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
    if descriptor < 0:
        return None
    timer = _Timer(_Timespec(*divmod(interval_ns, 10**9)), _Timespec(*divmod(start_ns, 10**9)))
    if libc.timerfd_settime(descriptor, _ABSOLUTE, ctypes.byref(timer), None) != 0:
        os.close(descriptor)
        return None
    return descriptor
