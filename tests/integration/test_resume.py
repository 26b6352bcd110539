"""Topics that resume by cursor: whatever is cut or killed, no event is missing, and only what may come twice does."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from mock_server.flood import Flood, FloodRequest
from mock_server.history import History
from mock_server.server import MockServer
from tests.integration.test_overflow import spilled

HERE = Path(__file__).parent
TOPICS = 8
KEEP = 100_000


class Run:
    """
    A worker on topics with a history, and what became of their events.

    Attributes:
        rig: The command, once it is started.
    """

    def __init__(self, stage, until):
        self.stage, self.until = stage, until
        self.server = stage.server
        self.topics = [f"history:{number}" for number in range(TOPICS)]
        self.rig = None

    async def start(self, *options):
        """Start `rig run`, and return when all topics are joined."""
        self.rig = await self.stage.rig(
            *("run", "resume_app:app", "--app-dir", str(HERE), "--url", self.server.url, "--workers", "2"),
            *("--log-format", "json", "--status-interval", "0", "--state-dir", str(self.stage.state), *options),
            LEDGER_TOPICS=str(TOPICS),
        )
        await self.joined()
        return self.rig

    async def joined(self, besides=None):
        """Return when all topics are joined, by other connections than this one."""

        def joined():
            return {topic for client in self.server.clients if client["client"] != besides for topic in client["channels"]}

        await self.until(lambda: joined() >= {*self.topics, "room:plain"})

    async def flood(self, count, event="tick"):
        """Send events as fast as they are taken, whoever is there to get them."""
        await Flood(FloodRequest(topics=self.topics, count=count, event=event), self.server.hub).run()

    @contextlib.asynccontextmanager
    async def traffic(self):
        """Send some thousand events a second meanwhile."""

        async def send():
            while True:
                await self.flood(40)
                await asyncio.sleep(0.005)

        sending = asyncio.create_task(send())
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def sent(self):
        """Return the last number of each topic."""
        return {topic: self.server.history.last_id(topic) for topic in self.topics}

    def handled(self):
        """Return the numbers that were handled of each topic."""
        found = {topic: [] for topic in self.topics}
        for topic, number in self.stage.ledger.all("tick"):
            found[topic].append(number)
        return found

    async def all_handled(self):
        """Send one more event on each topic, and return when it is handled."""
        await self.flood(TOPICS)
        await self.until(lambda: {topic: max(numbers, default=0) for topic, numbers in self.handled().items()} == self.sent())

    def repeats(self):
        """Insist that no event is missing, and return how many came twice."""
        handled = self.handled()
        for topic, last in self.sent().items():
            missing = set(range(1, last + 1)) - set(handled[topic])
            assert not missing, f"{topic}: of {last} events {len(missing)} are missing: {sorted(missing)[:20]}"
        return sum(len(numbers) - len(set(numbers)) for numbers in handled.values())

    def gaps(self, topic="history:0"):
        """Return outcome, cursor, whether it is confirmed, number and reason of each gap of a topic."""
        return [value for of, value in self.stage.ledger.all("gap") if of == topic]


def in_order(run):
    """Insist that every topic's events came in order."""
    for numbers in run.handled().values():
        assert numbers == sorted(numbers)


@pytest.mark.slow
def test_events_of_a_network_cut_are_filled_in(play, until):
    """What was sent meanwhile comes first, in order and once, and the callbacks hear of it before it comes."""

    async def test(stage):
        run = Run(stage, until)
        rig = await run.start()
        async with run.traffic():
            for _ in range(3):
                await until(lambda: min(run.sent().values()) > 20)
                first = stage.client
                stage.server.close_where(0)
                await run.joined(besides=first)
        await run.all_handled()
        summary = await rig.drain()

        assert run.repeats() == 0
        in_order(run)
        assert len(run.gaps()) == 3
        assert summary["gaps_replayed"] + summary.get("gaps_nothing_missed", 0) == 3 * TOPICS
        assert summary["gaps_not_replayed"] == len(run.gaps("room:plain")) == 3
        assert all(value[0] == "not_replayed" and value[1] is None for value in run.gaps("room:plain"))
        for outcome, since, confirmed, missed, reason in run.gaps():
            assert (outcome, confirmed) == ("replayed" if missed else "nothing_missed", True)
            assert reason == "the connection was lost: link_lost"
            lines = [
                line[2] for life in stage.ledger.lives() for line in life if line[1] == "history:0" and line[0] in ("gap", "tick")
            ]
            place = next(place for place, value in enumerate(lines) if isinstance(value, list) and value[1] == since)
            assert [value for value in lines[:place] if isinstance(value, int)] == list(range(1, since + 1))
        assert Counter(topic for topic, _ in stage.ledger.all("gap too")) == Counter(topic for topic, _ in stage.ledger.all("gap"))

    play(test, history=History(keep=KEEP))


