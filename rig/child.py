"""
How a child process of the supervisor begins: passes over signals, dies with its parent, takes its control socket and its
rings, runs its loop.

SIGINT and SIGTERM go to every process where a terminal or a service manager sends them; only the supervisor acts on them. From
its first instruction on a child ignores them, because the supervisor starts it so; here that becomes a handler that does nothing,
because what is ignored would be ignored by the programs, too, that the user's handlers start.
"""

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from types import FrameType

import uvloop

from rig.control import Crashed, RingFds, encode
from rig.log import mask
from rig.ring import Doorbell, RingMemory

STACKS_SIGNAL = signal.SIGQUIT
"""Has a worker write the stacks of its threads, as it does elsewhere: to a JVM, to Go."""
_PR_SET_PDEATHSIG = 1
_PASSED_OVER = (signal.SIGINT, signal.SIGTERM)
_GC_THRESHOLD = 200_000
_REASON_LIMIT = 200
"""Characters of an exception that the supervisor hears."""
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
    if die_with_parent:
        end_with_parent()
    for number in _PASSED_OVER:
        signal.signal(number, _pass_over)
    words = sock.dup()
    try:
        uvloop.run(_main(serve, sock))
    except Exception as exc:
        _say_why(words, exc)
        raise
    finally:
        words.close()


def end_with_parent(parent: int | None = None) -> None:
    """
    Have the kernel kill this process when its parent is gone; only Linux does.

    Args:
        parent: Its number, for a process that its parent may leave before this is called; None asks who it is.

    Source: Linux, PR_SET_PDEATHSIG(2const).
    """
    if sys.platform == "linux":
        parent = os.getppid() if parent is None else parent
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(0)


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

    Connections do, with a read buffer in each: whoever has them calls `collect_garbage` when one has ended.

    Raises:
        Nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)


def collect_garbage() -> None:
    """
    Collect now what was not frozen; that is little, so that this takes a millisecond or two.

    Raises:
        Nothing.
    """
    gc.collect()


def _say_why(line: socket.socket, exc: Exception) -> None:
    """Tell the supervisor in one line what everybody else reads in the traceback."""
    trace, where = exc.__traceback__, ""
    while trace is not None:
        where = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    first = str(exc).partition("\n")[0][:_REASON_LIMIT]
    with contextlib.suppress(OSError):  # the supervisor is gone, or does not read
        line.setblocking(False)
        line.send(encode(Crashed(mask(f"{type(exc).__name__}: {first}") + where)))


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Do nothing: the supervisor decides when this process ends."""


async def _main(serve: Callable[[socket.socket], Awaitable[None]], sock: socket.socket) -> None:
    await serve(sock)
