"""Workers that get nowhere: they are reported with where they stand, and started again where that is wanted."""

import os
import signal
from pathlib import Path

import pytest

STALLED = "a worker handles nothing"
DIED = "process died, and is started again"


def read(file):
    """Return what a report says."""
    return Path(file).read_text()


@pytest.mark.slow
def test_a_blocked_loop_is_reported_with_its_line(play, until):
    """The stacks of the threads are there although the loop is not; the worker goes on when the handler does."""

    async def test(stage):
        rig = await stage.run_worker("--stall-timeout", "0.5", workers=1)
        stage.server.publish("room:0", "block", {"seconds": 3})
        entry = await rig.hear(STALLED)
        report = read(entry["file"])
        await until(lambda: stage.ledger.all("blocked"))
        await rig.drain()

        assert (entry["name"], entry["action"]) == ("worker-0", "report")
        assert 0.4 <= entry["seconds"] < 3
        assert entry["handler"].startswith("block (ledger_app.py:")
        assert Path(entry["file"]).parent == stage.state / "stalls"
        assert "There was no answer: the loop is blocked." in report
        assert 'ledger_app.py", line' in report.partition("Threads:")[2]
        assert not rig.said(DIED)

    play(test)


@pytest.mark.slow
def test_a_handler_that_awaits_is_reported_with_its_line_and_again_later_and_later(play, until):
    """The loop lives, so the tasks say what they wait for; each report comes after twice the time of the one before."""

    async def test(stage):
        rig = await stage.run_worker("--stall-timeout", "0.5", workers=1)
        stage.server.publish("room:7", "hang", {})
        third = await rig.hear(STALLED, times=3)
        reports = rig.said(STALLED)
        report = read(third["file"])
        rig.signal(signal.SIGTERM)
        await rig.hear("draining: handlers finish what was received; a second signal ends it now")
        rig.signal(signal.SIGTERM)
        await rig.end()

        first, second = (entry["seconds"] for entry in reports[:2])
        assert second >= 2 * first - 0.1
        assert third["seconds"] >= 2 * second - 0.1
        assert third["handler"].startswith("ledger_app.hang (room:7 hang, ledger_app.py:")
        assert third["handler"] in report
        assert "in hang\n" in report.partition("Tasks:")[2].partition("Threads:")[0]
        assert "runners.py" in report.partition("Threads:")[2]

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("event", [pytest.param("block", marks=pytest.mark.slow), "hang"])
def test_a_stalled_worker_is_started_again_where_that_is_wanted(play, until, event):
    """What was in hand comes once more; at the second time it is put aside, and everything else is handled."""

    async def test(stage):
        rig = await stage.run_worker("--stall-timeout", "0.5", "--stall-action", "restart", workers=1)
        stage.server.publish("room:3", event, {"seconds": 60})
        expected = await stage.flood("tick", 6_400)
        given_up = await rig.hear("event given up")
        await until(lambda: len(stage.ledger.all("tick")) >= 6_400)
        summary = await rig.drain()

        assert (given_up["topic"], given_up["event_name"]) == ("room:3", event)
        assert len(rig.said(STALLED, action="restart")) == 2
        assert stage.ledger.repeats("tick", expected) <= 2 * 16
        assert (summary["quarantined"], summary["handled"], summary["unfinished"]) == (1, 6_401, 0)
        assert not rig.said(DIED), "it did not die by itself"

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["report", pytest.param("restart", marks=pytest.mark.slow)])
def test_a_stopped_worker_is_reported_and_can_be_started_again(play, until, action):
    """A process that a signal has stopped cannot say where it stands; it is ended all the same, or goes on when it may."""

    async def test(stage):
        rig = await stage.run_worker("--stall-timeout", "0.5", "--stall-action", action, workers=1)
        [pid] = rig.pids("rig.worker")
        os.kill(pid, signal.SIGSTOP)
        expected = await stage.flood("tick", 640)
        entry = await rig.hear(STALLED)
        if action == "report":
            os.kill(pid, signal.SIGCONT)
        await until(lambda: stage.ledger.size >= 640)
        pids = rig.pids("rig.worker")
        await rig.drain()

        assert entry["handler"] == "unknown: a signal has stopped the process"
        assert "The process is stopped by a signal." in read(entry["file"])
        assert (pids == [pid]) == (action == "report")
        assert stage.ledger.repeats("tick", expected) == 0

    play(test)


@pytest.mark.slow
def test_a_worker_without_events_is_never_reported(play, until):
    """Idle is not stalled; neither is a worker that is slow but gets on inside one record."""

    async def test(stage):
        rig = await stage.run_worker("--stall-timeout", "0.4", "--concurrency", "1", workers=1, topics=1)
        expected = await stage.flood("slow", 1_500)  # well over a second, and few records
        await until(lambda: stage.ledger.size >= 1_500)
        await rig.drain()

        assert not rig.said(STALLED)
        assert stage.ledger.repeats("slow", expected) == 0

    play(test)
