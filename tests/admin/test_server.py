"""The admin API over a run that does as the test says."""

import asyncio
import contextlib
import os

import pytest
import structlog

from rig.admin.address import answers, socket_path
from rig.admin.client import ask
from rig.admin.run import Dump, Rotation, TopicState
from rig.admin.server import serve
from rig.errors import NoRun
from tests.running import run, until


class FakeRun:
    """A run with one io process."""

    def __init__(self):
        self.rotations = [Rotation("io", "ws://a/socket", 3, 0.5, "")]
        self.dumps = [Dump("io", "/state/flight/1.jsonl", "")]
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()

    def status(self):
        if self.broken:
            raise RuntimeError("a bug")
        return {"state": "connected", "io": [{"name": "io"}]}

    async def topics(self):
        return [TopicState("room:1", "joined", "io")]

    async def rotate(self):
        await self.gate.wait()
        return self.rotations

    async def dump_flight(self):
        return self.dumps


@contextlib.asynccontextmanager
async def serving(directory, fake=None):
    fake = fake or FakeRun()
    task = asyncio.create_task(serve(fake, directory))
    await until(lambda: answers(directory))
    try:
        yield fake
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_what_can_be_asked(tmp_path):
    """Each path with its method answers in JSON."""

    async def test():
        async with serving(tmp_path):
            assert await ask(tmp_path, "GET", "/livez") == (200, {"alive": True})
            assert await ask(tmp_path, "GET", "/status") == (200, {"state": "connected", "io": [{"name": "io"}]})
            topic = {"topic": "room:1", "state": "joined", "io": "io"}
            assert await ask(tmp_path, "GET", "/topics") == (200, {"topics": [topic]})
            rotation = {"name": "io", "endpoint": "ws://a/socket", "topics": 3, "seconds": 0.5, "failure": ""}
            assert await ask(tmp_path, "POST", "/rotate") == (200, {"io": [rotation]})
            dump = {"name": "io", "path": "/state/flight/1.jsonl", "error": ""}
            assert await ask(tmp_path, "POST", "/flight") == (200, {"io": [dump]})

    run(test)


def test_the_root_lists_what_can_be_asked(tmp_path):
    """One line for each, itself included; a path that is listed is there."""

    async def test():
        async with serving(tmp_path):
            status, routes = await ask(tmp_path, "GET", "/")
            assert status == 200
            assert set(routes) == {"GET /", "GET /livez", "GET /status", "GET /topics", "POST /rotate", "POST /flight"}
            for route, line in routes.items():
                assert line.endswith("."), route
                assert "\n" not in line, route
                assert (await ask(tmp_path, *route.split()))[0] == 200, route

    run(test)


def test_what_did_not_come_about_is_a_conflict(tmp_path):
    """A script needs to look at the status only."""

    async def test():
        async with serving(tmp_path) as fake:
            fake.rotations.append(Rotation("io-1", "", 0, 0.0, "no"))
            fake.dumps.append(Dump("io-1", "", "disk full"))
            assert (await ask(tmp_path, "POST", "/rotate"))[0] == 409
            assert (await ask(tmp_path, "POST", "/flight"))[0] == 409

    run(test)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/rotate", 405), ("POST", "/status", 405), ("GET", "/nothing", 404), ("POST", "/", 405)],
)
def test_what_there_is_not_is_said_in_json(tmp_path, method, path, status):
    """To look at a run changes nothing, whatever is typed."""

    async def test():
        async with serving(tmp_path):
            answered, body = await ask(tmp_path, method, path)
            assert answered == status
            assert path in body["error"]

    run(test)


def test_a_request_that_fails_ends_nothing_else(tmp_path):
    """The next one is answered, and the log of the run has the traceback."""

    async def test():
        async with serving(tmp_path) as fake:
            fake.broken = True
            with structlog.testing.capture_logs() as logs:
                status, body = await ask(tmp_path, "GET", "/status")
            assert (status, body) == (500, {"error": "it failed: see the log of the run"})
            assert [line["event"] for line in logs] == ["a request to the admin API failed"]
            assert (await ask(tmp_path, "GET", "/livez"))[0] == 200

    run(test)


def test_a_long_request_holds_up_no_other(tmp_path):
    """A hand-over may take its time."""

    async def test():
        async with serving(tmp_path) as fake:
            fake.gate.clear()
            rotating = asyncio.create_task(ask(tmp_path, "POST", "/rotate"))
            assert (await ask(tmp_path, "GET", "/livez"))[0] == 200
            assert not rotating.done()
            fake.gate.set()
            assert (await rotating)[0] == 200

    run(test)


def test_the_socket_is_gone_at_the_end(tmp_path):
    """Whoever asks then hears that nobody is there."""

    async def test():
        async with serving(tmp_path):
            pass
        assert not socket_path(tmp_path).exists()
        with pytest.raises(NoRun, match="did not answer"):
            await ask(tmp_path, "GET", "/livez")

    run(test)


def test_a_directory_that_can_hold_no_socket_is_said_and_done_without(tmp_path):
    """The run goes on."""

    async def test():
        with structlog.testing.capture_logs() as logs:
            await serve(FakeRun(), tmp_path / "nowhere")
        assert [(line["log_level"], line["reason"]) for line in logs] == [("warning", os.strerror(2))]

    run(test)