@pytest.mark.slow
def test_callbacks_see_all_three_outcomes(play, until):
    """Nothing was missed, what was missed follows, or the server has forgotten it and says so."""

    async def test(stage):
        run = Run(stage, until)
        rig = await run.start()
        await run.flood(80)
        await run.all_handled()
        for missed, forgotten in ((0, False), (2, False), (1, True)):
            first = stage.client
            stage.server.close_where(0)
            await until(lambda: not stage.server.clients)
            await run.flood(missed * TOPICS)
            if forgotten:
                stage.server.history.forget()
            await run.joined(besides=first)
        await run.all_handled()
        await rig.drain()

        assert [value[:4] for value in run.gaps()] == [
            ["nothing_missed", 11, True, 0],
            ["replayed", 11, True, 2],
            ["not_replayed", 13, True, 1],
        ]
        lost = {topic: set(range(1, last + 1)) - set(run.handled()[topic]) for topic, last in run.sent().items()}
        assert lost == {topic: {14} for topic in run.topics}

    play(test, history=History(keep=KEEP))


@pytest.mark.slow
def test_server_that_restarts_is_asked_for_the_rest(play, until, tmp_path):
    """A crash of the server, which has its events on disk, costs none."""

    async def test(stage):
        path = tmp_path / "history"
        first = MockServer(history=History(keep=KEEP, path=path))
        await first.start()
        run = Run(stage, until)
        run.server = first
        rig = await run.start()
        async with run.traffic():
            await until(lambda: min(run.sent().values()) > 50)
        await first.crash()
        run.server = MockServer(port=first.port, history=History(keep=KEEP, path=path))
        await run.server.start()
        await run.flood(400)
        await run.joined()
        await run.all_handled()
        await rig.drain()
        await run.server.stop()

        assert run.repeats() == 0
        in_order(run)
        assert [value[0] for value in run.gaps()] == ["replayed"]

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rounds", "seed", "options"),
    [
        (3, 1, ()),
        pytest.param(3, 2, ("--io-processes", "2"), marks=pytest.mark.slow),
        *(pytest.param(7, seed, (), marks=pytest.mark.long) for seed in range(3, 7)),  # deaths in a row make restarts slower
    ],
)
def test_death_of_an_io_process_neither_loses_nor_repeats_an_event(play, until, rounds, seed, options):
    """`kill -9` at any moment under traffic: what was in the rings is handled once, the rest is asked for."""

    async def test(stage):
        chance = random.Random(seed)
        run = Run(stage, until)
        rig = await run.start(*options)
        pids = rig.pids("rig.io")
        async with run.traffic():
            for number in range(rounds):
                await asyncio.sleep(chance.random() * 0.2)
                os.kill(chance.choice(pids), signal.SIGKILL)
                await rig.hear("process died, and is started again", times=number + 1)
                await until(lambda pids=pids: len(rig.pids("rig.io")) == len(pids) and set(rig.pids("rig.io")) != set(pids))
                await run.joined()
                pids = rig.pids("rig.io")
        await run.all_handled()
        summary = await rig.drain()

        assert run.repeats() == 0
        in_order(run)
        assert summary["unfinished"] == 0
        assert {value[0] for value in run.gaps()} <= {"replayed", "nothing_missed"}
        assert sum(len(run.gaps(topic)) for topic in [*run.topics, "room:plain"]) >= rounds

    play(test, seconds=110, history=History(keep=KEEP))


