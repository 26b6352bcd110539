"""Where a worker stands, told from inside."""

import asyncio
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rig.app import App, Event
from rig.child import STACKS_SIGNAL
from rig.worker.stacks import answer_signal, describe_tasks
from tests.worker.handlers import BY_LANE, turns


@pytest.fixture
def file() -> Iterator[int]:
    """Give a file that the stacks go to."""
    fd = os.memfd_create("stacks")
    yield fd
    faulthandler.unregister(STACKS_SIGNAL)
    os.close(fd)


def test_the_signal_writes_the_stacks_of_all_threads(file: int) -> None:
    """Even of one that is blocked outside of Python; the process goes on, and what it starts gets neither file nor handler."""
    answer_signal(file)
    for _ in range(2):
        os.kill(os.getpid(), STACKS_SIGNAL)
    text = os.pread(file, 100_000, 0).decode()

    assert text.count("in test_the_signal_writes_the_stacks_of_all_threads\n") == 2
    assert not os.get_inheritable(file)


def test_a_blocked_call_is_interrupted_for_it_and_goes_on(file: int) -> None:
    """The handler does not notice."""
    answer_signal(file)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    previous = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), STACKS_SIGNAL))
    try:
        started = time.monotonic()
        time.sleep(0.2)
        assert time.monotonic() - started >= 0.2
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert b"test_stacks.py" in os.pread(file, 100_000, 0)


def test_tasks_tell_what_they_wait_for(bench: Any, run: Callable[..., None]) -> None:
    """Handlers by name, event and line, through whatever they await; lanes that wait for events have none."""
    app = App()
    never = threading.Event()

    async def deep() -> None:
        await asyncio.sleep(3600)

    @app.on("room:*", "stuck", timeout=60)
    async def stuck(event: Event[Any]) -> None:
        await deep()

    @app.on("room:*", "threaded")
    def threaded(event: Event[Any]) -> None:
        never.wait()

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish((BY_LANE[0], "stuck", {"secret": "hush"}), (BY_LANE[1], "threaded", {}))
        await turns()
        found = describe_tasks(worker.tasks)
        never.set()
        await worker.die()

        line = stuck.__code__.co_firstlineno + 2
        assert found.handlers == [
            f"{app.routes[0].name} ({BY_LANE[0]} stuck, test_stacks.py:{line})",
            f"{app.routes[1].name} ({BY_LANE[1]} threaded)",
        ]
        assert f'test_stacks.py", line {line} in stuck\n' in found.text
        assert f'test_stacks.py", line {deep.__code__.co_firstlineno + 1} in deep\n' in found.text
        assert found.text.count("Task ") == len(worker.tasks) + 1
        assert "hush" not in found.text

    run(main)
