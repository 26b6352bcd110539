"""
The mock server answers every recorded transcript as the real Phoenix did.

The recordings of one scenario, from several releases and serializers, are played side by side: they mostly wait.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mock_server import MockServer
from tests.conformance.js_replay import JsReplay
from tests.conformance.replay import Replay
from tests.conformance.transcript import load, names, sent_bytes

RAW = names("phx1.[78]-v*")
RACES = [name for name in RAW if "-race_" in name]
SIGNALS = [name for name in RAW if "-server_sig" in name]
OTHERS = [name for name in RAW if name not in RACES + SIGNALS]

TIME_SCALE = 0.02
TIME_SCALES = {
    "heartbeat_timeout_ws_ping_only": 0.15,
    "heartbeat_timeout": 0.07,
    "push_late_replies_reordered": 0.1,
    "longpoll_batch": 0.2,
    "longpoll_binary": 0.2,
    "longpoll_flow": 0.2,
    "longpoll_server_disconnect": 0.2,
    "longpoll_session_expires": 0.2,
    "server_sigterm": 0.2,
    "server_sigkill": 0.05,
}

Run = Callable[[Any], None]
Play = Callable[[dict[str, Any]], Awaitable[None]]


def by_scenario(transcripts: list[str]) -> list[Any]:
    """Return a list of names for each scenario, as parameters of a test."""
    groups = itertools.groupby(sorted(transcripts, key=scenario_of), scenario_of)
    return [pytest.param(list(group), id=scenario) for scenario, group in groups]


def scenario_of(name: str) -> str:
    return name.rsplit("-", 1)[1]


async def side_by_side(transcripts: list[str], play: Play) -> None:
    """Play transcripts at the same time, each with a server of its own; an error says which it was."""

    async def named(name: str) -> None:
        try:
            await play(load(name))
        except Exception as exc:
            exc.add_note(f"in {name}")
            raise

    await asyncio.gather(*map(named, transcripts))


def time_scale_of(transcript: dict[str, Any]) -> float:
    return TIME_SCALES.get(transcript["scenario"], TIME_SCALE)


@pytest.mark.parametrize("transcripts", by_scenario(OTHERS))
def test_transcript_is_answered_as_recorded(transcripts: list[str], run: Run, dial: Any) -> None:
    """Every frame, close code and HTTP answer is the recorded one, and nothing else comes."""

    async def play(transcript: dict[str, Any]) -> None:
        time_scale = time_scale_of(transcript)
        async with MockServer(phoenix=transcript["phoenix"], time_scale=time_scale) as server:
            await Replay(transcript, server.port, dial=dial, time_scale=time_scale).run()

    run(side_by_side(transcripts, play))


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run the server as a process of its own; gives it and its port."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "mock_server", "--port", "0", "--exit-with-parent", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    try:
        yield process, json.loads(await process.stdout.readline())["port"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("transcripts", by_scenario(SIGNALS))
def test_signal_ends_connections_as_recorded(transcripts: list[str], run: Run, dial: Any) -> None:
    """A server that is terminated drains what is joined, and a killed one just vanishes."""

    async def play(transcript: dict[str, Any]) -> None:
        time_scale = time_scale_of(transcript)
        async with program("--phoenix", transcript["phoenix"], "--time-scale", str(time_scale)) as (process, port):

            async def signal(what: str) -> None:
                match what:
                    case "sigterm":
                        process.terminate()
                    case "sigkill":
                        process.kill()
                    case "process_gone":
                        await asyncio.wait_for(process.wait(), 10)

            await Replay(transcript, port, dial=dial, time_scale=time_scale, signal=signal).run()

    run(side_by_side(transcripts, play))


@pytest.mark.parametrize("gapped", [False, True], ids=["together", "gapped"])
@pytest.mark.parametrize("name", RACES)
def test_race_ends_in_a_recorded_variant(name: str, gapped: bool, run: Run, dial: Any) -> None:
    """What a race leads to is something that the real server was seen to do with the same timing."""
    transcript = load(name)
    join, _, *sends = transcript["frames"]
    variants = [variant["recv"] for variant in transcript["variants_gapped" if gapped else "variants"]]

    async def main() -> None:
        async with MockServer(phoenix=transcript["phoenix"]) as server:
            client = await dial(server.port)
            await client.write(sent_bytes(join))
            await client.receive()
            frames = [sent_bytes(frame) for frame in sends]
            for data in frames if gapped else [b"".join(frames)]:
                await client.write(data)
                await asyncio.sleep(0.002)
            came = [frame.json for frame in await client.receive_until_silent(0.05)]
        assert came in [[json.loads(text) for text in variant] for variant in variants]

    run(main())


@pytest.mark.parametrize("transcripts", by_scenario(names("js-*")))
def test_official_client_would_be_answered_as_recorded(transcripts: list[str], run: Run, dial: Any) -> None:
    """What the official JavaScript client sent gets the answers that it got from the real server."""

    async def play(transcript: dict[str, Any]) -> None:
        time_scale = 0.2 if "longpoll" in transcript["scenario"] else 0.05
        async with MockServer(phoenix=transcript["phoenix"], time_scale=time_scale) as server:
            await JsReplay(transcript, server.port, dial=dial, time_scale=time_scale).run()

    run(side_by_side(transcripts, play))


def test_every_transcript_is_replayed() -> None:
    """A recording that nobody replays would go unnoticed."""
    assert set(names("*")) == {*OTHERS, *SIGNALS, *RACES, *names("js-*")}
    assert (len(OTHERS), len(SIGNALS), len(RACES), len(names("js-*"))) == (180, 4, 14, 26)
