"""What a run says of its connection, to its callbacks, its log and its state directory, while real things happen to it."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FAST = ("--heartbeat-interval", "0.4", "--heartbeat-timeout", "0.2")


async def run_with_callbacks(stage, *options, url=None, topics=4, **environment):
    """Start the application with callbacks, and return when it has joined its topics, unless it connects elsewhere."""
    rig = await stage.rig(
        *("run", "state_app:app", "--app-dir", str(HERE), "--url", url or stage.server.url, "--workers", "2"),
        *("--log-format", "json", "--status-interval", "0", "--state-dir", str(stage.state), *options),
        LEDGER_TOPICS=str(topics),
        **environment,
    )
    stage.topics = [f"room:{number}" for number in range(topics)]
    return rig


def told(stage):
    """Return the states that each worker's callback was told, in order."""
    return [[value[0] for kind, _, value in life if kind == "state"] for life in stage.ledger.lives()]


def test_every_change_reaches_every_worker_and_a_broken_callback_harms_none(play, until):
    """Lost, refused, back again, and the end of the run; the reasons are there."""

    async def test(stage):
        rig = await run_with_callbacks(stage)
        await until(lambda: stage.joined() == set(stage.topics))
        stage.server.faults.refuse_connections = 500
        stage.server.close_where(1012)
        lost = await rig.hear("connection lost")
        failed = await rig.hear("not connected")
        await until(lambda: all(life[-1:] == ["offline"] for life in told(stage)))
        stage.server.faults.refuse_connections = None
        await until(lambda: stage.joined() == set(stage.topics))
        await until(lambda: all(life[-1] == "connected" for life in told(stage)))
        rig.signal(signal.SIGTERM)
        assert await rig.end() == 0

        expected = ["connecting", "connected", "connecting", "offline", "connected", "draining"]
        assert told(stage) == [expected, expected]
        assert (lost["cause"], lost["closed_by"], lost["code"], lost["decision"]) == ("draining", "server", 1012, "reconnect")
        assert lost["open_for"] >= lost["heartbeat_age"] >= 0.0
        assert failed["cause"] == "http_5xx"
        assert not failed.keys() & {"closed_by", "code", "heartbeat_age", "open_for"}
        assert rig.said("an on_state callback raised")

    play(test)


def test_a_server_that_answers_no_heartbeat_degrades_and_then_loses_the_connection(play, until):
    """The callbacks hear of it before it is lost."""

    async def test(stage):
        rig = await run_with_callbacks(stage, *FAST)
        await until(lambda: stage.joined() == set(stage.topics))
        stage.server.faults.ignore_heartbeats = True
        lost = await rig.hear("connection lost", cause="heartbeat_lost")
        await until(lambda: all(life[2:4] == ["degraded", "connecting"] for life in told(stage)))
        rig.signal(signal.SIGTERM)
        assert await rig.end() == 0

        assert lost["closed_by"] == "us"
        assert lost["heartbeat_age"] >= 0.4
        assert lost["reason"] == "heartbeat timeout"

    play(test)


def test_a_lost_connection_leaves_a_flight_record(play, until):
    """Private, with the frames of the joins and how it ended, and without what was in them."""

    async def test(stage):
        rig = await run_with_callbacks(stage, "--param", "token=hunter2hunter2")
        await until(lambda: stage.joined() == set(stage.topics))
        await stage.flood("tick", 100)
        stage.server.close_where(1001)
        written = await rig.hear("flight recorder written")
        await rig_ended(rig)

        [path] = (stage.state / "flight").iterdir()
        assert written["path"] == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = path.read_text()
        entries = json.loads(text)["entries"]
        assert {"phx_join", "phx_reply"} <= {entry.get("event") for entry in entries}
        [end] = [entry for entry in entries if entry["what"] == "SocketClosed"]
        assert (end["code"], end["by"]) == (1001, "server")
        assert [entry["state"] for entry in entries if entry["what"] == "state"] == ["connecting", "connected", "connecting"]
        assert "hunter2" not in text

    play(test)


async def rig_ended(rig):
    """End a run in peace."""
    rig.signal(signal.SIGTERM)
    assert await rig.end() == 0


@pytest.mark.parametrize("status", [401, 403])
def test_a_run_that_shall_end_for_a_refused_token_does(play, status):
    """With exit code 4, and a sentence that says why."""

    async def test(stage):
        stage.server.faults.refuse_connections = status
        rig = await run_with_callbacks(stage, "--auth-failure", "exit")
        assert await rig.end() == 4
        assert f"answered HTTP {status}" in rig.err[-1]
        assert "--auth-failure exit" in rig.err[-1]
        assert rig.said("draining: handlers finish what was received; a second signal ends it now")

    play(test)


