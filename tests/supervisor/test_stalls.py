"""What is written down of a stalled worker."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import structlog

from rig.child import STACKS_SIGNAL
from rig.control import DumpStacks, Stacks
from rig.supervisor.memory import SharedMemory
from rig.supervisor.stalls import KEPT, Stalls, handler_of
from rig.supervisor.watchdog import Stall
from tests.running import run
from tests.supervisor.team import FakeChild, team

THREADS = """Thread 0x00007f1 (most recent call first):
  File "/usr/lib/python3.11/selectors.py", line 468 in select
  File "/srv/app.py", line 7 in helper

Thread 0x00007f2 (most recent call first):
  File "/usr/lib/python3.11/socket.py", line 706 in readinto
  File "/srv/shop.py", line 31 in fetch
  File "/srv/shop.py", line 12 in sold
  File "/srv/rig/worker/binding.py", line 170 in _limited
  File "/srv/rig/worker/lane.py", line 121 in _handle_list
  File "/srv/rig/worker/lane.py", line 95 in run
  File "/usr/lib/python3.11/asyncio/runners.py", line 118 in run
"""


def test_the_handler_that_blocks_is_the_one_that_the_lane_called() -> None:
    """Not what it called in turn, and not what other threads do."""
    assert handler_of(THREADS) == "sold (shop.py:12)"


def test_a_handler_may_be_in_a_file_that_is_called_as_one_of_ours() -> None:
    """As that of an application whose business is lanes."""
    assert handler_of(THREADS.replace("/srv/shop.py", "/srv/shop/lane.py")) == "sold (lane.py:12)"


def test_without_a_handler_in_the_stacks_there_is_none() -> None:
    """As when the loop waits for events, decodes a payload, or when there are no stacks."""
    first, second = THREADS.split("\n\n")
    busy = second.replace('  File "/srv/shop.py"', "").replace('  File "/usr/lib/python3.11/socket.py"', "")
    assert handler_of("") == handler_of(first) == handler_of(first + "\n\n" + busy) == ""


class Worker(FakeChild):
    """Answers at once, with what it is given."""

    def __init__(self, stacks: int, *, threads: str = THREADS, tasks: Stacks | None = None) -> None:
        super().__init__("worker-0", os.getpid())
        self.stacks, self.threads, self.tasks = stacks, threads, tasks
        self.stalls: Stalls

    def ask(self, message: Any) -> None:
        super().ask(message)
        if self.tasks is not None:
            self.stalls.heard(self, self.tasks)

    def signal(self, number: Any) -> None:
        super().signal(number)
        os.write(self.stacks, self.threads.encode())


async def report(worker: Worker, folder: Path, *, times: int = 1, restart: bool = False) -> list[Any]:
    """Have a stall reported, and return the log."""
    worker.stalls = Stalls(folder, {worker: worker.stacks}, restart=restart)
    with structlog.testing.capture_logs() as logs:
        for _ in range(times):
            worker.stalls.report(Stall(worker, os.getpid(), 61.23))
            await asyncio.gather(*worker.stalls._reporting.values())
    await worker.stalls.close()
    return logs


def test_a_worker_whose_loop_lives_tells_of_its_tasks(memory: SharedMemory, tmp_path: Path) -> None:
    """The line names worker, seconds, handlers and the file, which holds tasks and threads."""
    tasks = Stacks(["shop.sold (room:1 sold, shop.py:12)", "shop.paid (room:2 paid)"], "Task lane-0 …\n")
    worker = Worker(memory.workers[0].stacks, tasks=tasks)

    async def test() -> None:
        [entry] = await report(worker, tmp_path / "stalls")
        assert worker.log == [DumpStacks(), STACKS_SIGNAL]
        assert (entry["event"], entry["log_level"], entry["name"]) == ("a worker handles nothing", "error", "worker-0")
        assert (entry["seconds"], entry["action"]) == (61.2, "report")
        assert entry["handler"] == "shop.sold (room:1 sold, shop.py:12), shop.paid (room:2 paid)"
        text = Path(entry["file"]).read_text()  # noqa: ASYNC240
        assert "has handled nothing for 61.2 s" in text
        assert all(part in text for part in ("  shop.paid (room:2 paid)\n", "Task lane-0", THREADS))

    run(test)


def test_a_blocked_loop_is_told_by_its_threads(memory: SharedMemory, tmp_path: Path) -> None:
    """It does not answer, and that is said."""
    worker = Worker(memory.workers[0].stacks)

    async def test() -> None:
        [entry] = await report(worker, tmp_path / "stalls")
        assert entry["handler"] == "sold (shop.py:12)"
        assert "There was no answer: the loop is blocked." in Path(entry["file"]).read_text()  # noqa: ASYNC240

    run(test)


def test_files_are_private_and_the_newest_are_kept(memory: SharedMemory, tmp_path: Path) -> None:
    """A worker that stalls every minute for a year does not fill the disk."""
    folder = tmp_path / "stalls"
    worker = Worker(memory.workers[0].stacks, tasks=Stacks([], ""))

    async def test() -> None:
        logs = await report(worker, folder, times=KEPT + 2)
        left = sorted(map(str, folder.iterdir()))
        assert left == [entry["file"] for entry in logs[2:]]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}

    run(test)


def test_what_an_earlier_stall_wrote_is_not_shown_again(memory: SharedMemory, tmp_path: Path) -> None:
    """Each file has the stacks of its own moment."""
    worker = Worker(memory.workers[0].stacks, tasks=Stacks([], ""))
    shorter = THREADS.partition("\n\n")[0] + "\n"

    async def test() -> None:
        await report(worker, tmp_path / "stalls")
        worker.threads = shorter
        [entry] = await report(worker, tmp_path / "stalls")
        assert Path(entry["file"]).read_text().partition("Threads:\n")[2] == shorter  # noqa: ASYNC240

    run(test)


def test_a_folder_that_cannot_be_written_keeps_nobody_from_the_line(memory: SharedMemory, tmp_path: Path) -> None:
    """A full disk is no reason to hear nothing."""
    (tmp_path / "stalls").touch()
    worker = Worker(memory.workers[0].stacks, tasks=Stacks([], ""))

    async def test() -> None:
        [entry] = await report(worker, tmp_path / "stalls")
        assert entry["file"].startswith("not written: ")

    run(test)


def test_where_it_is_wanted_the_worker_is_replaced_after_the_report(memory: SharedMemory, tmp_path: Path) -> None:
    """Unless another process has taken its place meanwhile."""
    worker = Worker(memory.workers[0].stacks, tasks=Stacks([], ""))

    async def test() -> None:
        await report(worker, tmp_path / "stalls", restart=True)
        assert worker.log[-1] == "it handled nothing for 61 s"
        worker.log.clear()
        worker.number += 1
        await report(worker, tmp_path / "stalls", restart=True)
        assert worker.log == [DumpStacks(), STACKS_SIGNAL]

    run(test)


def test_one_report_of_a_worker_at_a_time(memory: SharedMemory, tmp_path: Path) -> None:
    """A second stall while the first is written changes nothing; closing gives up what is not finished."""
    child, one = team(memory)[0]

    async def test() -> None:
        stalls = Stalls(tmp_path / "stalls", {child: one.stacks}, restart=False)
        stalls.report(Stall(child, 100, 60.0))
        stalls.report(Stall(child, 100, 61.0))
        await asyncio.sleep(0)
        await stalls.close()
        assert child.log == [DumpStacks(), STACKS_SIGNAL]
        assert not (tmp_path / "stalls").exists()

    run(test)
