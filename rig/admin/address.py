"""
Where the admin socket of a state directory is: `admin.sock` in it, for its owner alone.

The address of a Unix socket has room for 107 bytes, and paths can be longer. Linux can name a folder by a descriptor of it, which
is short; where a system cannot, such a path is an error that says so.

Source: unix(7), "Pathname sockets"; proc(5), /proc/self/fd.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 107
_BY_DESCRIPTOR = Path("/proc/self/fd")
_BACKLOG = 16
_NAME = "admin.sock"


def socket_path(directory: Path) -> Path:
    """Return where the socket of a state directory is."""
    return directory / _NAME


@contextmanager
def address(directory: Path) -> Iterator[str]:
    """
    Give what to bind or to connect to, good until the end of the context.

    Raises:
        OSError: If the directory is not there, or its path is too long for this system.
    """
    path = str(socket_path(directory))
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    if not _BY_DESCRIPTOR.is_dir():
        raise OSError(f"the path has more than {_LONGEST} bytes, and this system has no other name for it")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"{_BY_DESCRIPTOR}/{fd}/{_NAME}"
    finally:
        os.close(fd)


def listen(directory: Path) -> socket.socket:
    """
    Listen on the socket of a state directory, which must be ours alone: whatever has that name is left over, and goes.

    Raises:
        OSError: If the directory cannot hold a socket.
    """
    with contextlib.suppress(FileNotFoundError):
        socket_path(directory).unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # Linux makes the file with the mode of the socket: it is never open to others
        with address(directory) as name:
            listener.bind(name)
        socket_path(directory).chmod(0o600)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def answers(directory: Path) -> bool:
    """Return True if somebody listens there."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address(directory) as name:
            probe.connect(name)
    except OSError:
        return False
    finally:
        probe.close()
    return True