@pytest.mark.slow
def test_a_run_that_shall_end_for_refused_joins_drains_first(play, until):
    """The topics that were joined are handled to the end; one that is refused twice as unauthorised ends the run."""

    async def test(stage):
        rig = await run_with_callbacks(stage, "--auth-failure", "exit", topics=2, EXTRA_TOPIC="room:forbidden")
        await until(lambda: stage.joined() == set(stage.topics))
        sent = await stage.flood("slow", 200, topics=["room:1"])
        assert await rig.end() == 4

        assert "refuses to join 'room:forbidden' with {'reason': 'unauthorized'}" in rig.err[-1]
        assert stage.ledger.repeats("slow", sent) == 0
        assert len(stage.ledger.all("slow")) == 200

    play(test)


def test_by_default_a_refused_token_is_tried_for_ever(play, until):
    """In the slow lane, as an error, and the run is offline meanwhile."""

    async def test(stage):
        stage.server.faults.refuse_connections = 403
        rig = await run_with_callbacks(stage)
        said = await rig.hear("not connected", cause="unauthorized")
        await until(lambda: all(life[-1:] == ["offline"] for life in told(stage)) and told(stage))
        await rig_ended(rig)

        assert (said["level"], said["decision"]) == ("error", "reconnect slowly")
        assert 60.0 <= said["delay"] <= 61.0

    play(test)


def test_the_state_of_a_killed_io_process_is_not_told_any_more(play, until):
    """The status says that it died, until its successor is there."""

    async def test(stage):
        rig = await run_with_callbacks(stage, "--status-interval", "0.01")
        await until(lambda: stage.joined() == set(stage.topics))
        await rig.hear("status", state="connected")
        [pid] = rig.pids("rig.io")
        os.kill(pid, signal.SIGKILL)
        await rig.hear(
            "status",
            state="connecting",
            reason="the process died (SIGKILL, perhaps out of memory), and is started again after 0.1 s",
        )
        await until(lambda: all(life[-2:] == ["connecting", "connected"] and len(life) == 4 for life in told(stage)))
        await rig_ended(rig)

    play(test)


class Cable:
    """A TCP relay before the mock server that can go silent without a word: a half-open link."""

    def __init__(self, port):
        self._port, self._cut = port, False
        self._tasks, self._writers = set(), []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    def cut(self):
        """Let nothing through any more on the connections that there are; new ones work."""
        for task in self._tasks:
            task.cancel()
        self._tasks = set()

    async def _connected(self, reader, writer):
        there, onwards = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, onwards]
        for source, sink in ((reader, onwards), (there, writer)):
            self._tasks.add(asyncio.create_task(self._carry(source, sink)))

    @staticmethod
    async def _carry(source, sink):
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()


@pytest.mark.long
def test_a_half_open_link_is_found_within_its_time(play, until):
    """Nothing comes and nothing is refused: interval + 2 · time-out later the connection is another one, and events come again."""

    async def test(stage):
        interval, timeout = 1.5, 0.5
        async with Cable(int(stage.server.url.rpartition(":")[2].partition("/")[0])) as cable:
            rig = await run_with_callbacks(
                stage,
                *("--heartbeat-interval", str(interval), "--heartbeat-timeout", str(timeout)),
                url=f"ws://127.0.0.1:{cable.port}/socket",
            )
            for round_ in range(3):
                await rig.hear("joined", times=4 * (round_ + 1))
                cable.cut()
                cut_at = time.monotonic()
                said = await rig.hear("connection lost", times=round_ + 1)
                found_after = time.monotonic() - cut_at

                assert said["cause"] == "heartbeat_lost"
                # The closing handshake of a dead link takes its time-out (2 s) beside.
                assert found_after < interval + 2 * timeout + 2.0 + 0.5
                stage.server.close_where(1001)  # what the server still has of the dead connection
            await rig.hear("joined", times=16)
            sent = await stage.flood("tick", 100)
            await until(lambda: len(stage.ledger.all("tick")) == 100)
            await rig_ended(rig)

        assert stage.ledger.repeats("tick", sent) == 0
        for life in told(stage):
            lives = [state for state, _ in itertools.groupby(life)]
            assert lives.count("degraded") == 3

    play(test)
