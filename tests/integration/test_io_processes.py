"""`--io-processes 2`: topics over two connections, each with a process of its own, which share the workers and nothing else."""

import asyncio
import os
import signal
import uuid
from collections import Counter

import pytest

from rig.routing import lane, rendezvous, shard

TWO = ("--io-processes", "2")
CONCURRENCY = 8


def owned(stage, index):
    """Return the topics of one of the two io processes."""
    return [topic for topic in stage.topics if rendezvous(topic, 2) == index]


def busy_topics(stage):
    """Return three topics of each io process that go to the first worker, each to a lane of its own."""
    chosen = {}
    for index in (0, 1):
        of_one = [topic for topic in owned(stage, index) if shard(topic.encode(), 2) == 0]
        for topic in of_one:
            if len(chosen) < 3 * (index + 1):
                chosen.setdefault(lane(topic.encode(), 16), topic)
    assert len(chosen) == 6
    return list(chosen.values())


def connections(stage):
    """Return client → its topics, as the server sees it."""
    return {client["client"]: set(client["channels"]) for client in stage.server.clients}


async def kill_one(stage, until, pid):
    """Kill an io process, and return its topics, those of the other, and the other's connection."""
    before = connections(stage)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: len(set(before) & set(connections(stage))) == 1)
    [survivor] = set(before) & set(connections(stage))
    [dead] = set(before) - {survivor}
    return before[dead], before[survivor], survivor


async def until_whole(stage, until):
    """Wait until both connections are there, and every topic is joined."""
    await until(lambda: len(stage.server.clients) == 2 and stage.joined() == set(stage.topics))


async def until_received(stage, until):
    """Return when both io processes have handed on all that was sent: later events for the second worker have been answered."""
    for index in (0, 1):
        probe = uuid.uuid4().hex
        by = next(topic for topic in owned(stage, index) if shard(topic.encode(), 2) == 1)
        stage.server.publish(by, "ask", {"event": "echo", "payload": {"probe": probe}})
        await until(lambda by=by, probe=probe: [by, {"probe": probe}] in stage.ledger.all("answer"))


@pytest.mark.slow
def test_topics_are_spread_over_two_connections(play, until):
    """Each topic is joined once; events of all are handled once and in order, and pushes are answered on each."""

    async def test(stage):
        rig = await stage.run_worker(*TWO)
        assert sorted(connections(stage).values(), key=len) == sorted((set(owned(stage, 0)), set(owned(stage, 1))), key=len)
        assert len(rig.pids("rig.io")) == 2
        expected = await stage.flood("tick", 20_000)
        for number, topic in enumerate(stage.topics):
            stage.server.publish(topic, "ask", {"event": "echo", "payload": {"n": number}})
        await until(lambda: len(stage.ledger.all("tick")) == 20_000 and len(stage.ledger.all("answer")) == len(stage.topics))
        summary = await rig.drain()

        assert stage.ledger.repeats("tick", expected) == 0
        assert sorted(stage.ledger.all("answer")) == sorted([topic, {"n": n}] for n, topic in enumerate(stage.topics))
        assert {entry["process"] for entry in rig.said("connected")} == {"io-0", "io-1"}
        assert (summary["received"], summary["handled"], summary["unfinished"]) == (20_064, 20_064, 0)
        assert (summary["pushes"], summary.get("reconnects", 0)) == (64, 0)
        assert not stage.server.clients

    play(test)


@pytest.mark.slow
def test_the_status_is_that_of_both_connections(play, until):
    """It counts the topics of both, and is connected only while both are; the reason says which one is not."""

    async def test(stage):
        rig = await stage.run_worker(*TWO, "--status-interval", "0.05")
        await rig.hear("status", state="connected", topics=64)
        stage.server.faults.change({"refuse_connections": 503})
        client, _ = stage.server.clients
        stage.server.close_where(1012, client=client["client"])
        down = {"state": "offline", "topics": 64 - len(client["channels"])}
        reasons = await until(lambda: [found for line in rig.said("status", **down) if "HTTP 503" in (found := line["reason"])])
        assert reasons[0].startswith(f"io-{rendezvous(client['channels'][0], 2)}: ")
        await rig.drain()

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_one_that_is_killed_under_load_comes_back_and_the_other_goes_on(play, until, rounds):
    """The other's events have no gap at all; those of the killed one end in a gap, and go on after it, in order."""

    async def test(stage):
        rig = await stage.run_worker(*TWO)
        gaps = set()
        for number in range(rounds):
            handled = stage.ledger.size
            flood = asyncio.create_task(stage.flood("tick", 30_000))
            await until(lambda handled=handled: stage.ledger.size > handled + 500)
            killed, kept, survivor = await kill_one(stage, until, rig.pids("rig.io")[number % 2])
            gaps |= killed
            await rig.hear("process died, and is started again", times=number + 1)
            await until_whole(stage, until)
            await flood
            assert connections(stage)[survivor] == kept, "its connection knows nothing of it"
        expected = await stage.flood("tick", 1_600)
        await until_received(stage, until)
        summary = await rig.drain()

        numbers = {topic: [] for topic in stage.topics}
        for topic, number in stage.ledger.all("tick"):
            numbers[topic].append(number)
        for topic, seen in numbers.items():
            assert seen == sorted(set(seen)), "in order, and none twice"
            assert seen[-25:] == list(range(expected[topic] - 25, expected[topic])), "the last flood is whole"
            if topic not in gaps:
                assert len(seen) == seen[-1] + 1, "nothing is missing"
        deaths = Counter(entry["name"] for entry in rig.said("process died, and is started again"))
        connected = Counter(entry["process"] for entry in rig.said("connected"))
        assert connected == Counter({"io-0": 1, "io-1": 1}) + deaths
        assert summary["unfinished"] == 0

    play(test, seconds=110 if rounds > 2 else 45)


