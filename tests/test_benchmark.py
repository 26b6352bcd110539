"""The benchmark: it counts right, it sees what goes wrong, and it runs the real pipeline. No test looks at a speed."""

import asyncio
import json
import math
import os
import random
from collections import Counter

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from rig import benchmark
from rig.benchmark import command
from rig.benchmark.app import POSTED_EVERY, TOPICS
from rig.benchmark.board import Board
from rig.benchmark.measure import STEP, measure_throughput, quantiles
from rig.benchmark.pipeline import Pipeline
from rig.benchmark.server import BenchServer
from rig.benchmark.tally import Account, Loss, Tally, settle
from rig.benchmark.usage import read_usage
from rig.errors import RigError


def tally_of(numbers, topic="a"):
    """Count these numbers on one topic."""
    tally = Tally(["a", "b"])
    for number in numbers:
        tally.note(topic, number)
    return tally


@pytest.mark.parametrize(
    ("numbers", "handled", "missing", "reordered", "duplicated"),
    [
        ([0, 1, 2], 3, 0, 0, 0),
        ([0, 2, 3], 3, 1, 0, 0),
        ([3], 1, 3, 0, 0),
        ([0, 2, 1], 3, 0, 1, 0),
        ([0, 1, 1, 0], 4, 0, 0, 2),
        ([0, 2, 1, 1, 2], 5, 0, 1, 2),
        ([], 0, 0, 0, 0),
    ],
)
def test_what_goes_wrong_is_told_apart(numbers, handled, missing, reordered, duplicated):
    """Loss, disorder and repetition each have their own count."""
    assert tally_of(numbers).account() == Account(handled=handled, missing=missing, reordered=reordered, duplicated=duplicated)


@given(st.lists(st.integers(0, 30), max_size=80))
def test_any_stream_is_counted_right(numbers):
    """Whatever comes in whatever order, the counts are those of somebody who has kept everything."""
    account = tally_of(numbers).account()

    times = Counter(numbers)
    assert account.handled == len(numbers)
    assert account.duplicated == len(numbers) - len(times)
    assert account.missing == max(numbers, default=-1) + 1 - len(times)
    first_seen = list(dict.fromkeys(numbers))
    assert account.reordered == sum(number < max(first_seen[: index + 1]) for index, number in enumerate(first_seen))


def test_topics_do_not_mix():
    """Each topic has numbers of its own."""
    tally = tally_of([0, 1])
    tally.note("b", 0)

    assert settle(3, [tally.account()]).nothing


@given(st.integers(0, 50), st.sets(st.integers(0, 49)), st.integers(0, 20), st.integers())
def test_injected_faults_are_found(count, dropped, repeated, seed):
    """What is taken out is lost, what is put in is a duplicate, whoever handles it."""
    kept = [number for number in range(count) if number not in dropped]
    again = random.Random(seed).choices(kept, k=repeated) if kept else []

    loss = settle(count, [tally_of(kept).account(), tally_of([], "b").account()])
    assert (loss.lost, loss.duplicated, loss.reordered) == (count - len(kept), 0, 0)
    loss = settle(count, [tally_of(kept + again).account()])
    assert (loss.lost, loss.duplicated) == (count - len(kept), len(again))


def test_a_topic_that_two_workers_share_is_out_of_order():
    """Nothing is lost then, but nobody kept the order."""
    loss = settle(6, [tally_of([0, 2, 4]).account(), tally_of([1, 3, 5]).account()])

    assert loss == Loss(lost=0, duplicated=0, reordered=5)


def test_quantiles_are_in_milliseconds():
    """A hundred and one durations of 0 to 100 ms have their quantiles where everybody expects them."""
    found = quantiles([n * 1_000_000 for n in reversed(range(101))])

    assert (found.p50, found.p99, found.max) == (50, 99, 100)
    assert quantiles([5_000_000]).p99 == 5
    assert math.isnan(quantiles([]).p50)


