"""What keeps a command from starting: one sentence on stderr that says what to do, the right exit code, never a traceback."""

import asyncio
import contextlib
import json
import signal
import ssl
from pathlib import Path

import pytest

TLS = Path(__file__).parents[1] / "mock_server" / "tls"
START_UP, USAGE, AUTHENTICATION = 3, 2, 4

GOOD = "import rig\napp = rig.App()\n@app.on('room:*', 'tick')\nasync def tick(event): ...\n"
LIFESPAN = """
import contextlib, os, rig

@contextlib.asynccontextmanager
async def lifespan(app):
    %s
    yield

app = rig.App(lifespan=lifespan)

@app.on("room:*", "tick")
async def tick(event): ...
"""
BROKEN_APPS = {
    "no module": ("nowhere:app", "", "there is no module 'nowhere'"),
    "no attribute": ("broken:missing", GOOD, "has no 'missing': did you mean 'app'?"),
    "no app": ("broken:tick", GOOD, "not a rig.App"),
    "nothing to do": ("broken:app", "import rig\napp = rig.App()\n", "neither handlers nor topics"),
    "an import that raises": ("broken:app", "raise RuntimeError('no database')\n", "RuntimeError: no database"),
    "an import that is missing": ("broken:app", "import no_such_thing\n", "'no_such_thing', which is not installed"),
    "a syntax error": ("broken:app", "def f(:\n", "SyntaxError"),
    "an import that exits": ("broken:app", "import os\nos._exit(7)\n", "exit code 7"),
    "a wrong signature": (
        "broken:app",
        "import rig\napp = rig.App()\n@app.on('room:*', 'tick')\nasync def tick(event, more): ...\n",
        "handler tick",
    ),
    "a wrong pattern": ("broken:app", "import rig\napp = rig.App()\n@app.on('a*b', 'tick')\nasync def tick(event): ...\n", "'a*b'"),
    "nothing to join": (
        "broken:app",
        "import rig\napp = rig.App()\n@app.on('room:{id}', 'tick')\nasync def tick(event): ...\n",
        "nothing to join for 'room:{id}'",
    ),
    "a lifespan that fails": ("broken:app", LIFESPAN % "raise OSError('no database')", "failed: OSError: no database"),
    "workers that die before they are ready": (
        "broken:app",
        LIFESPAN % "os._exit(9)",
        "times in a row before it was ready (exit code 9)",
    ),
}

TOLD_LIKE_ANOTHER = ("no app", "nothing to do", "a syntax error", "a wrong pattern", "nothing to join")


async def refused(command, code, sentence):
    """Insist that a command ends with this code and a sentence like that, as the last thing on stderr."""
    assert await command.end() == code, command.err
    assert not any("Traceback" in line for line in command.err), command.err
    assert command.err[-1].startswith("Error: "), command.err
    assert sentence in command.err[-1]
    assert command.out == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in TOLD_LIKE_ANOTHER else ()) for name in BROKEN_APPS]
)
def test_an_application_that_cannot_run_is_told_in_a_sentence(play, name):
    """Module, attribute, import, signature, patterns, lifespan: exit code 3, and nothing runs on."""
    target, code, sentence = BROKEN_APPS[name]

    async def test(stage):
        (stage.folder / "broken.py").write_text(code)
        command = await stage.rig("run", target, "--url", stage.server.url, "--workers", "1", "--log-format", "json")
        await refused(command, START_UP, sentence)

    play(test)


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "sentence"),
    [
        (["run", "--wrokers", "2"], {}, USAGE, "--workers"),
        (["run", "--workers", "none"], {}, USAGE, "expected a whole number from 1 to 1024"),
        (["run"], {"RIG_WROKERS": "2"}, USAGE, "RIG_WORKERS"),
        (["run", "--ca", "nowhere.pem", "--url", "wss://localhost/socket"], {}, USAGE, "nowhere.pem"),
        (["run", "--ca", "wrong.pem", "--url", "wss://localhost/socket"], {}, USAGE, "wrong.pem"),
        (["listen", "--ca", "wrong.pem", "wss://localhost/socket", "room:1"], {}, USAGE, "wrong.pem"),
    ],
)
def test_a_wrong_setting_is_told_in_a_sentence(play, arguments, environment, code, sentence):
    """Flags, variables and files: exit code 2, and where it helps the name that may be meant."""

    async def test(stage):
        (stage.folder / "wrong.pem").write_text("no certificate\n")
        await refused(await stage.rig(*arguments, **environment), code, sentence)

    play(test)


def listening(url):
    """The arguments of `rig listen`."""
    return ["listen", url, "room:1"]


def pushing(url):
    """The arguments of `rig push`."""
    return ["push", url, "room:1", "echo", '{"n": 1}']


