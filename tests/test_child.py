"""How a child process begins: on its control socket, with nothing that its own children could inherit."""

import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import uvloop

from rig import child
from rig.control import RingFds
from rig.ring import Consumer, Doorbell, Producer, RingMemory


@pytest.fixture
def control() -> Iterator[socket.socket]:
    """Give the supervisor's end; the child's is the argument of the command line, inheritable as `pass_fds` leaves it."""
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    sys.argv[:] = ["-m", str(theirs.detach())]
    yield ours
    ours.close()


@pytest.fixture(autouse=True)
def argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-m"])


class Libc:
    """Remembers what the kernel was asked for; `before` runs when it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, name: None, *, use_errno: bool) -> "Libc":
        return self

    def prctl(self, *arguments: int) -> int:
        self.asked.append(arguments)
        return 0


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> Libc:
    fake = Libc()
    monkeypatch.setattr(child.ctypes, "CDLL", fake)
    return fake


async def serve_once(sock: socket.socket) -> None:
    sock.send(b"served")
    sock.close()


def test_child_serves_its_control_socket(control: socket.socket) -> None:
    """The process runs its main coroutine on the socket that it inherited, and ends with it."""
    child.run(serve_once, die_with_parent=False)

    assert (control.recv(100), control.recv(100)) == (b"served", b"")


def test_control_socket_is_not_inherited_further(control: socket.socket) -> None:
    """What a handler starts must not hold the line open when the worker is gone: the supervisor waits for its end."""
    seen: list[bool] = []

    async def serve(sock: socket.socket) -> None:
        seen.append(sock.get_inheritable())
        sock.close()

    child.run(serve, die_with_parent=False)

    assert seen == [False]


def test_loop_is_uvloop(control: socket.socket) -> None:
    """Every process of ours runs on uvloop."""
    seen: list[Any] = []

    async def serve(sock: socket.socket) -> None:
        import asyncio

        seen.append(asyncio.get_running_loop())
        sock.close()

    child.run(serve, die_with_parent=False)

    assert isinstance(seen[0], uvloop.Loop)


@pytest.mark.parametrize("arguments", [[], ["x"], ["-1"], ["3", "4"], ["999999"]])
def test_started_by_hand_says_what_to_do(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who starts a child process by hand is told to use rig run."""
    monkeypatch.setattr(sys, "argv", ["-m", *arguments])

    with pytest.raises(SystemExit, match="use rig run"):
        child.run(serve_once, die_with_parent=False)


def test_descriptor_of_something_else_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that is an open descriptor but no socket is refused with the same sentence."""
    read, write = os.pipe()
    monkeypatch.setattr(sys, "argv", ["-m", str(read)])

    with pytest.raises(SystemExit, match="use rig run"):
        child.run(serve_once, die_with_parent=False)
    os.close(read)
    os.close(write)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_kernel_is_asked_to_kill_it_with_its_parent(control: socket.socket, libc: Libc) -> None:
    """A process that user code may block dies with the supervisor all the same."""
    child.run(serve_once, die_with_parent=True)

    assert libc.asked == [(1, signal.SIGKILL)]


def test_kernel_is_not_asked_without_need(control: socket.socket, libc: Libc) -> None:
    """For the io process the end of the control stream is enough."""
    child.run(serve_once, die_with_parent=False)

    assert libc.asked == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_parent_that_is_gone_already_is_noticed(control: socket.socket, libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that dies before the kernel was asked leaves no orphan."""
    parents = iter((100, 1))
    monkeypatch.setattr(child.os, "getppid", lambda: next(parents))

    code = None
    try:
        child.run(serve_once, die_with_parent=True)
    except SystemExit as ended:  # not `pytest.raises`, which would keep the socket for another test to find
        code = ended.code

    assert code == 0


def test_a_ring_and_its_doorbell_are_taken_by_their_descriptors() -> None:
    """What the supervisor's end has published is there, and the bell that it rang is heard."""
    memory, bell = RingMemory.create(64 * 1024), Doorbell.create()
    Producer(memory).put(b"hello", kind=1)
    bell.ring()

    ours, heard = child.attach(RingFds(os.dup(memory.fd), tuple(map(os.dup, bell.fds))))
    assert [bytes(record.payload) for record in Consumer(ours).poll()] == [b"hello"]
    assert select.select([heard.fd], [], [], 0)[0]

    for held in (ours, heard, memory, bell):
        held.close()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (RuntimeError("no luck\nat all"), "RuntimeError: no luck (test_child.py:{line})"),
        (KeyError("token=hush-hush"), "KeyError: 'token=***' (test_child.py:{line})"),
        (ValueError("x" * 5_000), "ValueError: " + "x" * 200 + " (test_child.py:{line})"),
    ],
)
def test_the_last_words_say_what_ended_it(control: socket.socket, fault: Exception, words: str) -> None:
    """The supervisor hears in one line what stands in the traceback, without secrets; the traceback is printed all the same."""

    async def serve(sock: socket.socket) -> None:
        sock.close()
        raise fault

    with pytest.raises(type(fault)):
        child.run(serve, die_with_parent=False)

    line = control.makefile("rb").readline()
    expected = words.format(line=serve.__code__.co_firstlineno + 2)
    assert msgspec.json.decode(line) == {"type": "crashed", "reason": expected}
    assert control.recv(1) == b"", "the line has ended"


def test_last_words_that_nobody_reads_keep_nobody(control: socket.socket) -> None:
    """A supervisor that is gone, or whose line is full, does not hide what went wrong."""

    async def serve(sock: socket.socket) -> None:
        control.close()
        sock.close()
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        child.run(serve, die_with_parent=False)
