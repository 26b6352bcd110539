"""The doorbell, as an eventfd and as a pipe."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.ring import Doorbell

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=[False, True], ids=["eventfd", "pipe"])
def doorbell(request: pytest.FixtureRequest) -> Iterator[Doorbell]:
    doorbell = Doorbell.create(pipe=request.param)
    yield doorbell
    doorbell.close()


def is_ringing(doorbell: Doorbell) -> bool:
    """Say whether a consumer that waits would wake up."""
    return bool(select.select([doorbell.fd], [], [], 0)[0])


def test_ring_wakes_until_cleared(doorbell: Doorbell) -> None:
    """A doorbell is silent, rings, and is silent again after the clearing."""
    assert not is_ringing(doorbell)
    doorbell.ring()
    assert is_ringing(doorbell)

    doorbell.clear()

    assert not is_ringing(doorbell)


def test_clear_counts_the_rings(doorbell: Doorbell) -> None:
    """Rings add up while nobody listens; without any, clearing is harmless."""
    for _ in range(3):
        doorbell.ring()

    assert (doorbell.clear(), doorbell.clear()) == (3, 0)


def test_ring_never_blocks(doorbell: Doorbell) -> None:
    """More rings than a pipe holds neither block nor fail, and one clearing is enough."""
    for _ in range(70_000):
        doorbell.ring()

    assert doorbell.clear() >= 65536
    assert not is_ringing(doorbell)


def test_ring_of_an_eventfd_at_its_limit_is_no_error() -> None:
    """A counter that cannot count further rings already."""
    doorbell = Doorbell.create()
    os.eventfd_write(doorbell.fd, 2**64 - 2)

    doorbell.ring()

    assert is_ringing(doorbell)
    doorbell.close()


def test_ring_with_nobody_left_is_no_error() -> None:
    """A producer survives that its consumer has closed the pipe."""
    doorbell = Doorbell.create(pipe=True)
    listener = Doorbell.attach(*(os.dup(fd) for fd in doorbell.fds))
    os.close(doorbell.fd)
    os.close(listener.fd)

    doorbell.ring()

    os.close(doorbell.fds[1])
    os.close(listener.fds[1])


def test_descriptors_are_not_inherited_by_accident(doorbell: Doorbell) -> None:
    """Only who is passed the descriptors has them; whoever attaches them passes them on no further."""
    copies = [os.dup(fd) for fd in doorbell.fds]
    for fd in copies:
        os.set_inheritable(fd, True)

    attached = Doorbell.attach(*copies)

    assert not any(os.get_inheritable(fd) for fd in (*doorbell.fds, *attached.fds))
    attached.close()


def test_child_rings_its_parent(doorbell: Doorbell) -> None:
    """A process started by exec rings by the descriptors that it was passed."""
    code = "import sys; from rig.ring import Doorbell; Doorbell.attach(*map(int, sys.argv[1:])).ring()"
    arguments = [sys.executable, "-c", code, *map(str, doorbell.fds)]

    subprocess.run(arguments, pass_fds=doorbell.fds, cwd=ROOT, check=True, timeout=30)

    assert doorbell.clear() == 1


def test_pipe_stands_in_where_eventfd_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without eventfds a doorbell has two descriptors."""
    monkeypatch.delattr(os, "eventfd", raising=False)

    doorbell = Doorbell.create()

    assert len(doorbell.fds) == 2
    doorbell.close()


@pytest.mark.parametrize("fds", [(), (0, 1, 2)])
def test_number_of_descriptors_is_checked(fds: tuple[int, ...]) -> None:
    """A doorbell has one descriptor or two."""
    with pytest.raises(ValueError, match="one descriptor or two"):
        Doorbell(fds)


def test_close_gives_the_descriptors_back(doorbell: Doorbell) -> None:
    """After the close nothing is open, and a second close does nothing."""
    fds = doorbell.fds

    doorbell.close()
    doorbell.close()

    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        doorbell.ring()