COMMANDS = [listening, pytest.param(pushing, marks=pytest.mark.slow)]
"""Both dial in the same way; what is particular to one is in the tests of each."""


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_server_that_cannot_be_talked_to_is_told_in_a_sentence(play, arguments):
    """Unreachable, 403, 404 and 503 each have their words and their exit code."""

    async def test(stage):
        url = stage.server.url
        stage.server.faults.change({"refuse_connections": 403})
        await refused(await stage.rig(*arguments(url)), AUTHENTICATION, "HTTP 403: check the token")
        stage.server.faults.change({"refuse_connections": 503})
        await refused(await stage.rig(*arguments(url)), 1, "HTTP 503")
        stage.server.faults.reset()
        await refused(await stage.rig(*arguments(url.replace("/socket", "/nowhere"))), 1, "HTTP 404: check the path")
        await stage.server.stop()
        await refused(await stage.rig(*arguments(url)), 1, "cannot reach 127.0.0.1")

    play(test)


def test_a_join_that_is_refused_is_told_in_a_sentence(play):
    """Both commands join before they do anything else."""

    async def test(stage):
        stage.server.faults.change({"refuse_joins": True})
        for arguments in (listening, pushing):
            await refused(await stage.rig(*arguments(stage.server.url)), 1, "refused to join 'room:1'")

    play(test)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_what_is_no_websocket_is_told_in_a_sentence(play, arguments):
    """Some other program has the port: one that greets, one that answers HTTP, one that hangs up."""

    async def test(stage):
        for answer in (b"220 smtp.example ready\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b""):
            async with other_program(answer) as port:
                await refused(await stage.rig(*arguments(f"ws://127.0.0.1:{port}/socket")), 1, f"127.0.0.1:{port}")

    play(test)


@contextlib.asynccontextmanager
async def other_program(answer):
    """Listen on a port, and give every connection the same answer."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_certificate_that_nobody_vouches_for_is_told_in_a_sentence(play, arguments):
    """The remedy is in it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "localhost.crt", TLS / "localhost.key")

    async def test(stage):
        await refused(await stage.rig(*arguments(stage.server.url)), 1, "name the authority that signed the certificate with --ca")

    play(test, host="localhost", ssl_context=context)


def test_listen_and_push_work_where_nothing_is_wrong(play, until):
    """The same commands against a server that takes them."""

    async def test(stage):
        listener = await stage.rig("listen", stage.server.url, "room:1", "--count", "2")
        await until(lambda: stage.joined() == {"room:1"})
        pusher = await stage.rig(*pushing(stage.server.url))
        assert await pusher.end() == 0
        assert pusher.out == ['{"n":1}']
        stage.server.publish("room:1", "news", {"n": 1})
        stage.server.publish("room:1", "news", {"n": 2})

        assert await listener.end() == 0
        assert [json.loads(line)["payload"] for line in listener.out] == [{"n": 1}, {"n": 2}]

    play(test)


def test_run_keeps_trying_and_says_why(play, until):
    """A server that is not there yet is no error: the log says what is wrong, and it connects as soon as it can."""

    async def test(stage):
        url, port = stage.server.url, stage.server.port
        await stage.server.stop()
        rig = await stage.run_worker("--workers", "1", topics=4, url=url)
        entry = await rig.hear("not connected", cause="refused")
        assert "connection refused" in entry["reason"]
        assert entry["delay"] < 1.1
        stage.server.port = port
        await stage.server.start()
        await until(lambda: stage.joined() == set(stage.topics))
        await rig.drain()

    play(test)


@pytest.mark.parametrize("status", [403, pytest.param(503, marks=pytest.mark.slow)])
def test_run_that_never_connected_ends_in_peace(play, until, status):
    """A signal ends the waiting at once, however long the next attempt is away."""

    async def test(stage):
        stage.server.faults.change({"refuse_connections": status})
        rig = await stage.run_worker(url=stage.server.url)
        entry = await rig.hear("not connected")
        assert f"HTTP {status}" in entry["reason"]
        assert entry["delay"] >= 30
        rig.signal(signal.SIGTERM)

        assert await rig.end(within=3) == 0
        assert rig.said("done", received=0)

    play(test)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_import_that_never_ends_can_be_interrupted(play, until, number):
    """A signal ends a start-up that hangs in the application."""

    async def test(stage):
        (stage.folder / "hanging.py").write_text("import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(3600)\n")
        rig = await stage.rig("run", "hanging:app", "--url", stage.server.url)
        await until((stage.folder / "importing").exists)
        rig.signal(number)

        assert await rig.end(within=2) == 0
        assert not any("Traceback" in line for line in rig.err)

    play(test)


@pytest.mark.slow
def test_an_application_may_print_and_start_threads(play, until):
    """What an import writes to stdout, and the threads that it leaves running, keep nothing from starting or ending."""
    threads = (
        "import threading, time\nprint('hello from the application')\nthreading.Thread(target=time.sleep, args=(3600,)).start()\n"
    )

    async def test(stage):
        (stage.folder / "chatty.py").write_text(threads + GOOD.replace("'room:*'", "'room:1'"))
        rig = await stage.rig("run", "chatty:app", "--url", stage.server.url, "--workers", "1", "--log-format", "json")
        await until(lambda: stage.joined() == {"room:1"})
        await rig.drain()

        assert set(rig.out) == {"hello from the application"}

    play(test)