def test_a_board_is_read_by_another_process(tmp_path):
    """Two mappings of the file are one memory."""
    ours, theirs = Board(tmp_path / "board-1"), Board(tmp_path / "board-1")
    assert (theirs.handled, theirs.time_ns) == (0, 0)

    ours.post(7)

    assert theirs.handled == 7
    assert theirs.time_ns > 0
    ours.close()
    theirs.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the system does not tell")
def test_a_process_uses_memory_until_it_is_gone():
    """Nothing is made up about a process that is not there."""
    usage = read_usage(os.getpid())

    assert usage is not None
    assert usage.rss_bytes >= usage.own_bytes > 0
    assert read_usage(2**22 + 1) is None


def test_a_flood_arrives_complete_in_two_workers():
    """The real pipeline loses nothing, repeats nothing, and keeps each topic's order."""

    async def main():
        async with BenchServer() as server:
            return await measure_throughput(server, 2, STEP - 1)

    run = uvloop.run(main())

    assert run.events == STEP
    assert run.loss == Loss(lost=0, duplicated=0, reordered=0)
    assert run.rate > 0
    assert {"server", "supervisor", "io", "worker-0", "worker-1"} == set(run.cpu_us) or not run.cpu_us


def test_faults_on_the_way_are_seen():
    """A server that repeats numbers and leaves some out does not pass for a good run."""

    async def main():
        async with BenchServer() as server:
            await server.reset()
            async with Pipeline(server, 1) as pipeline:
                await server.flood(TOPICS, STEP)
                await server.flood(TOPICS[:1], 3, event="unhandled")
                await server.flood(TOPICS[:1], 1)
                await server.reset()
                repeating = asyncio.create_task(server.flood(TOPICS[:2], 2 * POSTED_EVERY))
                await pipeline.wait_handled(STEP + 1 + 2 * POSTED_EVERY, repeating)
                return settle(STEP + 4, await pipeline.finish())

    loss = uvloop.run(main())

    assert loss == Loss(lost=3, duplicated=2 * POSTED_EVERY, reordered=0)


def test_a_refusal_of_the_server_is_a_sentence():
    """Whoever asks for the impossible hears why."""

    async def main():
        async with BenchServer() as server:
            with pytest.raises(RigError, match=r"refused pace: .*at least one event"):
                await server.pace(TOPICS, 0, 1)

    uvloop.run(main())


@pytest.mark.slow
def test_the_whole_benchmark_prints_json(monkeypatch, capsys):
    """`rig bench --json` is for programs."""
    monkeypatch.setattr(command, "_LATENCY_SECONDS", 0.3)
    monkeypatch.setattr(command, "_CONNECTIONS", 2)

    assert benchmark.main(1, (1,), (500,), True) == 0

    report = json.loads(capsys.readouterr().out)
    [throughput], [latency] = report["throughput"], report["latency"]
    assert (throughput["workers"], throughput["events"]) == (1, STEP)
    assert (latency["events"], latency["loss"]) == (150, {"lost": 0, "duplicated": 0, "reordered": 0})
    assert 0 < latency["latency_ms"]["p50"] <= latency["latency_ms"]["p99"] <= latency["latency_ms"]["max"]
    assert report["connect_and_join_ms"]["p50"] > 0


def test_waiting_for_lost_events_ends(monkeypatch):
    """A benchmark that waits for what never comes would be no benchmark."""
    monkeypatch.setattr("rig.benchmark.pipeline._PATIENCE", 0.05)

    async def main():
        async with BenchServer() as server:
            pipeline = Pipeline(server, 1)
            sent = asyncio.create_task(server.flood(TOPICS, 1))
            monkeypatch.setattr(Pipeline, "handled", 0)
            async with asyncio.timeout(10):
                await pipeline.wait_handled(1, sent)
            return sent.done()

    assert uvloop.run(main())
