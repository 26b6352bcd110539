"""The application that `rig run` runs when none is named, handler by handler."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import rig
from rig import demo
from rig.routing import joined_topics
from rig.worker.describe import describe


class FakeContext:
    """Remembers what was pushed, and answers."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, str, Any]] = []

    async def push(self, topic: str, event: str, payload: Any, *, timeout: float | None, reply: bool) -> Any:
        self.pushed.append((topic, event, payload))
        return {}


@pytest.fixture
def context() -> FakeContext:
    return FakeContext()


@pytest.fixture
def make(context: FakeContext) -> Callable[..., rig.Event[Any]]:
    """Give a function that makes an event as a handler gets it, from the JSON text of its payload."""

    def make(handler: Any, topic: str, payload: bytes) -> rig.Event[Any]:
        route = next(route for route in demo.app.routes if route.handler is handler)
        event = route.pattern.event
        return rig.Event(topic, event, msgspec.json.decode(payload, type=route.payload_type), {}, 0, context)

    return make


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="demo")


def test_deployment_is_acknowledged(make: Callable[..., Any], context: FakeContext, caplog: pytest.LogCaptureFixture) -> None:
    """A deployment is acknowledged on its own channel, and worth a line."""
    payload = b'{"id":7,"app":"billing","version":"1.2.3","at":"2026-01-01"}'
    asyncio.run(demo.deployed(make(demo.deployed, "applications:*", payload)))

    assert context.pushed == [("applications:*", "ack", {"id": 7})]
    assert caplog.messages == ["billing runs version 1.2.3"]


def test_new_size_is_a_detail(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """Scaling is noted for those who debug."""
    asyncio.run(demo.scaled(make(demo.scaled, "applications:*", b'{"id":1,"app":"billing","instances":3}')))

    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.DEBUG, "billing has 3 instances")]


@pytest.mark.parametrize(("status", "lines"), [("healthy", []), ("degraded", []), ("unhealthy", ["billing is unhealthy"])])
def test_only_ill_health_is_reported(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture, status: str, lines: list[str]
) -> None:
    """What is well says nothing."""
    payload = b'{"id":1,"app":"billing","status":"%b"}' % status.encode()
    asyncio.run(demo.health_changed(make(demo.health_changed, "applications:*", payload)))

    assert caplog.messages == lines


@pytest.mark.parametrize(("up", "lines"), [(b"true", []), (b"false", ["link uplink-a of core is down"])])
def test_only_links_that_went_down_are_reported(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture, up: bytes, lines: list[str]
) -> None:
    """A link that is up says nothing, whether its latency is known or not."""
    for latency in (b"null", b"1.5"):
        payload = b'{"id":1,"network":"core","link":"uplink-a","up":%b,"latency_ms":%b}' % (up, latency)
        asyncio.run(demo.link_changed(make(demo.link_changed, "networks:*", payload)))

    assert caplog.messages == lines * 2


def test_variable_may_have_any_value(make: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """A variable's value is kept as it came; the handler is a plain function."""
    for value in (b"5", b'"debug"', b'{"a": 1}'):
        demo.changed(make(demo.changed, "variables:*", b'{"id":1,"name":"LEVEL","value":%b}' % value))

    assert caplog.messages == ["LEVEL = 5", 'LEVEL = "debug"', 'LEVEL = {"a": 1}']


def test_topics_are_those_of_the_max_platform() -> None:
    """The demo joins what the bundled mock server offers."""
    assert joined_topics(demo.app.topics, list(demo.app.patterns)) == ["applications:*", "networks:*", "variables:*"]
    assert len(describe("rig.demo").routes) == 5
