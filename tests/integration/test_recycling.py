"""Workers that are replaced by fresh ones while events flow: nothing is lost, nothing comes twice, order holds."""

import signal

import pytest

from rig.routing import rendezvous

RECYCLED = "worker is recycled"
LEAKING = """
import asyncio, os, rig
app = rig.App()
leaked = []

@app.on("room:1", "leak")
async def leak(event):
    leaked.append(b"x" * 8 * 1024 ** 2)
    print(event.payload["i"], os.getpid())
    await asyncio.sleep(0.05)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("rounds", "limit"), [(1, 2_000), pytest.param(12, 3_000, marks=pytest.mark.long)])
def test_recycled_workers_lose_nothing(play, until, rounds, limit):
    """Under load two workers take turns; each life ends with what it had read, and the next goes on after it."""

    async def test(stage):
        rig = await stage.run_worker("--max-events-per-worker", str(limit))
        client = stage.client
        for number in range(rounds):
            sent = (number + 1) * 12_800
            expected = await stage.flood("slow", 12_800)
            await until(lambda sent=sent: stage.ledger.size >= sent)
        await rig.hear(RECYCLED, times=max(rounds, 2))
        assert stage.client == client, "the connection knows nothing of it"
        summary = await rig.drain()

        assert stage.ledger.repeats("slow", expected) == 0
        assert (summary["received"], summary["handled"], summary["unfinished"]) == (rounds * 12_800, rounds * 12_800, 0)
        assert summary.get("redelivered", 0) == 0
        assert summary["recycled"] == len(rig.said(RECYCLED))
        assert rounds + 1 <= len(stage.ledger.lives()) <= 2 + summary["recycled"]
        assert not rig.said("process died, and is started again")
        assert not [entry for entry in rig.log if entry["level"] in ("error", "critical")]

    play(test, seconds=100)


@pytest.mark.slow
def test_a_worker_that_takes_too_much_memory_is_recycled(play, until):
    """A handler that leaks is handled by one fresh process after the other; every event is handled once."""

    async def test(stage):
        (stage.folder / "leaking.py").write_text(LEAKING)
        arguments = ("run", "leaking:app", "--url", stage.server.url, "--workers", "1", "--max-worker-rss", "120MiB")
        rig = await stage.rig(*arguments, "--log-format", "json", "--state-dir", str(stage.state))
        await until(lambda: stage.joined() == {"room:1"})
        for number in range(60):
            stage.server.publish("room:1", "leak", {"i": number})
            await until(lambda number=number: len(rig.out) > number)
        await rig.hear(RECYCLED, times=2)
        await rig.drain()

        assert [line.split()[0] for line in rig.out] == [str(number) for number in range(60)]
        assert len({line.split()[1] for line in rig.out}) >= 3, "processes"
        assert all(entry["because"].endswith("iB of memory") for entry in rig.said(RECYCLED))

    play(test)


def test_a_limit_of_memory_that_no_worker_can_keep_is_warned_of(play):
    """Rather than to start one process after the other for ever."""

    async def test(stage):
        rig = await stage.run_worker("--max-worker-rss", "1MiB", workers=1)
        await rig.hear(
            "a fresh worker has more memory than --max-worker-rss, and is recycled once it has grown by a tenth: raise it"
        )
        await rig.drain()

        assert not rig.said(RECYCLED)

    play(test)


@pytest.mark.slow
def test_a_worker_that_does_not_finish_is_killed(play, until):
    """A handler that hangs keeps nobody for longer than the graceful time-out; its event comes again, and is not lost."""

    async def test(stage):
        options = ("--max-events-per-worker", "100", "--graceful-timeout", "1", "--io-processes", "2")
        rig = await stage.run_worker(*options, workers=1)
        # On rings of their own: those of the one are committed although that of the other is not.
        by_ring = {rendezvous(topic, 2): topic for topic in stage.topics}
        stage.server.publish(by_ring[0], "gated", {"i": 0})
        await stage.flood("tick", 200, topics=[by_ring[1]])
        await rig.hear("worker did not finish within --graceful-timeout, and is killed")
        await until(lambda: len(rig.pids("rig.worker")) == 1 and len(stage.ledger.lives()) == 1)
        stage.ledger.open_gate()
        await until(lambda: stage.ledger.all("gated"))
        summary = await rig.drain()

        assert stage.ledger.all("gated") == [[by_ring[0], 0]]
        assert (summary["recycled"], summary["redelivered"], summary["unfinished"]) == (1, 1, 0)
        assert not rig.said("process died, and is started again")

    play(test)


@pytest.mark.slow
def test_a_drain_while_a_worker_is_recycled_leaves_nothing(play, until):
    """The fresh one finishes what the old one had not read, although the run has been told to end meanwhile."""

    async def test(stage):
        options = ("--max-events-per-worker", "100", "--io-processes", "2", "--status-interval", "0.1")
        rig = await stage.run_worker(*options, workers=1)
        by_ring = {rendezvous(topic, 2): topic for topic in stage.topics}
        stage.server.publish(by_ring[0], "gated", {"i": 0})
        await stage.flood("tick", 200, topics=[by_ring[1]])
        await rig.hear(RECYCLED)
        sent = await stage.flood("gated", 5_000, topics=[by_ring[0]])  # more than a worker reads ahead
        await stage.received(5_201)
        rig.signal(signal.SIGTERM)
        await rig.hear("status", state="draining", times=2)
        assert len(stage.ledger.lives()) == 1, "the old one is still at it"
        stage.ledger.open_gate()

        assert await rig.end() == 0
        summary = rig.said("done")[0]
        assert (summary["received"], summary["handled"], summary["unfinished"]) == (5_201, 5_201, 0)
        assert summary["recycled"] == 1
        handled = [value for _, value in stage.ledger.all("gated")]
        assert handled == [0, *range(sent[by_ring[0]])], "the first was published by hand"
        assert len(stage.ledger.lives()) == 2

    play(test)
