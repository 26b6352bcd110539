"""What an application consists of, found out in a child process."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from rig.config import Settings
from rig.errors import AppError
from rig.supervisor import description
from rig.worker.describe import Description

Describe = Callable[..., Description]
APP = "import rig\napp = rig.App('described')\n@app.on('room:*', 'tick')\ndef tick(event): ...\n"


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """Give a function that writes an application and describes it in a child."""

    def describe(text: str, **options: Any) -> Description:
        (tmp_path / "told.py").write_text(text)
        settings = Settings(target="told:app", app_dir=str(tmp_path), **options)

        async def main() -> Description:
            async with asyncio.timeout(20):
                return await description.describe(settings)

        return uvloop.run(main())

    return describe


def test_application_is_described_by_a_child(describe: Describe, tmp_path: Path) -> None:
    """The supervisor learns handlers and topics, and the import happened in another process."""
    found = describe(APP + f"import os, pathlib\npathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(os.getpid()))")

    assert (found.name, found.joins, [route.handler for route in found.routes]) == ("described", {"room:*": {}}, ["told.tick"])
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_sentence_of_the_child_is_the_error(describe: Describe) -> None:
    """What is wrong with the application is said as the child has found it."""
    with pytest.raises(AppError, match=r"^module 'told' imports 'missing_', which is not installed$"):
        describe("import missing_")


def test_import_that_ends_the_process_is_an_error(describe: Describe) -> None:
    """An application that exits, or crashes, while it is imported is told by its exit code."""
    with pytest.raises(AppError, match="importing told:app ended its process with exit code 7: see what it printed above"):
        describe("import os\nos._exit(7)")


def test_thread_of_the_application_does_not_hold_up_the_start(describe: Describe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that the import leaves running keeps the child alive, not us waiting."""
    monkeypatch.setattr(description, "_LEAVING", 0.01)

    found = describe(APP + "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()")

    assert found.name == "described"


def test_import_that_does_not_end_can_be_given_up(tmp_path: Path) -> None:
    """Whoever stops waiting for it leaves no process behind."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = f"import time\npipe = open({str(fifo)!r}, 'w')\nprint('here', file=pipe, flush=True)\ntime.sleep(60)"
    (tmp_path / "endless.py").write_text(text)
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    async def heard() -> bytes:
        """Return what the child has written; nothing once it has ended."""
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(fd, readable.set)
        await readable.wait()
        asyncio.get_running_loop().remove_reader(fd)
        return os.read(fd, 100)

    async def main() -> None:
        async with asyncio.timeout(20):
            task = asyncio.create_task(description.describe(Settings(target="endless:app", app_dir=str(tmp_path))))
            assert await heard() == b"here\n"
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert await heard() == b""

    uvloop.run(main())
    os.close(fd)
