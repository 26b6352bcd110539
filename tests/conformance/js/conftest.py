"""
Phoenix's own JavaScript client under node, installed through npm once per run, and scenarios played with it.

Without node or npm, or where npm reaches no registry, these tests are skipped with the reason; with `CI=true` a missing node
fails them, since there nobody reads what was skipped.
"""

import asyncio
import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mock_server import MockServer

JS = Path(__file__).parent
NPM_SECONDS = 60
NODE_SECONDS = 20
NO_REGISTRY = re.compile(
    r"\b(EAI_AGAIN|ECONNREFUSED|ECONNRESET|EHOSTUNREACH|EIDLETIMEOUT|ENETUNREACH|ENOTCACHED|ENOTFOUND"
    r"|ERR_SOCKET_TIMEOUT|ETIMEDOUT|timed out)\b"
)

Play = Callable[..., Any]


def wanted_versions() -> dict[str, str]:
    """Read which versions package.json pins."""
    versions: dict[str, str] = json.loads((JS / "package.json").read_bytes())["dependencies"]
    return versions


def installed_versions() -> dict[str, str]:
    """Read what npm says it has installed; it writes this file last."""
    try:
        packages = json.loads((JS / "node_modules" / ".package-lock.json").read_bytes())["packages"]
    except FileNotFoundError:
        return {}
    return {path.removeprefix("node_modules/"): package["version"] for path, package in packages.items()}


def install() -> str:
    """Run npm, and return what went wrong, or nothing."""
    command = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--fetch-retries=1",
        "--fetch-retry-mintimeout=1000",
    ]
    try:
        result = subprocess.run(command, cwd=JS, check=False, capture_output=True, text=True, timeout=NPM_SECONDS)
    except subprocess.TimeoutExpired:
        return f"npm install timed out after {NPM_SECONDS} s"
    return result.stderr.strip() if result.returncode else ""


def install_once(folder: Path) -> str:
    """Install what is missing, in one process of the run only; the others wait, and get the same answer."""
    answer = folder / "npm-install"
    with (folder / "npm-install.lock").open("w") as lock, (JS / "package.json").open() as everywhere:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answer.exists():
            fcntl.flock(everywhere, fcntl.LOCK_EX)
            answer.write_text("" if installed_versions() == wanted_versions() else install())
    return answer.read_text()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the path of node; beside the scenarios, the packages of package.json are installed."""
    path, npm = shutil.which("node"), shutil.which("npm")
    if path is None or npm is None:
        missing = "node and npm are needed for Phoenix's JavaScript client: install them (on Debian: apt install nodejs npm)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    own = tmp_path_factory.getbasetemp()
    problem = install_once(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)
    if NO_REGISTRY.search(problem):
        pytest.skip(f"npm reaches no registry, so Phoenix's JavaScript client is not installed: {problem[:300]}")
    assert not problem, problem
    assert installed_versions() == wanted_versions()
    return path


@pytest.fixture
def play(node: str) -> Play:
    """
    Give a function that plays one scenario against a fresh mock server, and returns what came of it.

    `through` opens something between client and server: it is given the server's port and returns its own.
    """

    def play(
        scenario: str,
        *,
        phoenix: str = "1.8.12",
        time_scale: float = 0.1,
        mount: str = "socket",
        through: Callable[[int], Any] | None = None,
        **options: Any,
    ) -> Any:
        async def main() -> Any:
            async with asyncio.timeout(NODE_SECONDS), MockServer(phoenix=phoenix, time_scale=time_scale) as server:
                if through is None:
                    return await run_node(server.port)
                async with through(server.port) as port:
                    return await run_node(server.port, port)

        async def run_node(port: int, socket_port: int | None = None) -> Any:
            urls = {"url": f"ws://127.0.0.1:{socket_port or port}/{mount}", "http": f"http://127.0.0.1:{port}"}
            return await run_scenario(node, scenario, {**urls, **options})

        return uvloop.run(main())

    return play


async def run_scenario(node: str, scenario: str, options: dict[str, Any]) -> Any:
    """Run node until it is done, and return what it printed; it does not outlive this call."""
    pipe = asyncio.subprocess.PIPE
    command = [node, str(JS / "run.mjs"), scenario, json.dumps(options)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert errors == b"", errors.decode()
    return json.loads(output)
