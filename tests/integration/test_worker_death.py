"""`kill -9` of workers under load: nothing is lost, order holds, and only what was in hand comes twice."""

import os
import random
import signal

import pytest

CONCURRENCY = 8


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "rounds"), [(1, 2), *(pytest.param(seed, 12, marks=pytest.mark.long) for seed in (2, 3, 4))])
def test_killed_workers_lose_nothing(play, until, seed, rounds):
    """Workers that are killed at random moments are started again, and their successors go on where they were."""

    async def test(stage):
        dice = random.Random(seed)
        rig = await stage.run_worker("--concurrency", str(CONCURRENCY))
        client = stage.client
        for number in range(rounds):
            some = stage.ledger.size + dice.randrange(300, 3_000)
            expected = await stage.flood("slow", 6_000)
            await until(lambda some=some: stage.ledger.size > some)
            victim = dice.choice(await until(lambda: len(found := rig.pids("rig.worker")) == 2 and found))
            # What was in hand at the death before must be done, or it would be put aside for having been in hand twice.
            await until(lambda victim=victim: stage.ledger.handled_by(victim) > 50)
            os.kill(victim, signal.SIGKILL)
            await rig.hear("process died, and is started again", how="SIGKILL, perhaps out of memory", times=number + 1)
        await until(lambda: stage.ledger.size >= rounds * 6_000)
        assert stage.client == client, "the connection knows nothing of it"
        summary = await rig.drain()

        repeats = stage.ledger.repeats("slow", expected)
        assert repeats <= rounds * CONCURRENCY
        assert summary["received"] == summary["handled"] == rounds * 6_000
        assert (summary["unfinished"], summary.get("quarantined", 0)) == (0, 0)
        assert repeats <= summary["redelivered"] <= rounds * CONCURRENCY

    play(test, seconds=110 if rounds > 5 else 45)


@pytest.mark.slow
def test_a_worker_that_dies_again_and_again_is_started_later_and_later(play, until):
    """The log names the process, how it died, and the pause, which doubles."""

    async def test(stage):
        rig = await stage.run_worker(workers=1)
        for number in range(3):
            [pid] = await until(lambda: rig.pids("rig.worker"))
            stage.server.publish("room:0", "tick", {"i": number})
            await until(lambda number=number: ["room:0", number] in stage.ledger.all("tick"))
            os.kill(pid, signal.SIGKILL)
            await rig.hear("process died, and is started again", times=number + 1)
        stage.server.publish("room:0", "tick", {"i": 3})
        await until(lambda: ["room:0", 3] in stage.ledger.all("tick"))
        await rig.drain()

        deaths = rig.said("process died, and is started again", name="worker-0")
        assert [entry["delay"] for entry in deaths] == [0.1, 0.2, 0.4]

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("event", ["poison", "leave_process"])
def test_a_message_that_kills_its_worker_twice_is_put_aside(play, until, event):
    """Two workers die of it, a third handles everything else; the log says what was given up, and why."""

    async def test(stage):
        rig = await stage.run_worker(workers=1)
        await stage.flood("tick", 800)
        stage.server.publish("room:3", event, {"n": 1})
        expected = await stage.flood("tick", 800)
        await rig.hear("event given up")
        await until(lambda: stage.ledger.size >= 1_600)
        summary = await rig.drain()

        assert len(rig.said("process died, and is started again")) == 2
        [given_up] = rig.said("event given up")
        assert (given_up["topic"], given_up["event_name"]) == ("room:3", event)
        assert "two deaths" in given_up["reason"]
        assert stage.ledger.repeats("tick", expected) <= 2 * 16
        assert (summary["quarantined"], summary["received"], summary["handled"], summary["unfinished"]) == (1, 1_601, 1_601, 0)

    play(test)


def test_a_worker_killed_during_the_drain_is_replaced_for_its_rest(play, until):
    """The promise holds until the last event is handled."""

    async def test(stage):
        rig = await stage.run_worker()
        for topic in stage.topics_of(0, 4):
            stage.server.publish(topic, "gated_ask", {})
        await until(lambda: len(stage.ledger.all("waiting")) == 4)
        rig.signal(signal.SIGTERM)
        await rig.hear("draining: handlers finish what was received; a second signal ends it now")
        os.kill(rig.pids("rig.worker")[0], signal.SIGKILL)
        await rig.hear("process died, and is started again", name="worker-0")
        await until(lambda: len(stage.ledger.all("waiting")) == 8)
        stage.ledger.open_gate()

        assert await rig.end() == 0
        assert len(stage.ledger.all("answer")) == 4
        assert (rig.said("done")[0]["unfinished"], rig.said("done")[0]["redelivered"]) == (0, 4)

    play(test)
