"""The end of an io process: what was pushed is sent as the server takes it, and what it does not take is counted and said."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import structlog

from rig.counters import Page
from rig.io import ending
from rig.io.ending import send_and_leave
from rig.phoenix import Push, events
from rig.records import Kind, encode_requests
from tests.io.test_relay import Line, request

LOST = "pushes are lost: the server did not take them before the end"


class Server:
    """What the connection knows of it: how much it has not taken, and whether it answers the close."""

    def __init__(self) -> None:
        self.write_buffer_bytes = 0
        self.closes = asyncio.Event()
        self.closes.set()
        self.closed = False
        self.on_close: Callable[[], None] = lambda: None

    async def close(self) -> None:
        self.on_close()
        await self.closes.wait()
        self.closed = True


@pytest.fixture
def line(page: Page) -> Iterator[Line]:
    line = Line(page)
    yield line
    line.close()


def put(line: Line, *counts: int) -> None:
    for count in counts:
        requests = [request(number, reply=False) for number in range(count)]
        line.producer.put(encode_requests(requests), kind=Kind.PUSHES, count=count)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_server_that_is_slow_gets_all_of_it(line: Line, page: Page, run: Callable[..., None]) -> None:
    """The end waits for it as long as there is time, and the connection is closed behind the last byte."""

    async def main() -> None:
        server, relay = Server(), line.relay()
        line.unsent = 1 << 30
        put(line, 2, 3)
        server.write_buffer_bytes = 1

        task = asyncio.create_task(send_and_leave([relay], server, page, now() + 30))
        await asyncio.sleep(0.02)
        assert (line.sent, server.closed) == ([], False)
        line.unsent = 0
        await line.arrived.wait()
        await asyncio.sleep(0.02)
        assert not server.closed, "the last of it is on the way"
        server.write_buffer_bytes = 0
        await task

        assert len(line.sent) == 5
        assert server.closed
        assert page.get("pushes_unsent") == 0

    with structlog.testing.capture_logs() as logs:
        run(main)
    assert logs == []


def test_what_a_server_that_hangs_does_not_take_is_counted_and_said(line: Line, page: Page, run: Callable[..., None]) -> None:
    """The end does not wait for longer than there is time."""

    async def main() -> None:
        server, relay = Server(), line.relay()
        server.closes.clear()
        line.unsent = server.write_buffer_bytes = 1 << 30
        put(line, 2, 3)
        started = now()
        await send_and_leave([relay], server, page, started + 0.2)
        assert now() - started > 0.19, "timers may come a millisecond early"
        assert line.sent == []

    with structlog.testing.capture_logs() as logs:
        run(main)
    assert page.get("pushes_unsent") == 5
    assert [(line["pushes"], line["bytes_on_the_way"]) for line in logs if line["event"] == LOST] == [(5, 1 << 30)]
    assert logs[0]["event"] == "the connection was not closed in order: there was no more time"


def test_some_time_is_kept_for_the_close(line: Line, page: Page, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes no pushes may still answer the close."""
    monkeypatch.setattr(ending, "_LEAVING", 0.7)

    async def main() -> None:
        server, relay = Server(), line.relay()
        server.write_buffer_bytes = 1
        loop, deadline = asyncio.get_running_loop(), now() + 1.0
        server.closes.clear()
        server.on_close = lambda: loop.call_later(0.05, server.closes.set)
        await send_and_leave([relay], server, page, deadline)
        assert server.closed
        assert now() < deadline

    run(main)


def test_what_waited_for_its_topic_at_the_end_is_unsent(line: Line, page: Page, run: Callable[..., None]) -> None:
    """It was never sent; one that was sent and not answered is not called so."""

    async def main() -> None:
        server, relay = Server(), line.relay()
        put(line, 1)
        line.pushes_bell.ring()
        await line.arrived.wait()
        [held] = line.sent
        [sent] = await line.push(request(7))
        sent.ref = "1"

        def close() -> None:
            for push in (held, sent):
                assert relay.owns(push)
                relay.resolve(events.PushInterrupted(push, "the connection was closed"))

        server.on_close = close
        await send_and_leave([relay], server, page, now() + 30)

    with structlog.testing.capture_logs() as logs:
        run(main)
    assert (page.get("pushes_unsent"), page.get("pushes_failed")) == (1, 1)
    assert [line["pushes"] for line in logs if line["event"] == LOST] == [1]


def test_at_the_end_nobody_waits_for_results(
    line: Line, page: Page, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pushes whose results would have been awaited hold up none behind them."""
    monkeypatch.setattr("rig.io.relay._MOST_IN_HAND", 1)

    async def main() -> None:
        relay = line.relay()
        await line.push(request(1))
        put(line, 4)
        line.pushes_bell.ring()
        await asyncio.sleep(0.01)
        sent: list[Push] = line.sent
        assert len(sent) == 1
        await send_and_leave([relay], Server(), page, now() + 30)
        assert len(sent) == 5

    run(main)
