"""No token is shown anywhere: each provider and mode, whatever goes wrong, in every form of the log."""

import asyncio
import io
import itertools
import logging
import shlex
import traceback
from urllib.parse import quote

import pytest
import structlog

from rig import log
from rig.auth import Token, TokenSource, provider
from rig.auth.stores import FileStore, keyring_store
from rig.dialling import Dialler
from rig.endpoints import Candidate
from rig.errors import AuthenticationRefused, ConfigError, JoinRefused, TokenUnavailable
from rig.transport import Endpoint

SECRET = "distinctive/hunter2+token"
MODES = ["subprotocol", "param:t", "header", "header:X-Key", "join:t"]


@pytest.fixture(params=["env", "file", "command", "command with JSON", "keyring", "keyring file"])
def spec(request, vault, tmp_path, monkeypatch):
    """What `--auth` says, for each provider, with the secret behind it."""
    match request.param:
        case "env":
            monkeypatch.setenv("SECRETS_TEST", SECRET)
            return "env:SECRETS_TEST"
        case "file":
            (tmp_path / "token").write_text(SECRET)
            return f"file:{tmp_path / 'token'}"
        case "command":
            return f"command:printf %s {SECRET}"
        case "command with JSON":
            answer = f'{{"token": "{SECRET}", "expires_in": 3600}}'
            return f"command:{shlex.join(['echo', answer])}"
        case "keyring":
            keyring_store().write("test", Token(SECRET))
        case "keyring file":
            vault.usable(False)
            FileStore().write("test", Token(SECRET))
    return "keyring:test"


@pytest.fixture(params=["text", "json"])
def logged(request):
    """What was logged, at the most talkative level."""
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("picows", "asyncio")}
    log._hidden.clear()
    log.configure("debug", request.param, stream=stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    structlog.reset_defaults()


class Server:
    """Refuses everybody, and repeats what it was sent."""

    async def dial(self, endpoint, owner, **limits):
        structlog.get_logger().debug("dialling", endpoint=endpoint, url=endpoint.display)
        logging.getLogger("theirs").debug("GET %s %s", endpoint.websocket_url(), endpoint.request_headers())
        raise AuthenticationRefused(endpoint.display, 403)


def shown(exc):
    """All that is ever made of an exception, its causes included."""
    return f"{exc} {exc!r} {exc.args} {''.join(traceback.format_exception(exc))}"


@pytest.mark.parametrize("mode", MODES)
def test_no_provider_and_no_mode_shows_its_token(run, logged, spec, mode):
    """Neither logs nor exceptions have it, though the server refuses it and a library logs the request."""

    async def main():
        source = TokenSource(provider(spec))
        dial = Dialler(
            [Candidate(Endpoint("wss://localhost/socket"), Server())],
            tokens=source, token_mode=mode, connect_timeout=1.0, max_frame_bytes=1024,
        )  # fmt: skip
        with pytest.raises(AuthenticationRefused) as refused:
            await dial(object())
        assert (await source.get()).value == SECRET, "the secret is really there"
        payload = dial.join_payload({"since": 41})
        text = shown(refused.value) + f"{source!r} {await source.get()!r} {dial!r}"
        if callable(payload):
            assert payload()["t"] == SECRET
            answer = JoinRefused("room:1", {"reason": f"unauthorized: {payload()['t']}"})
            structlog.get_logger().warning("refused", error=answer, payload=payload())
        structlog.get_logger().info("the provider", provider=source.name)
        await dial.close()
        assert "hunter2" not in text

    run(main)

    assert "the provider" in logged.getvalue()
    assert "theirs" in logged.getvalue() or "GET" in logged.getvalue()
    assert SECRET not in logged.getvalue()
    assert quote(SECRET, safe="") not in logged.getvalue()
    assert "hunter2" not in logged.getvalue()


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        *itertools.product(["file", "command", "keyring"], [f"{SECRET}\n{SECRET}", f"{SECRET}\x1b"]),
        ("command", f'{{"token": "{SECRET}"'),
        ("command", f'{{"tokens": "{SECRET}"}}'),
        ("command", f'{{"token": ["{SECRET}"]}}'),
    ],
)
def test_a_token_that_is_broken_is_not_shown_either(run, logged, vault, tmp_path, kind, broken):
    """Each provider complains of it without quoting it."""
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(broken)
    vault.passwords["rig", "test"] = broken
    spec = {"file": f"file:{file}", "command": f"command:cat {file}", "keyring": "keyring:test"}[kind]

    async def main():
        with pytest.raises(TokenUnavailable) as refused:
            await provider(spec).fetch()
        assert "hunter2" not in shown(refused.value)
        structlog.get_logger().error("no token", error=refused.value, exc_info=refused.value)

    run(main)

    assert "no token" in logged.getvalue()
    assert "hunter2" not in logged.getvalue()


def test_a_token_in_the_place_of_the_provider_is_not_shown(logged):
    """Whoever writes --auth TOKEN does not find it in a bug report."""
    for spec, colon in itertools.product(["", "token", "Bearer"], [":", " "]):
        with pytest.raises(ConfigError) as refused:
            provider(f"{spec}{colon}{SECRET}")
        assert "hunter2" not in shown(refused.value)


def test_the_names_of_tasks_and_threads_have_no_token(run, vault):
    """They are seen in dumps."""
    vault.passwords["rig", "test"] = SECRET
    names = []

    def look():
        import threading

        names.extend(thread.name for thread in threading.enumerate())

    vault.before_answer = look

    async def main():
        source = TokenSource(provider("keyring:test"))
        asking = asyncio.create_task(source.get())
        await asyncio.sleep(0)
        names.extend(task.get_name() for task in asyncio.all_tasks())
        await asking

    run(main)

    assert {"rig-keyring", "fetch-token"} <= set(names)
    assert "hunter2" not in str(names)
