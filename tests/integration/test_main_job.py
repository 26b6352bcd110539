"""The main job, end to end: events of many topics into two workers, pushes back, and an end in peace."""

import json
import signal

import aiohttp
import pytest


async def post(url, body):
    """Call the control API of a mock server, and return its answer."""
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def get(url):
    """Ask the control API of a mock server."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.json()


def test_every_event_is_handled_once_and_in_order(play, until):
    """Thousands of events over many topics reach two workers, each once, in the order of their topic."""

    async def test(stage):
        mock = await stage.start("-m", "mock_server", "--port", "0")
        addresses = json.loads(await until(lambda: mock.out and mock.out[0]))
        rig = await stage.run_worker(url=addresses["url"])
        await rig.hear("joined all topics")
        await post(addresses["control"] + "/flood", {"topics": stage.topics, "count": 40_000})
        await until(lambda: stage.ledger.size == 40_000)
        ledger = await get(addresses["control"] + "/ledger")
        summary = await rig.drain()
        mock.signal(signal.SIGTERM)

        assert stage.ledger.repeats("tick", {topic: entry["count"] for topic, entry in ledger.items()}) == 0
        assert [len(life) > 0 for life in stage.ledger.lives()] == [True, True]
        assert (summary["received"], summary["handled"], summary["unfinished"]) == (40_000, 40_000, 0)
        assert await mock.end() == 0

    play(test)


def test_payloads_arrive_in_the_type_of_the_handler(play, until):
    """An annotation is enough; a plain function runs in a thread."""

    async def test(stage):
        rig = await stage.run_worker(topics=2)
        stage.server.publish("room:0", "person", {"name": "ada", "age": 36})
        stage.server.publish("room:1", "threaded", {})
        await until(lambda: stage.ledger.size == 2)
        await rig.drain()

        assert stage.ledger.all("person") == [["room:0", ["ADA", 37]]]
        assert stage.ledger.all("threaded") == [["room:1", "handler"]]

    play(test)


def test_a_handler_pushes_back_and_awaits_the_reply(play, until):
    """A reply, a refusal and a time-out each reach the handler that waits for them."""

    async def test(stage):
        rig = await stage.run_worker(topics=8)
        for number in range(200):
            stage.server.publish(f"room:{number % 8}", "ask", {"event": "echo", "payload": {"n": number}})
        stage.server.publish("room:0", "ask", {"event": "fail"})
        stage.server.publish("room:1", "ask", {"event": "noreply", "timeout": 0.05})
        await until(lambda: len(stage.ledger.all("answer")) == 200 and len(stage.ledger.all("failed")) == 2)
        summary = await rig.drain()

        assert sorted(value["n"] for _, value in stage.ledger.all("answer")) == list(range(200))
        assert all(value["n"] % 8 == int(topic.removeprefix("room:")) for topic, value in stage.ledger.all("answer"))
        assert {topic: value[0] for topic, value in stage.ledger.all("failed")} == {
            "room:0": "PushRefused",
            "room:1": "PushTimeout",
        }
        assert (summary["pushes"], summary.get("failed", 0)) == (202, 0)

    play(test)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_handlers_finish(play, until, number):
    """What was received is handled, its pushes are sent, and the exit code is 0 with a summary."""

    async def test(stage):
        rig = await stage.run_worker()
        busy = stage.topics_of(0, 4)
        await stage.flood("gated", 400, topics=busy)
        await stage.flood("tell", 4, topics=busy)
        await stage.until_received()
        rig.signal(number)
        await rig.hear("draining: handlers finish what was received; a second signal ends it now")
        assert not stage.ledger.all("gated")
        stage.ledger.open_gate()

        assert await rig.end() == 0
        assert stage.ledger.repeats("gated", dict.fromkeys(busy, 100)) == 0
        assert len(stage.ledger.all("tell")) == 4
        await until(lambda: stage.server.ledger.snapshot()[busy[0]]["count"] == 102)  # the last pushes came out
        assert rig.said("done")[0]["unfinished"] == 0
        assert not stage.server.clients

    play(test)


def test_events_that_come_during_the_drain_are_counted(play, until):
    """Nothing is dropped in silence: the summary says how many events came too late to be handled."""

    async def test(stage):
        rig = await stage.run_worker("--status-interval", "0.02")
        stage.server.publish("room:0", "gated_ask", {})
        await until(lambda: stage.ledger.all("waiting"))
        rig.signal(signal.SIGTERM)
        await rig.hear("status", state="draining")
        for number in range(5):
            stage.server.publish("room:9", "tick", {"i": number})
        stage.ledger.open_gate()

        assert await rig.end() == 0
        summary = rig.said("done")[0]
        assert stage.ledger.all("answer") == [["room:0", {"n": 1}]]
        assert (summary["received"], summary["handled"], summary["late"], summary["unfinished"]) == (6, 1, 5, 0)

    play(test)


@pytest.mark.parametrize("io_processes", ["1", "3"])
def test_a_second_signal_ends_it_now(play, until, io_processes):
    """A handler that never ends holds up nobody who asks twice, however many processes there are."""

    async def test(stage):
        rig = await stage.run_worker("--io-processes", io_processes)
        stage.server.publish("room:0", "hang", {})
        await until(lambda: stage.ledger.all("hanging"))
        rig.signal(signal.SIGINT)
        await rig.hear("draining: handlers finish what was received; a second signal ends it now")
        rig.signal(signal.SIGINT)

        assert await rig.end(within=2) == 130
        assert rig.said("done")[0]["unfinished"] == 1

    play(test)


def test_handlers_that_take_too_long_are_cut_off(play, until):
    """After --graceful-timeout it ends all the same, and the exit code says that something was left."""

    async def test(stage):
        rig = await stage.run_worker("--graceful-timeout", "0.3")
        stage.server.publish("room:0", "hang", {})
        await until(lambda: stage.ledger.all("hanging"))
        rig.signal(signal.SIGTERM)

        assert await rig.end(within=3) == 1
        assert rig.said("not everything was finished within --graceful-timeout", seconds=0.3)

    play(test)


def test_without_a_url_the_bundled_server_plays(play, until):
    """`rig run` alone shows events, in readable lines, and Ctrl-C ends all of it, the server last."""

    async def test(stage):
        rig = await stage.rig("run", "--workers", "1", "--status-interval", "0.2", "--mock-rate", "500")
        await until(lambda: any("runs version" in line for line in rig.err))
        await until(lambda: any("state=connected" in line and "rate=" in line and "handled=" in line for line in rig.err))
        assert any("the bundled mock server plays the Max platform url=ws://127.0.0.1:" in line for line in rig.err)
        rig.signal(signal.SIGINT)

        assert await rig.end(within=5) == 0
        assert any("done" in line and "received=" in line for line in rig.err)
        assert not any("Traceback" in line or "connection lost" in line for line in rig.err), rig.err

    play(test)
