"""Workers that cannot keep up, in real processes: what happens to the events, whatever is killed meanwhile."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3

import pytest

from rig.records import decode_events, decode_names, decode_spilled

SOON = ("--ring-bytes", "64KiB", "--pause-limit", "0.1")
SPILLING = "workers cannot keep up: what their rings have no room for is spilled to disk"


def rows(stage):
    """Return kind, count and record of each row in spill.db, if that is there."""
    if not (stage.state / "spill.db").exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{stage.state}/spill.db?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'spilled'").fetchone():
            return []
        return connection.execute("SELECT kind, count, record FROM spilled ORDER BY id").fetchall()


def spilled(stage):
    """Count the events in spill.db."""
    return sum(count for _, count, _ in rows(stage))


def newest_spilled(stage):
    """Return topic → the number of its newest event in spill.db."""
    newest = {}
    for kind, _, record in rows(stage):
        raw, numbers, payloads = decode_events(kind, decode_spilled(record)[1])
        names = decode_names(raw)
        newest |= {names[2 * number]: json.loads(bytes(payload))["i"] for number, payload in zip(numbers, payloads, strict=True)}
    return newest


async def flood_into_the_spill(stage, until, count):
    """Send events to the first of two workers, and return when the last of them are on disk; nothing is handled meanwhile."""
    expected = await stage.flood("gated", count, topics=stage.topics_of(0, 6), size=500)
    newest = {topic: sent - 1 for topic, sent in expected.items()}
    await until(lambda: newest_spilled(stage) == newest)
    assert spilled(stage) < count
    return expected


def test_a_long_stall_ends_no_connection_and_loses_nothing(play, until):
    """Reading pauses briefly, then goes on for as long as the server sends, and what was spilled comes back in order."""

    async def test(stage):
        rig = await stage.run_worker(*SOON, "--heartbeat-interval", "1.5", "--heartbeat-timeout", "1.5", topics=4)
        client = stage.client
        expected = await stage.flood("gated", 20_000, size=1_000)  # done: the server was not held up
        assert rig.said(SPILLING)
        assert not stage.ledger.all("gated")
        stage.ledger.open_gate()
        await until(lambda: stage.ledger.size >= 20_000)
        await rig.hear("the workers have caught up: nothing is spilled any more")
        assert stage.client == client
        summary = await rig.drain()

        assert stage.ledger.repeats("gated", expected) == 0
        assert (summary["received"], summary["handled"], summary["unfinished"]) == (20_000, 20_000, 0)
        assert summary["spilled"] > 15_000
        assert "spill_backlog" not in summary
        assert "reconnects" not in summary
        assert spilled(stage) == 0

    play(test)


@pytest.mark.slow
def test_a_server_that_cuts_slow_readers_does_not_cut_this_one(play, until):
    """Phoenix ends a connection that takes nothing for 30 s (here 0.6 s): rig pauses for less."""

    async def test(stage):
        beats = ("--heartbeat-interval", "0.5", "--heartbeat-timeout", "0.5")  # this server's patience with silence is shorter, too
        rig = await stage.run_worker("--ring-bytes", "64KiB", "--pause-limit", "0.2", *beats, topics=4)
        client = stage.client
        expected = {}
        for _ in range(4):
            expected = await stage.flood("gated", 10_000, size=1_000)
            await asyncio.sleep(0.3)
        assert stage.client == client
        stage.ledger.open_gate()
        await until(lambda: stage.ledger.size >= 40_000)
        await rig.drain()
        assert stage.ledger.repeats("gated", expected) == 0

    play(test, time_scale=0.02)


def test_a_stopped_worker_holds_up_no_other(play, until):
    """While one worker is frozen and its events go to disk, the other handles its own without delay."""

    async def test(stage):
        rig = await stage.run_worker(*SOON)
        frozen, lively = stage.topics_of(0, 4), stage.topics_of(1, 4)
        stage.server.publish(frozen[0], "block", {"seconds": 0})
        await until(lambda: stage.ledger.all("blocking"))
        [[_, pid]] = stage.ledger.all("blocking")
        os.kill(pid, signal.SIGSTOP)
        try:
            expected = await stage.flood("tick", 4_000, topics=frozen, size=500)
            expected |= await stage.flood("tick", 4_000, topics=lively, size=500)
            await until(lambda: len(stage.ledger.all("tick")) >= 4_000)
            assert {topic for topic, _ in stage.ledger.all("tick")} == set(lively)
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: len(stage.ledger.all("tick")) >= 8_000)
        summary = await rig.drain()

        assert stage.ledger.repeats("tick", {topic: expected[topic] for topic in (*frozen, *lively)}) == 0
        assert summary["spilled"] > 2_000

    play(test)


@pytest.mark.slow
def test_killed_io_process_leaves_its_spill_to_its_successor(play, until):
    """`kill -9` while events are on disk: what was received is handled once and in order, before what comes after."""

    async def test(stage):
        rig = await stage.run_worker(*SOON)
        sent = await flood_into_the_spill(stage, until, 4_000)
        for number in range(3):
            [pid] = rig.pids("rig.io")
            first = stage.client
            os.kill(pid, signal.SIGKILL)
            await rig.hear("process died, and is started again", name="io", times=number + 1)
            await until(lambda first=first: stage.server.clients and stage.client != first and stage.joined() == set(stage.topics))
        expected = await stage.flood("gated", 600, topics=list(sent), size=500)
        stage.ledger.open_gate()
        await until(lambda: len(stage.ledger.all("gated")) >= 4_600)
        summary = await rig.drain()

        assert stage.ledger.repeats("gated", expected) == 0
        assert summary["unfinished"] == 0
        assert spilled(stage) == 0

    play(test)


@pytest.mark.slow
def test_io_process_killed_while_events_come_back_repeats_none(play, until):
    """The record, the row, and what is known of it: wherever it dies between them, each event is handled once and in order."""

    async def test(stage):
        rig = await stage.run_worker(*SOON)
        sent = await flood_into_the_spill(stage, until, 12_000)
        stage.ledger.open_gate()
        for number in range(4):
            handled = len(stage.ledger.all("gated"))
            await until(lambda handled=handled: len(stage.ledger.all("gated")) > handled + 200 or not spilled(stage))
            [pid] = rig.pids("rig.io")
            os.kill(pid, signal.SIGKILL)
            await rig.hear("process died, and is started again", name="io", times=number + 1)
            await until(lambda pid=pid: rig.pids("rig.io") not in ([], [pid]))
        await until(lambda: len(stage.ledger.all("gated")) >= 12_000)
        await until(lambda: stage.joined() == set(stage.topics))
        await rig.drain()

        assert stage.ledger.repeats("gated", sent) == 0
        assert spilled(stage) == 0

    play(test)


@pytest.mark.slow
def test_killed_worker_goes_on_with_what_was_spilled_for_it(play, until):
    """Its successor handles what is in the ring, then what is on disk; only what was in hand may repeat."""

    async def test(stage):
        rig = await stage.run_worker(*SOON)
        expected = await stage.flood("slow", 6_000, topics=stage.topics_of(0, 6), size=500)
        for number in range(3):
            handled = len(stage.ledger.all("slow"))
            await until(lambda handled=handled: len(stage.ledger.all("slow")) > handled + 200)
            pids = {pid: stage.ledger.handled_by(pid) for pid in rig.pids("rig.worker")}
            os.kill(max(pids, key=pids.get), signal.SIGKILL)
            await rig.hear("process died, and is started again", times=number + 1)
        await until(lambda: stage.ledger.complete("slow", expected))
        summary = await rig.drain()

        assert stage.ledger.repeats("slow", expected) <= 3 * 6
        assert summary["spilled"] > 1_000

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_next_run_handles_first_what_the_last_one_left(play, until, workers):
    """What was spilled and not handled waits for the next run, however many workers it has, and goes before all that is new."""

    async def test(stage):
        rig = await stage.run_worker(*SOON, "--graceful-timeout", "0.2")
        sent = await flood_into_the_spill(stage, until, 4_000)
        on_disk = spilled(stage)
        rig.signal(signal.SIGTERM)
        assert await rig.end() == 1
        left = rig.said("spilled events are left: the next run on this state directory handles them first")
        assert left[0]["events"] == rig.said("done")[0]["spill_backlog"] == spilled(stage) >= on_disk

        again = await stage.run_worker(*SOON, workers=workers)
        expected = await stage.flood("gated", 600, topics=list(sent), size=500)
        stage.ledger.open_gate()
        await until(lambda: len(stage.ledger.all("gated")) >= left[0]["events"] + 600)
        summary = await again.drain()

        assert summary["recovered"] == left[0]["events"]
        assert (summary["handled"], summary["unfinished"]) == (summary["recovered"] + 600, 0)
        for topic in sent:
            numbers = [number for name, number in stage.ledger.all("gated") if name == topic]
            assert numbers == list(range(numbers[0], expected[topic])), "from the first that was on disk, none is missing"
        assert spilled(stage) == 0

    play(test)


def test_drain_handles_what_was_spilled(play, until):
    """SIGTERM: nothing more is taken, and what is on disk is handled too, within the graceful time-out."""

    async def test(stage):
        rig = await stage.run_worker(*SOON)
        sent = await flood_into_the_spill(stage, until, 4_000)
        rig.signal(signal.SIGTERM)
        await rig.hear("draining: handlers finish what was received; a second signal ends it now")
        stage.ledger.open_gate()

        assert await rig.end() == 0
        assert stage.ledger.repeats("gated", sent) == 0
        assert rig.said("done")[0]["unfinished"] == 0
        assert spilled(stage) == 0

    play(test)


def test_message_too_large_for_the_ring_goes_by_the_disk(play, until):
    """It reaches its handler in order, even if the worker that was to handle it dies first, and leaves nothing on disk."""

    async def test(stage):
        rig = await stage.run_worker("--ring-bytes", "64KiB", workers=1, topics=2)
        expected = await stage.flood("gated", 2, size=300)
        expected = await stage.flood("gated", 4, size=100_000)
        expected = await stage.flood("gated", 2, size=300)
        stage.server.publish("room:0", "tick", {"i": 0})
        [pid] = rig.pids("rig.worker")
        await until(lambda: spilled(stage) == 4)
        os.kill(pid, signal.SIGKILL)
        await rig.hear("process died, and is started again")
        stage.ledger.open_gate()
        await until(lambda: len(stage.ledger.all("gated")) >= 8 and stage.ledger.all("tick"))
        await until(lambda: spilled(stage) == 0)
        summary = await rig.drain()

        assert stage.ledger.repeats("gated", expected) == 0
        assert summary["spilled"] == 4
        assert "dropped_large" not in summary

    play(test)


@pytest.mark.slow
def test_block_lets_the_server_wait(play, until):
    """With `block` reading stays paused however long it takes, and nothing goes to disk."""

    async def test(stage):
        rig = await stage.run_worker(*SOON, topics=4)
        [connection] = stage.server.sockets
        flooding = asyncio.create_task(stage.flood("gated_block", 12_000, size=2_000))
        await until(lambda: connection._paused)
        await asyncio.sleep(0.5)  # five times the pause limit
        assert connection._paused
        assert not flooding.done()
        stage.ledger.open_gate()
        expected = await flooding
        await until(lambda: stage.ledger.size >= 12_000)
        summary = await rig.drain()

        assert stage.ledger.repeats("gated_block", expected) == 0
        assert "spilled" not in summary

    play(test)


@pytest.mark.parametrize(
    ("event", "counter", "policy"),
    [
        ("gated_latest", "dropped_latest", "latest"),
        ("gated_oldest", "dropped_oldest", "drop_oldest"),
        ("gated_newest", "dropped_newest", "drop_newest"),
    ],
)
def test_what_is_dropped_is_counted_and_said(play, until, event, counter, policy):
    """Reading never pauses; each topic stays in order; every event is either handled or counted, and the log says so."""

    async def test(stage):
        rig = await stage.run_worker(*SOON)
        expected = await stage.flood(event, 20_000, topics=stage.topics_of(0, 4), size=500)
        await stage.until_received()
        stage.ledger.open_gate()
        summary = await rig.drain()

        handled = stage.ledger.all(event)
        assert summary[counter] + len(handled) == 20_000
        assert sum(line["events"] for line in rig.said("events dropped", policy=policy)) == summary[counter]
        assert (summary["unfinished"], "pauses" in summary) == (0, False)
        for topic, count in expected.items():
            numbers = [number for name, number in handled if name == topic]
            assert numbers == sorted(set(numbers))
            assert event == "gated_newest" or numbers[-1] == count - 1, "the newest of all is handled"

    play(test)


def garbage(path):
    path.write_bytes(b"this is no database " * 500)


def folder(path):
    path.mkdir()


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "remedy"), [(garbage, "move the file away"), (folder, "make the file and its folder writable")])
def test_spill_that_cannot_be_opened_makes_the_server_wait(play, until, harm, remedy):
    """A file that is no database: the log says what to do, and nothing is lost, because reading pauses instead."""

    async def test(stage):
        stage.state.mkdir(mode=0o700)
        path = stage.state / "spill.db"
        harm(path)
        before = path.read_bytes() if path.is_file() else None
        rig = await stage.run_worker(*SOON, topics=4)
        said = await rig.hear("the store of spilled events cannot be opened: what is left there waits")
        assert (str(path) in said["reason"], remedy in said["reason"]) == (True, True)
        [connection] = stage.server.sockets
        flooding = asyncio.create_task(stage.flood("gated", 12_000, size=2_000))
        await rig.hear("events cannot be spilled to disk: reading waits for the workers instead")
        await until(lambda: connection._paused)
        assert not flooding.done()
        stage.ledger.open_gate()
        expected = await flooding
        await until(lambda: stage.ledger.size >= 12_000)
        summary = await rig.drain()

        assert stage.ledger.repeats("gated", expected) == 0
        assert "spilled" not in summary
        assert (path.read_bytes() if path.is_file() else None) == before, "nobody has touched it"

    play(test)


@pytest.mark.timeout(330)
@pytest.mark.long
def test_with_the_defaults_every_handler_may_stall_for_two_minutes(play, until):
    """Live traffic goes on for 120 s while nothing is handled: no reconnect, nothing lost, order kept."""

    async def test(stage):
        rig = await stage.run_worker()
        client = stage.client
        loop = asyncio.get_running_loop()
        end, sent, expected = loop.time() + 120, 0, {}
        while loop.time() < end:
            expected = await stage.flood("gated", 6_400, size=500)
            sent += 6_400
            await asyncio.sleep(0.5)
        assert not stage.ledger.all("gated")
        assert (stage.client, rig.said("heartbeat missed")) == (client, [])
        stage.ledger.open_gate()
        await until(lambda: stage.ledger.size >= sent, within=120)
        summary = await rig.drain()

        assert stage.ledger.repeats("gated", expected) == 0
        assert (summary["received"], summary["handled"]) == (sent, sent)
        assert summary["spilled"] > sent // 2
        assert "reconnects" not in summary

    play(test, seconds=300)
