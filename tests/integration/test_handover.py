"""A new connection takes the place of the old one while everything is in use, in real processes."""

import asyncio
import contextlib
import json
import os
import stat
import time
from pathlib import Path

import pytest

from mock_server.channel import Reply
from mock_server.reference import Room
from rig.admin.address import answers
from rig.admin.client import ask
from tests.integration.door import Door
from tests.integration.outbox_scene import Recorder
from tests.integration.test_failover import in_order
from tests.integration.test_resume import Run

PUSHING = 20
"""Events between two turns of the loop: about a hundred thousand a second."""


class Traffic:
    """Broadcasts without a pause, numbered for each topic."""

    def __init__(self, stage, topics=None, pause=0.0):
        self._stage, self._pause = stage, pause
        self.sent = dict.fromkeys(topics or stage.topics, 0)
        self._task = None

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info):
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self):
        topics = list(self.sent)
        number = 0
        while True:
            for _ in range(PUSHING):
                topic = topics[number % len(topics)]
                self._stage.server.publish(topic, "tick", {"i": self.sent[topic]})
                self.sent[topic] += 1
                number += 1
            await asyncio.sleep(self._pause)


async def rotate(stage, until):
    """Run `rig topics rotate`, and return its exit code, what it says, and what it complains of."""
    await until(lambda: answers(stage.state))  # it comes a little after the run
    command = await stage.rig("topics", "rotate", "--state-dir", str(stage.state))
    code = await command.end()
    return code, "\n".join(command.out), "\n".join(command.err)


async def handled(stage, until, sent):
    """Wait until every event was handled."""
    await until(lambda: stage.ledger.size >= sum(sent.values()))
    await until(lambda: len(set(map(tuple, stage.ledger.all("tick")))) == sum(sent.values()))


@contextlib.contextmanager
def on_one_connection(stage):
    """Insist that it is another one afterwards."""
    before = stage.client
    yield
    assert stage.client != before


@pytest.mark.slow
@pytest.mark.parametrize(("topics", "rounds"), [(500, 1), pytest.param(64, 5, marks=pytest.mark.slow)])
def test_a_rotation_under_traffic_loses_nothing(play, until, topics, rounds):
    """Every event is handled, in order for its topic; a few come twice, because there is no cursor."""

    async def test(stage):
        rig = await stage.run_worker(topics=topics)
        async with Traffic(stage, pause=0.001) as traffic:
            for _ in range(rounds):
                with on_one_connection(stage):
                    code, said, _ = await rotate(stage, until)
                    assert code == 0
                    assert f"{topics} topics are at {stage.server.url}" in said
                    await until(lambda: len(stage.server.clients) == 1)
        await handled(stage, until, traffic.sent)
        summary = await rig.drain()

        repeats = in_order(stage, traffic.sent)
        assert summary.get("reconnects", 0) == 0
        assert summary["handled"] == sum(traffic.sent.values()) + repeats
        assert repeats <= 0.05 * sum(traffic.sent.values())
        assert not rig.said("connection lost")

    play(test, phoenix="1.7.21")


@pytest.mark.slow
def test_a_rotation_during_a_flood_loses_nothing(play, until):
    """The old connection is far behind, and what the new one brings waits for it."""

    async def test(stage):
        rig = await stage.run_worker(topics=32)
        async with Traffic(stage) as traffic:
            await until(lambda: sum(traffic.sent.values()) > 20_000)
            with on_one_connection(stage):
                code, _, complaint = await rotate(stage, until)
                assert code == 0, complaint
                await until(lambda: len(stage.server.clients) == 1)
            sent = sum(traffic.sent.values())
            await until(lambda: sum(traffic.sent.values()) > sent + 20_000)
        await handled(stage, until, traffic.sent)
        await rig.drain()
        in_order(stage, traffic.sent)

    play(test, seconds=90)


