"""The Autobahn|Testsuite's fuzzing server, as a child that ends with the block that started it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


@asynccontextmanager
async def fuzzing_server(wstest: Path, folder: Path, cases: list[str]) -> AsyncIterator[str]:
    """
    Start `wstest` on a free port of the loopback interface, and yield its URL.

    Args:
        wstest: The program, with its whole path.
        folder: Where it works: its specification, its log, and its verdicts under `reports`.
        cases: Patterns of the cases to run, like `1.*`.

    Raises:
        RuntimeError: If it does not start.
    """
    port = _free_port()
    url = f"ws://127.0.0.1:{port}"
    specification = {"url": url, "outdir": str(folder / "reports"), "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}}
    (folder / "fuzzingserver.json").write_text(json.dumps(specification))
    with (folder / "wstest.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            wstest, "-m", "fuzzingserver", "-s", "fuzzingserver.json", "-u", "0", cwd=folder, stdout=log, stderr=log
        )
    try:
        await _wait_until_it_listens(process, port)
        yield url
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def _wait_until_it_listens(process: asyncio.subprocess.Process, port: int) -> None:
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError("wstest did not start: see wstest.log in its folder")
