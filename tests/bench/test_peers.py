"""The contenders: each is fed by the real server, counts, and admits what it has lost."""

import importlib.util
import json

import pytest
import uvloop

from bench.contenders import contenders
from bench.peer import run_flood, run_pace
from bench.realtime_server import BroadcastTemplate
from rig.benchmark.server import BenchServer
from rig.errors import RigError

ABLE = [one for one in contenders() if not one.workers and not one.missing]


def server_for(contender):
    """Make the server that a contender understands."""
    return BenchServer("bench.realtime_server" if contender.realtime else "mock_server")


def quick_ones_first(contenders):
    """Leave to `make test-slow` what only the benchmark's own extra brings."""
    needed = ("picows", "aiohttp")
    return [pytest.param(one, id=one.key, marks=() if one.key in needed else pytest.mark.slow) for one in contenders]


@pytest.mark.parametrize("contender", quick_ones_first(ABLE))
def test_every_event_is_counted(contender):
    """A contender that is given little enough loses nothing."""

    async def main():
        async with server_for(contender) as server:
            return await run_flood(server, contender, 640)

    run = uvloop.run(main())

    assert (run.lost, run.result.count, run.result.reordered, run.result.duplicated) == (0, 640, 0, 0)
    assert run.rate > 0


@pytest.mark.parametrize("key", ["picows", "aiohttp"])
def test_latencies_are_taken(key):
    """The baselines time each event as rig does."""
    [contender] = [one for one in ABLE if one.key == key]

    async def main():
        async with BenchServer() as server:
            return await run_pace(server, contender, 1000, 0.1)

    latency = uvloop.run(main()).result.latency_ms

    assert latency is not None
    assert 0 < latency["p50"] <= latency["max"]


def test_losses_are_admitted(monkeypatch):
    """A contender that never gets some of its events says how many it got."""
    [contender] = [one for one in ABLE if one.key == "aiohttp"]
    flood = BenchServer.flood

    async def send_less(self, topics, count):
        return await flood(self, topics, count - 3)

    monkeypatch.setattr(BenchServer, "flood", send_less)

    async def main():
        async with BenchServer() as server:
            return await run_flood(server, contender, 500)

    assert uvloop.run(main()).lost == 3


def test_a_contender_that_breaks_is_named():
    """What it printed is the reason."""
    [contender] = [one for one in ABLE if one.key == "aiohttp"]
    broken = type(contender)(key="x", label="broken", steps=1, command=(*contender.command[:1], "-c", "raise SystemExit('oh no')"))

    async def main():
        async with BenchServer() as server:
            with pytest.raises(RigError, match="broken: oh no"):
                await run_flood(server, broken, 500)

    uvloop.run(main())


@pytest.mark.skipif(importlib.util.find_spec("realtime") is None, reason="realtime is not installed")
def test_broadcasts_of_supabase_are_what_its_client_takes():
    """The wrapped event is valid, and as long as every other frame."""
    from realtime.message import BroadcastMessage, ServerMessageAdapter

    template = BroadcastTemplate("1.0.0", "realtime:bench-1", "flood", size=200)
    frame = template.render(b"17", b"42")[4:]

    assert len(frame) == 200
    assert isinstance(ServerMessageAdapter.validate_json(frame), BroadcastMessage)
    inner = json.loads(frame)["payload"]
    assert (inner["event"], inner["payload"]["i"], inner["payload"]["t"]) == ("flood", 17, 42)
    assert template.render(b"17")[template.number_offset :].startswith(b"17,")
