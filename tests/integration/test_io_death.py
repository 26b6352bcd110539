"""`kill -9` of the io process: what is in the rings is handled, the topics are joined again, and nobody waits for ever."""

import os
import re
import signal
import time

import pytest

RECOVERED = 2.0
"""Seconds from the kill until everything is joined again, at most, however busy the machine is that runs these tests."""
RESUMED = 1.0
"""Likewise, where the machine has a moment for it: the back-off of 0.1 to 0.4 s, and a new interpreter."""
STARTS = 4
"""On a busy machine, so many times what it takes to start an interpreter that has nothing else to do."""
DIED = "process died, and is started again"
BREAK_IO = """
import os, sys
if "rig.io" in sys.orig_argv and os.path.exists(os.environ["BROKEN"]):
    from rig.io.process import IoProcess

    async def run(self):
        raise RuntimeError("the disk is on fire")

    IoProcess.run = run
"""


def test_events_in_the_rings_survive_the_io_process(play, until):
    """Whatever it had handed on is handled once and in order, and then what came after the reconnect."""

    async def test(stage):
        rig = await stage.run_worker()
        busy = stage.topics_of(0, 6)
        sent = await stage.flood("gated", 3_000, topics=busy)
        await stage.until_received()
        [pid] = rig.pids("rig.io")
        first = stage.client
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        await until(lambda: stage.server.clients and stage.client != first and stage.joined() == set(stage.topics))
        recovered = time.monotonic() - killed
        expected = await stage.flood("gated", 600, topics=busy)
        stage.ledger.open_gate()
        await until(lambda: len(stage.ledger.all("gated")) >= 3_600)
        await rig.drain()

        assert recovered < RECOVERED
        assert sent == dict.fromkeys(busy, 500)
        assert stage.ledger.repeats("gated", expected) == 0
        assert rig.said("process died, and is started again", name="io")
        assert len(rig.said("connected")) == 2

    play(test)


@pytest.mark.slow
def test_pushes_that_wait_are_told_that_the_io_process_died(play, until):
    """Nobody knows whether the server acted, so a handler gets ConnectionLost, and soon; later pushes work again."""

    async def test(stage):
        rig = await stage.run_worker()
        asking = [*stage.topics_of(0, 4), *stage.topics_of(1, 4)]
        for topic in asking:
            unanswered = {"event": "broadcast", "payload": {"event": "seen", "payload": {}}}
            stage.server.publish(topic, "ask", {**unanswered, "timeout": 60})
        await until(lambda: all(entry["count"] == 2 for entry in stage.server.ledger.snapshot().values()))
        assert len(stage.ledger.all("asking")) == len(asking)
        [pid] = rig.pids("rig.io")
        first = stage.client
        os.kill(pid, signal.SIGKILL)
        await until(lambda: len(stage.ledger.all("failed")) == len(asking), within=RECOVERED)
        await until(lambda: stage.server.clients and stage.client != first and stage.joined() == set(stage.topics))
        await stage.until_received()
        await rig.drain()

        assert {value[0] for _, value in stage.ledger.all("failed")} == {"ConnectionLost"}

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [3, pytest.param(7, marks=pytest.mark.long)])
def test_killed_under_load_it_comes_back_each_time(play, until, rounds):
    """Between two deaths events are handled in order; what was lost with the socket is a gap at the end, never a hole within."""

    async def test(stage):
        rig = await stage.run_worker()
        for number in range(rounds):
            first = stage.client
            handled = stage.ledger.size
            await stage.flood("tick", 20_000)
            await until(lambda handled=handled: stage.ledger.size > handled)
            [pid] = rig.pids("rig.io")
            os.kill(pid, signal.SIGKILL)
            await rig.hear("process died, and is started again", name="io", times=number + 1)
            await until(lambda first=first: stage.server.clients and stage.client != first and stage.joined() == set(stage.topics))
        await stage.flood("tick", 1_600)
        await stage.until_received()
        summary = await rig.drain()

        numbers: dict[str, list[int]] = {topic: [] for topic in stage.topics}
        for topic, number in stage.ledger.all("tick"):
            numbers[topic].append(number)
        for handled in numbers.values():
            assert handled == sorted(set(handled)), "in order, and none twice"
            assert handled[-25:] == list(range(handled[-1] - 24, handled[-1] + 1)), "the last flood is whole"
        assert summary["unfinished"] == 0
        assert summary["handled"] == stage.ledger.size - 1, "one event wrote two lines"

    play(test, seconds=110 if rounds > 3 else 45)


@pytest.mark.slow
def test_it_resumes_within_a_second(play, until):
    """From the kill until the last topic is joined again, with nobody's help."""

    async def test(stage):
        rig = await stage.run_worker()
        took, allowed = [], []
        for _ in range(3):
            began = time.monotonic()
            await (await stage.start("-c", "import rig.io.process")).end()
            allowed.append(max(RESUMED, STARTS * (time.monotonic() - began)))
            first, [pid] = stage.client, rig.pids("rig.io")
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            await until(lambda first=first: stage.server.clients and stage.client != first and stage.joined() == set(stage.topics))
            took.append(time.monotonic() - killed)
        await rig.drain()

        assert any(some < most for some, most in zip(took, allowed, strict=True)), (took, allowed)

    play(test)


@pytest.mark.slow
def test_a_crash_loop_slows_down_says_why_and_ends_nothing(play, until, monkeypatch):
    """What it printed last is in the reason, which the status shows meanwhile; once it can live again, everything goes on."""

    async def test(stage):
        broken = stage.folder / "broken"
        (stage.folder / "sitecustomize.py").write_text(BREAK_IO)
        path = os.pathsep.join(filter(None, (str(stage.folder), os.environ.get("PYTHONPATH"))))
        monkeypatch.setenv("PYTHONPATH", path)
        monkeypatch.setenv("BROKEN", str(broken))
        rig = await stage.run_worker("--status-interval", "0.1")
        sent = await stage.flood("gated", 600, topics=stage.topics_of(0, 6))
        await stage.until_received()
        broken.touch()
        os.kill(rig.pids("rig.io")[0], signal.SIGKILL)
        await rig.hear(DIED, name="io", times=4)
        shown = await rig.hear("status", state="connecting", times=3)
        last = [entry["reason"] for entry in rig.said("status") if entry.get("reason", "").startswith("the process died 3 times")]
        stage.ledger.open_gate()
        await until(lambda: len(stage.ledger.all("gated")) == 600)
        broken.unlink()
        await until(lambda: stage.joined() == set(stage.topics))
        await rig.hear("status", state="connected", topics=64, times=len(rig.said("status", state="connected")) + 1)
        rig.signal(signal.SIGTERM)

        assert await rig.end() == 0
        deaths = rig.said(DIED, name="io")
        assert [entry["delay"] for entry in deaths[:4]] == [0.1, 0.2, 0.4, 0.8]
        assert deaths[0]["how"].startswith("SIGKILL")
        assert re.fullmatch(r"exit code 1: RuntimeError: the disk is on fire \(sitecustomize\.py:\d+\)", deaths[1]["how"])
        assert shown["topics"] == 0
        assert last, "the status said so meanwhile"
        assert last[0].endswith(f"({deaths[2]['how']}), and is started again after 0.4 s")
        assert stage.ledger.repeats("gated", sent) == 0

    play(test)
