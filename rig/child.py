"""
How a child process of the supervisor begins: passes over signals, dies with its parent, takes its control socket and its
rings, runs its loop.

SIGINT and SIGTERM go to every process where a terminal or a service manager sends them; only the supervisor acts on them. From
its first instruction on a child ignores them, because the supervisor starts it so; here that becomes a handler that does nothing,
because what is ignored would be ignored by the programs, too, that the user's handlers start.
"""

import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from types import FrameType

import uvloop

from rig.control import RingFds
from rig.ring import Doorbell, RingMemory

_PR_SET_PDEATHSIG = 1
_PASSED_OVER = (signal.SIGINT, signal.SIGTERM)
_GC_THRESHOLD = 200_000
_USAGE = "this is started by `rig run`, with the descriptor of a control socket: use rig run"


def run(serve: Callable[[socket.socket], Awaitable[None]], *, die_with_parent: bool) -> None:
    """
    Run a child's main coroutine on the control socket whose descriptor is the first argument.

    Args:
        serve: Takes the socket; the process ends with it.
        die_with_parent: True has the kernel kill this process with its parent, for one whose loop may be blocked by user
            code; else the end of the control stream is enough.
    """
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(_USAGE)
    try:
        sock = socket.socket(fileno=int(sys.argv[1]))
    except OSError:
        sys.exit(_USAGE)
    sock.set_inheritable(False)  # what the user's code starts must not hold the line open when this process is gone
    if die_with_parent and sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(0)
    for number in _PASSED_OVER:
        signal.signal(number, _pass_over)
    uvloop.run(_main(serve, sock))


def attach(fds: RingFds) -> tuple[RingMemory, Doorbell]:
    """
    Take the ring whose descriptors the supervisor has passed on, and its doorbell.

    Raises:
        ValueError: If they are not those of a ring.
        OSError: If they are no descriptors of this process.
    """
    return RingMemory.attach(fds.memory), Doorbell.attach(*fds.bell)


def settle_garbage_collector() -> None:
    """
    Leave what is loaded out of every collection, and collect rarely: events make no cycles.

    Raises:
        Nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Do nothing: the supervisor decides when this process ends."""


async def _main(serve: Callable[[socket.socket], Awaitable[None]], sock: socket.socket) -> None:
    await serve(sock)
