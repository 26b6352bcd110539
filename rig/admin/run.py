"""What the admin API needs of a run, and what is said there."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec


class Rotation(msgspec.Struct, frozen=True):
    """
    What became of the hand-over of one io process.

    Attributes:
        name: Of the io process.
        endpoint: Where its connection is now.
        topics: How many were taken along.
        seconds: How long it took.
        failure: Why the connection stayed; empty if it did not.
    """

    name: str
    endpoint: str
    topics: int
    seconds: float
    failure: str


class TopicState(msgspec.Struct, frozen=True):
    """
    Where a topic stands.

    Attributes:
        topic: Its name.
        state: `joined`, `joining`, `errored` (it is joined again later), `leaving` or `closed`.
        io: The io process that has it.
    """

    topic: str
    state: str
    io: str


class Dump(msgspec.Struct, frozen=True):
    """
    Where the flight recorder of one io process was written to.

    Attributes:
        name: Of the io process.
        path: The file; empty if there is none.
        error: Why there is none.
    """

    name: str
    path: str
    error: str


class Run(Protocol):
    """A run, as the supervisor offers it."""

    def status(self) -> Mapping[str, Any]:
        """Return where it stands, as plain objects."""

    async def topics(self) -> Sequence[TopicState]:
        """Return where all topics stand; of an io process that does not answer, none."""

    async def rotate(self) -> Sequence[Rotation]:
        """Hand over to another connection in every io process, and return what has come of it when all are done."""

    async def dump_flight(self) -> Sequence[Dump]:
        """Write down what the flight recorder of every io process holds, and return where."""
