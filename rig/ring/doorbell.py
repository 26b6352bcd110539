"""
What wakes the consumer of a ring that is asleep.

The producer rings after it has published; the consumer waits until `fd` is readable, clears the doorbell and polls until nothing
is pending. In that order: a ring between the clearing and the poll wakes it once more for nothing, the other order would lose one.
An eventfd is one descriptor for both ends; where it is missing a pipe stands in, and a full pipe is as good as a ring.

Source: eventfd(2), pipe(7).
"""

import contextlib
import os
import sys

_CHUNK = 65536


class Doorbell:
    """
    An eventfd, or a pipe, that outlives the processes at its ends because their parent keeps it.

    Attributes:
        fd: What to wait for: readable when the doorbell was rung and not cleared.
        fds: What to pass on to a child (`pass_fds`), and there to `attach`: one descriptor, or two of a pipe.
    """

    __slots__ = ("_is_pipe", "_token", "_write_fd", "fd", "fds")

    def __init__(self, fds: tuple[int, ...]) -> None:
        """
        Use open descriptors; callers use `create` or `attach`.

        Args:
            fds: An eventfd, or the reading and the writing end of a pipe; owned from now on.

        Raises:
            ValueError: If there are neither one nor two.
        """
        if len(fds) not in (1, 2):
            raise ValueError(f"a doorbell has one descriptor or two, not {len(fds)}")
        self.fds = fds
        self.fd = fds[0]
        self._write_fd = fds[-1]
        self._is_pipe = len(fds) == 2
        self._token = b"\0" if self._is_pipe else (1).to_bytes(8, sys.byteorder)

    @classmethod
    def create(cls, *, pipe: bool = False) -> "Doorbell":
        """
        Make a doorbell that nobody has rung.

        Args:
            pipe: Use a pipe even where there are eventfds.

        Raises:
            OSError: If the system has no descriptor left.
        """
        if pipe or not hasattr(os, "eventfd"):
            fds = os.pipe()
            for fd in fds:
                os.set_blocking(fd, False)
            return cls(fds)
        return cls((os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),))

    @classmethod
    def attach(cls, *fds: int) -> "Doorbell":
        """
        Use a doorbell that the parent made: `Doorbell.attach(*fds)` with what `fds` was there.

        Args:
            fds: The inherited descriptors. They are made non-inheritable, so that they go no further by accident.

        Raises:
            OSError: If one of them is not open.
            ValueError: If there are neither one nor two.
        """
        for fd in fds:
            os.set_inheritable(fd, False)
        return cls(fds)

    def ring(self) -> None:
        """
        Wake the consumer. Never blocks.

        Raises:
            OSError: If the doorbell is closed.
        """
        try:
            os.write(self._write_fd, self._token)
        except (BlockingIOError, BrokenPipeError):
            return  # it rings already; or there is nobody to wake

    def clear(self) -> int:
        """
        Make it silent and return how often it was rung since the last time; a full pipe counts no further.

        Raises:
            OSError: If the doorbell is closed.
        """
        if not self._is_pipe:
            try:
                return os.eventfd_read(self.fd)
            except BlockingIOError:
                return 0
        rung = 0
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.fd, _CHUNK):
                rung += len(chunk)
        return rung

    def close(self) -> None:
        """
        Close the descriptors of this process. A second call does nothing.

        Raises:
            OSError: If somebody else has closed them.
        """
        fds, self.fds = self.fds, ()
        self.fd = self._write_fd = -1
        for fd in fds:
            os.close(fd)
