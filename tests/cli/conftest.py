"""Runs the command line in this process, with fakes where it would start processes or dial."""

import contextlib
import logging
import os
import sys
import types

import pytest
import structlog
from click.testing import CliRunner

from rig.cli.main import main
from rig.errors import PushRefused


@pytest.fixture(autouse=True)
def _clean_process(monkeypatch, tmp_path):
    """Give each test an empty directory and environment, and restore logging after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RIG_") or name == "WEB_CONCURRENCY"]:
        monkeypatch.delenv(name, raising=False)
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def rig():
    """Run `rig` with arguments; the result has `exit_code`, `stdout` and `stderr`."""

    def invoke(*args, stdin=None):
        return CliRunner().invoke(main, list(args), input=stdin, prog_name="rig")

    return invoke


@pytest.fixture
def replace_module(monkeypatch):
    """Put a module with some names in the place of one of rig's."""

    def replace(name, **names):
        module = types.ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)

    return replace


class FakeServer:
    """
    Stands for `rig.client` and the server behind it.

    Attributes:
        dialled: The settings of the last `connect_with`.
        joined: Topics and payloads, in order.
        pushed: (kind, event, payload, timeout), in order.
        events: What `connection.events()` yields.
        reply: What a push is answered with; an exception is raised.
        refusal: What `connect_with` raises, if anything.
    """

    def __init__(self):
        self.dialled, self.joined, self.pushed, self.events = None, [], [], []
        self.reply, self.refusal, self.closed = {"id": 7}, None, False

    @contextlib.asynccontextmanager
    async def connect_with(self, settings):
        self.dialled = settings
        if self.refusal:
            raise self.refusal
        try:
            yield FakeConnection(self)
        finally:
            self.closed = True

    def refuse(self, topic, event, response):
        self.reply = PushRefused(topic, event, "error", response)


class FakeConnection:
    def __init__(self, server):
        self._server = server

    async def join(self, topic, payload, *, events=True):
        self._server.joined.append((topic, payload))
        return FakeChannel(self._server)

    async def events(self):
        for event in self._server.events:
            if isinstance(event, BaseException):
                raise event
            yield event


class FakeChannel:
    def __init__(self, server):
        self._server = server

    async def push(self, event, payload, *, timeout):
        self._server.pushed.append(("push", event, payload, timeout))
        if isinstance(self._server.reply, Exception):
            raise self._server.reply
        return self._server.reply

    async def send(self, event, payload):
        self._server.pushed.append(("send", event, payload, None))


@pytest.fixture
def server(replace_module):
    """A server that does what the test says."""
    fake = FakeServer()
    replace_module("rig.client", connect_with=fake.connect_with)
    return fake