@pytest.mark.slow
def test_with_a_cursor_nothing_comes_twice(play, until):
    """Every event is handled once and in order over several rotations, and no gap is told of."""

    async def test(stage):
        run = Run(stage, until)
        rig = await run.start()
        async with run.traffic():
            for _ in range(3):
                code, _, complaint = await rotate(stage, until)
                assert code == 0, complaint
        await run.all_handled()
        assert run.repeats() == 0
        for numbers in run.handled().values():
            assert numbers == sorted(numbers)
        assert stage.ledger.all("gap") == []
        assert len(rig.said("handed over")) == 3
        await rig.drain()

    play(test)


def test_durable_pushes_arrive_once_and_in_order_over_a_rotation(play, until, monkeypatch):
    """None is sent on the new connection while one before it may still be under way on the old."""
    recorder = Recorder()
    monkeypatch.setitem(Room.handlers, "record", recorder)

    async def test(stage):
        rig = await stage.run_worker(topics=8)
        rotating = asyncio.create_task(rotate(stage, until))
        sent = {}
        while not rotating.done():
            sent = await stage.flood("flooded_deposit", 80)
            await asyncio.sleep(0.02)
        assert (await rotating)[0] == 0
        await until(lambda: recorder.total >= sum(sent.values()))
        await rig.drain()

        for topic, count in sent.items():
            keys = [key for _, key in recorder.pushes[topic]]
            assert len(set(keys)) == len(keys), "each push arrived once"
            assert list(dict.fromkeys(recorder.numbers(topic))) == list(range(count)), "but an event may come twice, and push twice"

    play(test, seconds=90)


def test_the_flight_recorder_is_dumped_when_asked(play, until):
    """By anybody who may read the state directory."""

    async def test(stage):
        rig = await stage.run_worker(topics=2)
        await until(lambda: answers(stage.state))
        status, answer = await ask(stage.state, "POST", "/flight")
        [dump] = answer["io"]
        assert (status, dump["error"]) == (200, "")
        entries = json.loads(await asyncio.to_thread(Path(dump["path"]).read_text))["entries"]
        assert any(entry.get("event") == "phx_join" for entry in entries)
        await rig.drain()

    play(test)


@pytest.mark.slow
def test_pushes_that_wait_get_their_replies_across_a_rotation(play, until):
    """No handler hears of a lost connection, and none waits for the others."""

    async def test(stage):
        rig = await stage.run_worker(topics=16)
        for topic in stage.topics[:8]:
            stage.server.publish(topic, "ask", {"event": "late_reply", "payload": {"ms": 700, "topic": topic}, "timeout": 20})
        await until(lambda: len(stage.ledger.all("asking")) == 8)
        rotating = asyncio.create_task(rotate(stage, until))
        for number in range(100):
            for topic in stage.topics[8:]:
                stage.server.publish(topic, "ask", {"event": "echo", "payload": {"n": number}, "timeout": 20})
            await asyncio.sleep(0.01)
        code, _, complaint = await rotating
        await until(lambda: len(stage.ledger.all("answer")) >= 8 + 800)
        await rig.drain()

        assert code == 0, complaint
        assert stage.ledger.all("failed") == []
        answers = stage.ledger.all("answer")
        assert {topic for topic, reply in answers if "ms" in reply} == set(stage.topics[:8])
        for topic in stage.topics[8:]:
            assert {reply["n"] for of, reply in answers if of == topic} == set(range(100))

    play(test)


def test_where_the_server_refuses_new_connections_the_old_one_stays(play, until):
    """The command says why and ends with 1; nothing has happened to the connection."""

    async def test(stage):
        async with Door(stage.server.port) as door:
            rig = await stage.run_worker(topics=8, url=door.url)
            await until(lambda: stage.joined() == set(stage.topics))
            before = stage.client
            await door.shut(cut=False)
            code, _, complaint = await rotate(stage, until)
            assert code == 1
            assert f"cannot reach 127.0.0.1:{door.port}" in complaint
            said = await rig.hear("not handed over: the connection stays")
            assert said["level"] == "warning"

            stage.server.publish("room:1", "tick", {"i": 0})
            await until(lambda: stage.ledger.all("tick") == [["room:1", 0]])
            assert stage.client == before
            await rig.drain()
            assert not rig.said("connection lost")

    play(test)


