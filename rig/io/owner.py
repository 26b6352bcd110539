"""
Whose rows in spill.db are whose.

All io processes of a run share the file, and a later run finds there what an earlier one has left. So a row stands under a number
made of three: what the run has drawn, which of its io processes, which of its workers.
"""

from typing import NamedTuple

_IO_BITS, _WORKER_BITS = 12, 12


class Owner(NamedTuple):
    """
    One io process of one run.

    Attributes:
        run: The number that the run has drawn.
        io: Which of its io processes.
        io_processes: How many it has.
    """

    run: int
    io: int
    io_processes: int

    def address(self, worker: int) -> int:
        """Return the number that rows for one of our workers stand under."""
        return (self.run << _IO_BITS | self.io) << _WORKER_BITS | worker

    def owns(self, address: int) -> bool:
        """Return True for rows that this io process, or a predecessor in the same run, has stored."""
        return address >> _WORKER_BITS == self.address(0) >> _WORKER_BITS

    def inherits(self, address: int) -> bool:
        """Return True for rows of another run that fall to us: those of the io process with our number, if there are as many."""
        run, io = divmod(address >> _WORKER_BITS, 1 << _IO_BITS)
        return run != self.run and io % self.io_processes == self.io

    @staticmethod
    def worker(address: int) -> int:
        """Return which worker it is."""
        return address & (1 << _WORKER_BITS) - 1
