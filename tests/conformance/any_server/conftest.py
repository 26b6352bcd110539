"""
Rig's own client against a Phoenix server that mounts the reference application (tests/conformance/phoenix_app).

The server is that of `--phoenix-url` or `RIG_CONFORMANCE_URL`; without one, it is the bundled mock server, once for each
Phoenix release that it can behave like. Every test runs over both serializers, and in topics of its own, since a server that
others use may be given.
"""

import asyncio
import contextlib
import json
import os
import random
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import uvloop

import rig
from mock_server import MockServer
from rig.client import Client
from rig.errors import ConfigError
from rig.transport import Endpoint, dial

MOCK_RELEASES = ("1.8.12", "1.7.24")
TIME_SCALE = 0.1
PATIENCE = 30.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the server's URL."""
    parser.addoption("--phoenix-url", help="ws:// or wss://…/socket of a server that mounts the reference application")


def server_url(config: pytest.Config) -> str:
    """Return the URL that was given, or nothing."""
    return config.getoption("--phoenix-url", default=None) or os.environ.get("RIG_CONFORMANCE_URL") or ""


def http_root(url: str) -> str:
    """Return where the HTTP side of a socket's server is."""
    parts = urlsplit(url)
    return f"{'https' if parts.scheme in ('wss', 'https') else 'http'}://{parts.netloc}"


def pytest_report_header(config: pytest.Config) -> str:
    """Say which Phoenix is tested."""
    url = server_url(config)
    if not url:
        return f"conformance: the bundled mock server as Phoenix {' and '.join(MOCK_RELEASES)}"
    return f"conformance: {Endpoint(url).display}, {release_text(url)}"


def release_text(url: str) -> str:
    """Ask a server for its release; one that does not tell is tested as well, without what needs its HTTP side."""
    try:
        with urllib.request.urlopen(f"{http_root(url)}/info", timeout=5) as response:
            return f"Phoenix {json.load(response)['phoenix']}"
    except (OSError, ValueError, KeyError, TypeError) as exc:
        return f"which does not tell its release at /info ({exc})"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test against each server, over each serializer."""
    if "against" in metafunc.fixturenames:
        url = server_url(metafunc.config)
        servers = [pytest.param(url, id="server")] if url else [pytest.param(one, id=f"mock-{one}") for one in MOCK_RELEASES]
        metafunc.parametrize("server", servers)
        marker = metafunc.definition.get_closest_marker("vsn")
        metafunc.parametrize("vsn", marker.args if marker else ["2.0.0", "1.0.0"])


def pytest_configure(config: pytest.Config) -> None:
    """
    Register the marker of tests that need one serializer, and look at the URL before any test does.

    Raises:
        pytest.UsageError: If the URL is not that of a socket.
    """
    config.addinivalue_line("markers", "vsn(*versions): the serializers that the test is for")
    try:
        Endpoint(server_url(config) or "ws://localhost/socket")
    except ConfigError as exc:
        raise pytest.UsageError(str(exc)) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """
    A server under test.

    Attributes:
        url: Its socket.
        vsn: The serializer to speak.
        release: Of Phoenix, as its `/info` tells; empty if it does not.
        name: What the test's topics and users are called, so that nobody else is in them.
    """

    url: str
    vsn: str
    release: str
    name: str

    def connect(self, **settings: Any) -> contextlib.AbstractAsyncContextManager[Client]:
        """Connect a client that waits patiently."""
        return rig.connect(self.url, vsn=self.vsn, **{"push_timeout": PATIENCE, "join_timeout": PATIENCE, **settings})

    def dial(self, owner: Any, *, vsn: str | None = None) -> Awaitable[Any]:
        """Open rig's transport, without the protocol on top."""
        return dial(Endpoint(self.url, vsn=vsn or self.vsn), owner)

    @property
    def room(self) -> str:
        """A room of the test's own."""
        return f"room:{self.name}"

    async def get(self, path: str) -> str:
        """Call the server's HTTP side; without one, the test is skipped."""
        answer = await fetch(f"{http_root(self.url)}/{path}")
        if answer is None:
            pytest.skip(f"the server does not offer /{path.split('/', maxsplit=1)[0]}")
        return answer


async def fetch(url: str) -> str | None:
    """Return what a URL answers, if that is HTTP 200."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text() if response.status == 200 else None


def is_release(server: str) -> bool:
    """Tell a release for the mock server from the URL of another."""
    return server[0].isdigit()


@contextlib.asynccontextmanager
async def site(server: str, vsn: str) -> AsyncIterator[Site]:
    """Give the server of the URL, or a mock server that behaves like the release."""
    name = f"conformance-{uuid.uuid4().hex[:12]}"
    if not is_release(server):
        info = await fetch(f"{http_root(server)}/info")
        yield Site(url=server, vsn=vsn, release=json.loads(info)["phoenix"] if info else "", name=name)
        return
    async with MockServer(phoenix=server, time_scale=TIME_SCALE) as mock:
        yield Site(url=mock.url, vsn=vsn, release=server, name=name)


@pytest.fixture
def against(server: str, vsn: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Site], Awaitable[None]]], None]:
    """Give a function that runs a test on a loop of its own, with nothing left behind; waits before retries are short."""
    monkeypatch.setattr(random, "random", lambda: 0.01)

    def against(test: Callable[[Site], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(10 if is_release(server) else 2 * PATIENCE), site(server, vsn) as place:
                await test(place)

        uvloop.run(main())

    return against
