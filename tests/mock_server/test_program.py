"""`python -m mock_server` as its users start it."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

Start = Any


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the program; whatever still runs at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def popen(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mock_server", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        return process

    yield popen
    for process in processes:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_closes_the_sockets_and_ends_with_0(number: signal.Signals, start: Start, run: Any, dial: Any) -> None:
    """The first line says where it listens; a signal ends it in good order."""
    process = start("--port", "0", "--scenario", "max")
    where = ready(process)
    assert where["url"] == f"ws://127.0.0.1:{where['port']}/socket"

    async def main() -> None:
        joined, idle = await dial(where["port"]), await dial(where["port"])
        await joined.join("room:a")
        process.send_signal(number)
        assert (await joined.receive()).code == 1012
        assert (await idle.receive()).code == 1000

    run(main())
    assert process.wait(10) == 0
    assert process.stderr.read() == ""


def test_control_port_is_told(start: Start) -> None:
    """A parent can reach the control API wherever it is."""
    where = ready(start("--port", "0", "--control-port", "0"))
    with urllib.request.urlopen(f"{where['control']}/ledger", timeout=10) as response:
        assert json.load(response) == {}
    assert f":{where['port']}/" not in where["control"]


def test_program_ends_with_its_parent(start: Start) -> None:
    """Nothing is left running when whoever started it is gone."""
    process = start("--port", "0", "--exit-with-parent")
    ready(process)
    process.stdin.close()
    process.stdin = None
    assert process.wait(10) == 0


def test_taken_port_is_one_sentence_and_exit_code_3(start: Start) -> None:
    """No traceback, and what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start("--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 3
    assert errors.count("\n") == 1
    assert "Choose another --port." in errors


@pytest.mark.parametrize("arguments", [("--phoenix", "latest"), ("--scenario", "min"), ("--cert", __file__)])
def test_wrong_option_is_a_usage_error(arguments: tuple[str, ...], start: Start) -> None:
    """Exit code 2, no traceback."""
    process = start("--port", "0", *arguments)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "Traceback" not in errors
