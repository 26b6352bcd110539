"""Several endpoints, real processes: the first one dies, drains, refuses the token, comes back."""

import asyncio
import contextlib
import time

import pytest

from mock_server.server import MockServer
from tests.integration.door import Door

SOON = ("--failback-interval", "0.3")
NEVER = ("--failback-interval", "0")


@contextlib.asynccontextmanager
async def two_doors(stage):
    """Give two endpoints of the stage's server."""
    async with Door(stage.server.port) as first, Door(stage.server.port) as second:
        yield first, second


async def joined(stage, until):
    """Wait until one connection has all topics."""
    await until(lambda: len(stage.server.clients) == 1 and stage.joined() == set(stage.topics))


async def run_on(stage, until, *options, urls, topics=8):
    """Start a worker with several endpoints."""
    first, *others = urls
    more = [part for url in others for part in ("--url", url)]
    rig = await stage.run_worker(*more, *options, topics=topics, url=first)
    await joined(stage, until)
    return rig


def test_a_first_endpoint_that_dies_is_replaced_and_returned_to(play, until):
    """Within a second, and back without a gap: the events of that time are handled once and in order."""

    async def test(stage):
        async with two_doors(stage) as (first, second):
            rig = await run_on(stage, until, *SOON, urls=(first.url, second.url))
            assert (first.knocks, second.knocks) == (1, 0)

            await first.shut()
            cut = time.monotonic()
            await until(lambda: second.knocks == 1)
            await joined(stage, until)
            assert time.monotonic() - cut < 3.0
            said = await rig.hear("not at the first endpoint")
            assert (f":{second.port}/" in said["endpoint"], f":{first.port}/" in said["first"]) == (True, True)
            assert rig.said("connected")[-1]["url"] == said["endpoint"]

            await first.open()
            for number in range(2_000):
                stage.server.publish(f"room:{number % 8}", "tick", {"i": number // 8})
                await asyncio.sleep(0.0005)
            await rig.hear("handed over")
            await until(lambda: len(set(map(tuple, stage.ledger.all("tick")))) == 2_000)
            await joined(stage, until)
            summary = await rig.drain()

            assert summary["reconnects"] == 1
            in_order(stage, dict.fromkeys(stage.topics, 250))
            assert second.knocks == 1

    play(test)


def in_order(stage, expected):
    """Insist that every event was handled, none after a later one; return how many came twice."""
    numbers = {topic: [] for topic in expected}
    for topic, number in stage.ledger.all("tick"):
        numbers[topic].append(number)
    repeats = 0
    for topic, count in expected.items():
        newest = -1
        for number in numbers[topic]:
            assert number <= newest + 1, f"{topic}: {number} came after {newest}"
            repeats += number <= newest
            newest = max(newest, number)
        assert newest == count - 1, f"{topic}: {newest + 1} of {count} events were handled"
    return repeats


def test_a_server_that_drains_is_left_at_once_for_the_other(play, until):
    """After its close frame it has nothing more to say, so there is nothing to wait for."""

    async def test(stage):
        async with MockServer() as first:
            rig = await stage.run_worker("--url", stage.server.url, *NEVER, topics=8, url=first.url)
            await until(lambda: first.clients and len(first.clients[0]["channels"]) == 8)
            first.drain()
            started = time.monotonic()
            await joined(stage, until)
            took = time.monotonic() - started
            assert not first.clients
            await rig.drain()

        assert took < 0.5, "not after a delay of up to a second"
        assert [line["code"] for line in rig.said("connection lost")] == [1012]

    play(test)


def test_where_no_endpoint_is_up_each_is_named_and_the_first_that_comes_back_is_taken(play, until):
    """The log says what is wrong with every one, and the attempts go on."""

    async def test(stage):
        async with two_doors(stage) as (first, second):
            await first.shut()
            await second.shut()
            rig = await stage.run_worker("--url", second.url, *NEVER, topics=2, url=first.url)
            said = await rig.hear("not connected")
            assert f"cannot reach 127.0.0.1:{first.port}" in said["reason"]
            assert f"cannot reach 127.0.0.1:{second.port}" in said["reason"]

            await second.open()
            await joined(stage, until)
            assert f":{second.port}/" in rig.said("connected")[0]["url"]
            await rig.drain()

    play(test)


def test_an_endpoint_that_refuses_the_token_is_told_from_one_that_is_down(play, until):
    """The cause is the token, and the endpoint that takes it is used as soon as it is up."""

    async def test(stage):
        async with two_doors(stage) as (_, second), MockServer() as strict:
            strict.faults.refuse_websockets = 403
            await second.shut()
            rig = await stage.run_worker("--url", second.url, *NEVER, topics=2, url=strict.url)
            said = await rig.hear("not connected", cause="unauthorized")
            assert "HTTP 403" in said["reason"]
            assert f"cannot reach 127.0.0.1:{second.port}" in said["reason"]

            await second.open()
            await joined(stage, until)
            await rig.drain()

    play(test)


@pytest.mark.parametrize("io_processes", [2])
def test_every_io_process_fails_over_by_itself(play, until, io_processes):
    """All their connections go to the endpoint that is up."""

    async def test(stage):
        async with two_doors(stage) as (first, second):
            rig = await stage.run_worker("--url", second.url, *NEVER, "--io-processes", str(io_processes), url=first.url)
            await until(lambda: stage.joined() == set(stage.topics))
            await first.shut()
            await until(lambda: second.knocks >= io_processes and stage.joined() == set(stage.topics))
            await rig.drain()

    play(test)
