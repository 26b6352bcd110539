"""One contender's process for one measurement, and what comes of it."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.contenders import Contender
from rig.benchmark.server import BenchServer
from rig.errors import RigError

_ROOT = Path(__file__).parent.parent
_READY_TIMEOUT = 30.0
_END_TIMEOUT = 60.0


class PeerResult(msgspec.Struct):
    """
    What a contender says; see `bench.peers`.

    Attributes:
        first_ns: When its first event came, on the monotonic clock.
        last_ns: When its last event came.
        seconds: Between the two.
        latency_ms: p50, p99 and max if it was asked to take them.
    """

    count: int
    first_ns: int
    last_ns: int
    seconds: float
    cpu_seconds: float
    reordered: int
    duplicated: int
    latency_ms: dict[str, float] | None


class PeerRun(msgspec.Struct):
    """
    One flood or pace.

    Attributes:
        seconds: From the request that starts it to the last event.
    """

    events: int
    lost: int
    seconds: float
    rate: float
    result: PeerResult


async def run_flood(server: BenchServer, contender: Contender, events: int) -> PeerRun:
    """
    Flood a contender.

    Raises:
        RigError: If it does not come up, or does not end.
    """
    return await _run(server, contender, "flood", events)


async def run_pace(server: BenchServer, contender: Contender, rate: int, seconds: float) -> PeerRun:
    """
    Send to a contender at a steady rate.

    Raises:
        RigError: If it does not come up, or does not end.
    """
    return await _run(server, contender, "pace", round(rate * seconds), rate, seconds)


async def _run(server: BenchServer, contender: Contender, mode: str, events: int, rate: float = 0, seconds: float = 0) -> PeerRun:
    await server.reset()
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *(*contender.command, server.url, mode, str(events)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=_ROOT,
        )
        try:
            assert process.stdin is not None
            await _read_line(process, _READY_TIMEOUT)
            await server.wait_joined(len(contender.topics))
            started = time.monotonic_ns()
            if mode == "flood":
                await server.flood(contender.topics, events)
            else:
                await server.pace(contender.topics, rate, seconds)
            process.stdin.write(b"sent\n")
            result = msgspec.json.decode(await _read_line(process, _END_TIMEOUT), type=PeerResult)
        except (TimeoutError, ValueError, ConnectionError) as exc:
            errors.seek(0)
            reason = errors.read()[-500:].decode(errors="replace").strip() or repr(exc)
            raise RigError(f"{contender.label}: {reason}") from exc
        finally:
            await _end(process)
    await server.wait_joined(0)
    elapsed = max(result.last_ns - started, 1) / 1e9
    if not result.count:
        raise RigError(f"{contender.label}: not one event came")
    return PeerRun(events, events - result.count + result.duplicated, elapsed, result.count / elapsed, result)


async def _read_line(process: Any, timeout: float) -> bytes:
    async with asyncio.timeout(timeout):
        line: bytes = await process.stdout.readline()
    if not line:
        raise ValueError("it ended before it was ready, or done")
    return line


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