@pytest.mark.slow
@pytest.mark.parametrize(("rounds", "seed"), [(2, 1), pytest.param(15, 2, marks=pytest.mark.long)])
def test_death_of_the_whole_run_loses_no_event(play, until, rounds, seed):
    """`kill -9` of the supervisor: the next run asks from the last commit on; only what was not saved yet comes twice."""

    async def test(stage):
        chance = random.Random(seed)
        run = Run(stage, until)
        rig = await run.start()
        await run.all_handled()
        await until(lambda: saved(stage, run))
        async with run.traffic():
            for _ in range(rounds):
                await asyncio.sleep(chance.random() * 0.5)
                rig.signal(signal.SIGKILL)
                await stage.until_gone()
                await until(lambda: not stage.server.clients)
                rig = await run.start()
        await run.all_handled()
        await rig.drain()

        repeats = run.repeats()
        lives = stage.ledger.lives()
        for life in lives:
            for topic in run.topics:
                numbers = [value for kind, of, value in life if kind == "tick" and of == topic]
                assert numbers == sorted(set(numbers)), "in one life in order, and none twice"
        assert repeats < sum(run.sent().values()) / 4, "what was handled since the last of some twenty saves a second"
        assert 1 <= len(run.gaps()) <= rounds
        assert {value[4] for value in run.gaps()} == {"the run was restarted"}

    play(test, seconds=110, history=History(keep=KEEP))


def saved(stage, run):
    """Say whether each topic has a stored cursor."""
    with contextlib.closing(sqlite3.connect(stage.state / "rig.db")) as database:
        return {topic for (topic,) in database.execute("SELECT topic FROM cursors")} >= set(run.topics)


@pytest.mark.slow
def test_drained_run_repeats_nothing(play, until):
    """A clean end saves the cursor of the last event: the next run begins with the one after it."""

    async def test(stage):
        run = Run(stage, until)
        for _ in range(2):
            rig = await run.start()
            async with run.traffic():
                before = max(run.sent().values())
                await until(lambda before=before: min(run.sent().values()) > before + 30)
                await rig.drain()
        rig = await run.start()
        await run.all_handled()
        await rig.drain()

        assert run.repeats() == 0
        in_order(run)
        assert [value[4] for value in run.gaps()] == ["the run was restarted"] * 2

    play(test, history=History(keep=KEEP))


SPILLS = ("--pause-limit", "0.1", "--ring-bytes", "65536")


@pytest.mark.slow
def test_what_a_run_left_in_the_spill_is_not_handled_again_when_the_server_replays_it(play, until):
    """The next run handles it from the disk, and passes over the same events when the server sends them."""

    async def test(stage):
        run = Run(stage, until)
        rig = await run.start(*SPILLS, "--graceful-timeout", "0.2")
        await run.all_handled()
        await until(lambda: saved(stage, run))
        await run.flood(4_000, event="gated")
        await rig.hear("workers cannot keep up: what their rings have no room for is spilled to disk")
        await until(lambda: spilled(stage) > 1_000)
        rig.signal(signal.SIGTERM)
        assert await rig.end() == 1
        [left] = rig.said("spilled events are left: the next run on this state directory handles them first")

        stage.ledger.open_gate()
        rig = await run.start(*SPILLS)
        await run.all_handled()
        summary = await rig.drain()

        assert run.repeats() == 0
        assert summary["recovered"] == summary["duplicates"] == left["events"] > 1_000
        assert summary["handled"] == 4_000 + TOPICS

    play(test, history=History(keep=KEEP))


@pytest.mark.slow
def test_store_that_fails_takes_no_event_down(play, until):
    """A database that cannot be opened is said in the log; events are handled, and gaps of this run are filled."""

    async def test(stage):
        (stage.state / "rig.db").mkdir(mode=0o700, parents=True)
        stage.state.chmod(0o700)
        run = Run(stage, until)
        rig = await run.start()
        await run.flood(80)
        await run.all_handled()
        first = stage.client
        stage.server.close_where(0)
        await run.flood(80)
        await run.joined(besides=first)
        await run.all_handled()
        await rig.drain()

        assert run.repeats() == 0
        assert len(rig.said("cursors cannot be read: what was sent since the last run is not asked for")) == 1
        assert len(rig.said("cursors are not saved, which is tried again: a restart now would repeat events")) == 1

    play(test, history=History(keep=KEEP))
