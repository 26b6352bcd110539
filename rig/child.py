"""
How a child process of the supervisor begins: dies with its parent, takes its control socket, runs its loop.
"""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable

import uvloop

_PR_SET_PDEATHSIG = 1
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
    uvloop.run(_main(serve, sock))


async def _main(serve: Callable[[socket.socket], Awaitable[None]], sock: socket.socket) -> None:
    await serve(sock)
