"""An io process, started as the supervisor starts it: what it answers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mock_server.server import MockServer
from rig.config import Settings
from rig.control import Control, DumpFlight, FlightDumped, IoSpec, State, Stop
from rig.supervisor.child import spawn
from rig.supervisor.memory import SharedMemory
from tests.running import run


async def hear(control: Control, kind: type[Any], **fields: Any) -> Any:
    """Return the next message of a kind; everything else is passed over."""
    async for message in control.messages():
        if isinstance(message, kind) and all(getattr(message, name) == value for name, value in fields.items()):
            return message
    raise AssertionError("the io process has ended")


@pytest.mark.parametrize("frames", [64, 0])
def test_it_writes_its_flight_record_when_asked(tmp_path: Path, frames: int) -> None:
    """The answer bears the number of the question, and names the file, or says why there is none."""
    settings = Settings(ring_bytes=64 * 1024, concurrency=1, state_dir=str(tmp_path), flight_frames=frames)

    async def test() -> None:
        memory = SharedMemory(settings, 1)
        async with MockServer() as server:
            rings = memory.workers[0].fds
            fds = [fd for ring in rings for fd in ring.all()]
            page, marks = memory.io_pages[0], memory.io_marks[0]
            process, control = await spawn("rig.io", (*fds, page.fd, marks.fd))
            try:
                control.send(
                    IoSpec(
                        msgspec.structs.replace(settings, url=(server.url,)),
                        "io",
                        0,
                        {"room:1": {"secret": 4711}},
                        [],
                        rings,
                        page.fd,
                        run=1,
                        marks=marks.fd,
                        gaps=False,
                    )
                )
                await hear(control, State, state="connected", joined=1)
                control.send(DumpFlight(7))
                answer = await hear(control, FlightDumped)
                control.send(Stop(5.0))
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                control.close()
        memory.close()

        assert answer.request == 7
        if frames:
            text = await asyncio.to_thread(Path(answer.path).read_text)
            assert Path(answer.path).parent == tmp_path / "flight"
            joins = [entry for entry in json.loads(text)["entries"] if entry.get("event") == "phx_join"]
            assert [entry["topic"] for entry in joins] == ["room:1"]
            assert "4711" not in text
            assert answer.error == ""
        else:
            assert answer.path == ""
            assert "--flight-frames" in answer.error

    run(test)