def test_where_the_new_connection_may_not_join_the_old_one_stays(play, until):
    """All or nothing: no topic is left here that cannot be joined there."""

    async def test(stage):
        rig = await stage.run_worker(topics=8)
        before = stage.client
        stage.server.faults.refuse_joins = "room:5"
        code, _, complaint = await rotate(stage, until)
        assert (code, "refused to join 'room:5'" in complaint) == (1, True)
        await until(lambda: len(stage.server.clients) == 1)
        assert stage.client == before
        assert stage.joined() == set(stage.topics)
        await rig.drain()

    play(test)


def test_a_fresh_token_gets_its_connection_by_a_hand_over(play, until, monkeypatch):
    """A topic that is refused with the old token is joined, and the others lose no connection for it."""
    join = Room.join

    def by_token(channel, params):
        refused = channel.topic == "room:0" and channel.socket.identity.auth_token == "first"
        return Reply("error", {"reason": "token expired"}) if refused else join(channel, params)

    monkeypatch.setattr(Room, "join", by_token)

    async def test(stage):
        (stage.folder / "token").write_text("first")
        (stage.folder / "next.sh").write_text("cat token; echo second > token")
        rig = await stage.run_worker("--auth", "command:sh next.sh", topics=4, url=stage.server.url)
        await rig.hear("handed over")
        await until(lambda: stage.joined() == set(stage.topics) and len(stage.server.clients) == 1)
        [socket] = stage.server.sockets.values()
        assert socket.identity.auth_token == "second"
        await rig.drain()
        assert rig.said("the server refused the join", topic="room:0")
        assert not rig.said("connection lost")

    play(test)


async def get(stage, path):
    """Ask the admin socket as any tool would."""
    reader, writer = await asyncio.open_unix_connection(str(stage.state / "admin.sock"))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: rig\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_the_admin_socket_tells_where_a_run_stands(play, until):
    """From soon after the start until its end, and to its owner only."""

    async def test(stage):
        async with Door(stage.server.port) as second:
            started = time.time()
            rig = await stage.run_worker("--url", second.url, topics=4)
            path = stage.state / "admin.sock"
            await until(lambda: answers(stage.state))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert await get(stage, "/livez") == (200, {"alive": True})

            code, status = await get(stage, "/status")
            assert (code, status["app"], status["state"], status["topics"]) == (200, "ledger", "connected", 4)
            assert started <= status["since"] <= time.time()
            [io] = status["io"]
            assert [io["pid"]] == rig.pids("rig.io")
            assert [(endpoint["here"], endpoint["failures"]) for endpoint in io["endpoints"]] == [(True, 0), (False, 0)]
            assert sorted(worker["pid"] for worker in status["workers"]) == sorted(rig.pids("rig.worker"))

            listed = await stage.rig("topics", "list", "--state-dir", str(stage.state))
            assert await listed.end() == 0
            assert listed.out == [f"room:{number}\tjoined\tio" for number in range(4)]
            await rig.drain()
            assert not path.exists()

            listed = await stage.rig("topics", "list", "--state-dir", str(stage.state))
            assert await listed.end() == 1
            assert "no run answers at" in listed.err[-1]

    play(test)


def test_a_state_directory_with_a_long_path_is_reached_too(play, until):
    """The limit of a socket's address is no limit of the path."""

    async def test(stage):
        stage.state = stage.folder.joinpath(*["a-folder-with-a-long-name"] * 5)
        assert len(os.fsencode(stage.state)) > 107
        rig = await stage.run_worker(topics=2)
        code, said, complaint = await rotate(stage, until)
        assert (code, complaint) == (0, "")
        assert "2 topics are at" in said
        await rig.drain()

    play(test)