def test_events_in_the_rings_survive_one_io_process(play, until):
    """Whatever either had handed on is handled once and in order, and a hanging one holds up nobody."""

    async def test(stage):
        rig = await stage.run_worker(*TWO)
        busy = busy_topics(stage)
        await stage.flood("gated", 3_000, topics=busy)
        await until_received(stage, until)
        await kill_one(stage, until, rig.pids("rig.io")[0])
        await until_whole(stage, until)
        expected = await stage.flood("gated", 600, topics=busy)
        stage.ledger.open_gate()
        await until(lambda: len(stage.ledger.all("gated")) >= 3_600)
        await rig.drain()

        assert stage.ledger.repeats("gated", expected) == 0

    play(test)


def test_one_that_hangs_holds_up_nobody_else(play, until):
    """Events of the other are handled and their pushes answered while it does nothing; then it goes on."""

    async def test(stage):
        rig = await stage.run_worker(*TWO)
        stopped = rig.pids("rig.io")[1]
        os.kill(stopped, signal.SIGSTOP)
        try:
            for topic in stage.topics:
                stage.server.publish(topic, "ask", {"event": "echo"})
            await until(lambda: len(stage.ledger.all("answer")) >= min(len(owned(stage, 0)), len(owned(stage, 1))))
            answered = {topic for topic, _ in stage.ledger.all("answer")}
            assert answered in (set(owned(stage, 0)), set(owned(stage, 1)))
        finally:
            os.kill(stopped, signal.SIGCONT)
        await until(lambda: len(stage.ledger.all("answer")) == len(stage.topics))
        await rig.drain()

    play(test)


@pytest.mark.slow
def test_pushes_that_wait_hear_of_the_death_of_their_own_io_process(play, until):
    """Those that went by the other go on waiting, until it dies, too."""

    async def test(stage):
        rig = await stage.run_worker(*TWO)
        asking = busy_topics(stage)
        for topic in asking:
            unanswered = {"event": "broadcast", "payload": {"event": "seen", "payload": {}}}
            stage.server.publish(topic, "ask", {**unanswered, "timeout": 60})
        await until(lambda: all(stage.server.ledger.snapshot()[topic]["count"] == 2 for topic in asking))
        first, second = rig.pids("rig.io")
        killed, _, _ = await kill_one(stage, until, first)
        await until(lambda: len(stage.ledger.all("failed")) >= 3)
        await until_whole(stage, until)
        assert {topic for topic, _ in stage.ledger.all("failed")} == killed & set(asking)
        await kill_one(stage, until, second)
        await until(lambda: len(stage.ledger.all("failed")) == len(asking))
        await until_whole(stage, until)
        await rig.drain()

        assert {value[0] for _, value in stage.ledger.all("failed")} == {"ConnectionLost"}

    play(test)


@pytest.mark.slow
def test_killed_workers_lose_nothing_of_either_connection(play, until):
    """What was in hand comes twice, whichever ring it was in; the connections know nothing of it."""

    async def test(stage):
        rig = await stage.run_worker(*TWO, "--concurrency", str(CONCURRENCY))
        before = connections(stage)
        for number in range(4):
            some = stage.ledger.size + 1_000
            expected = await stage.flood("slow", 4_000)
            await until(lambda some=some: stage.ledger.size > some)
            victim = (await until(lambda: len(found := rig.pids("rig.worker")) == 2 and found))[number % 2]
            await until(lambda victim=victim: stage.ledger.handled_by(victim) > 50)
            os.kill(victim, signal.SIGKILL)
            await rig.hear("process died, and is started again", times=number + 1)
        await until(lambda: stage.ledger.size >= 16_000)
        assert connections(stage) == before
        summary = await rig.drain()

        assert stage.ledger.repeats("slow", expected) <= summary["redelivered"] <= 4 * CONCURRENCY
        assert (summary["received"], summary["handled"], summary["unfinished"]) == (16_000, 16_000, 0)
        assert summary.get("quarantined", 0) == 0

    play(test)


@pytest.mark.parametrize("index", [0, 1])
def test_a_signal_lets_the_handlers_finish_what_either_received(play, until, index):
    """The drain waits for both io processes and all rings, and leaves nothing: no event, no process, no connection."""

    async def test(stage):
        rig = await stage.run_worker(*TWO)
        busy = busy_topics(stage)[3 * index :][:3]
        expected = await stage.flood("gated", 300, topics=busy)
        await stage.flood("tell", 3, topics=busy)
        await until_received(stage, until)
        rig.signal(signal.SIGTERM)
        await rig.hear("draining: handlers finish what was received; a second signal ends it now")
        assert not stage.ledger.all("gated")
        stage.ledger.open_gate()

        assert await rig.end() == 0
        assert stage.ledger.repeats("gated", expected) == 0
        assert len(stage.ledger.all("tell")) == len(busy)
        await until(lambda: all(stage.server.ledger.snapshot()[topic]["count"] == 102 for topic in busy))  # the pushes came out
        assert rig.said("done")[0]["unfinished"] == 0
        assert not stage.server.clients

    play(test)


def test_one_that_cannot_start_ends_the_run(play):
    """The exit code and the sentence are those of a run with one io process."""

    async def test(stage):
        (stage.folder / "wrong.pem").write_text("no certificate\n")
        arguments = ["--ca", "wrong.pem", "--url", "wss://localhost/socket", "--log-format", "json"]
        rig = await stage.rig("run", "rig.demo:app", *TWO, *arguments)

        assert await rig.end() == 2
        assert any("wrong.pem" in line for line in rig.err)
        assert not any("Traceback" in line for line in rig.err)

    play(test)
