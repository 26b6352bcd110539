"""Topics whose events are numbered and kept, to resume from."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from mock_server import MockServer
from mock_server.flood import Flood, FloodRequest
from mock_server.history import History
from mock_server.pace import Pace, PaceRequest

TOPIC = "history:a"


async def events(client: Any, count: int) -> list[Any]:
    return [(await client.receive_json())[3:] for _ in range(count)]


async def ids(client: Any, count: int) -> list[int]:
    return [payload["id"] for _, payload in await events(client, count)]


def test_events_are_numbered(run: Any, dial: Any) -> None:
    """From 1, whether anybody listens or not; other topics are left alone."""

    async def main() -> None:
        async with MockServer() as server:
            server.publish(TOPIC, "news", {"n": 1})
            client = await dial(server.port)
            await client.join(TOPIC)
            await client.join("room:a", ref="2")
            server.publish(TOPIC, "news", {"n": 2, "id": "mine"})
            server.publish("room:a", "news", {"n": 3})
            assert await events(client, 2) == [["news", {"n": 2, "id": 2}], ["news", {"n": 3}]]

    run(main())


def test_client_that_was_away_hears_what_it_missed_before_what_is_new(run: Any, dial: Any) -> None:
    """The reply says how much; the events come as they were, in order, with the channel's join_ref."""

    async def main() -> None:
        async with MockServer() as server:
            for n in range(5):
                server.publish(TOPIC, "news", {"n": n})
            client = await dial(server.port)
            reply = await client.join(TOPIC, {"last_seen_id": 2})
            server.publish(TOPIC, "news", {"n": 5})
            assert reply["response"] == {"last_id": 5, "resumed": True, "missed": 3}
            assert await client.receive_json() == ["1", None, TOPIC, "news", {"n": 2, "id": 3}]
            assert await ids(client, 3) == [4, 5, 6]

    run(main())


def test_client_that_missed_nothing_is_told_so(run: Any, dial: Any) -> None:
    """Nothing is pushed."""

    async def main() -> None:
        async with MockServer() as server:
            server.publish(TOPIC, "news", {})
            client = await dial(server.port)
            assert (await client.join(TOPIC, {"last_seen_id": 1}))["response"] == {"last_id": 1, "resumed": True, "missed": 0}
            server.publish(TOPIC, "news", {})
            assert await ids(client, 1) == [2]

    run(main())


def test_what_is_too_old_cannot_be_resumed(run: Any, dial: Any) -> None:
    """The reply says so and how much there was; what is still kept comes all the same."""

    async def main() -> None:
        async with MockServer(history=History(keep=3)) as server:
            for _ in range(8):
                server.publish(TOPIC, "news", {})
            client = await dial(server.port)
            assert (await client.join(TOPIC, {"last_seen_id": 2}))["response"] == {"last_id": 8, "resumed": False, "missed": 6}
            assert await ids(client, 3) == [6, 7, 8]
            edge = await dial(server.port)
            assert (await edge.join(TOPIC, {"last_seen_id": 5}))["response"]["resumed"] is True

    run(main())


def test_forgotten_history_cannot_be_resumed(run: Any, dial: Any, post: Any) -> None:
    """Its ids go on."""

    async def main() -> None:
        async with MockServer() as server:
            for _ in range(3):
                server.publish(TOPIC, "news", {})
            assert await post(f"{server.control_url}/history") == {TOPIC: {"last_id": 3, "kept": 3}}
            assert await post(f"{server.control_url}/forget_history", {"topic": TOPIC}) == {"forgotten": 3}
            client = await dial(server.port)
            assert (await client.join(TOPIC, {"last_seen_id": 1}))["response"] == {"last_id": 3, "resumed": False, "missed": 2}
            server.publish(TOPIC, "news", {})
            assert await ids(client, 1) == [4]

    run(main())


def test_an_id_that_was_never_given_is_answered_with_everything(run: Any, dial: Any) -> None:
    """As after a restart that lost the history: the client is told that its id means nothing here."""

    async def main() -> None:
        async with MockServer() as server:
            server.publish(TOPIC, "news", {})
            client = await dial(server.port)
            assert (await client.join(TOPIC, {"last_seen_id": 99}))["response"] == {"last_id": 1, "resumed": False, "missed": 1}
            assert await ids(client, 1) == [1]

    run(main())


def test_last_seen_id_has_to_be_a_number(run: Any, dial: Any) -> None:
    """Else the join is refused."""

    async def main() -> None:
        async with MockServer() as server:
            assert (await (await dial(server.port)).join(TOPIC, {"last_seen_id": "2"}))["status"] == "error"

    run(main())


def test_floods_and_paces_are_numbered_and_reach_whoever_is_there(run: Any, dial: Any) -> None:
    """They carry `i` as on any topic, and the ledger counts them once; a client that came later hears them too."""

    async def main() -> None:
        async with MockServer() as server:
            flooded = await Flood(FloodRequest(topics=[TOPIC, "history:b"], count=300), server.hub).run()
            client = await dial(server.port)
            assert (await client.join(TOPIC, {"last_seen_id": 148}))["response"]["missed"] == 2
            paced = await Pace(PaceRequest(topics=[TOPIC, "room:a"], rate=1000, seconds=0.02), server.hub).run()
            got = await events(client, 12)
            assert [(payload["i"], payload["id"]) for _, payload in got] == [(n, n + 1) for n in range(148, 160)]
            assert (flooded.sent, flooded.deliveries, paced.deliveries) == (300, 0, 10)
            assert server.ledger.snapshot()[TOPIC] == {"count": 160, "last": 159}
            assert server.ledger.snapshot()["room:a"] == {"count": 10, "last": 9}

    run(main())


def test_a_flood_waits_for_a_client_that_does_not_read(run: Any, dial: Any) -> None:
    """As floods of other topics do, rather than to fill the memory of the server."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join(TOPIC)
            [connection] = server.sockets
            flooding = asyncio.ensure_future(Flood(FloodRequest(topics=[TOPIC], count=30_000, size=1_000), server.hub).run())
            done, _ = await asyncio.wait([flooding], timeout=1.5)
            assert not done
            assert connection._transport.get_write_buffer_size() < 4 * 1024**2  # type: ignore[attr-defined]
            flooding.cancel()
            await asyncio.wait([flooding])

    run(main())


def test_history_outlives_the_server_object(run: Any, dial: Any) -> None:
    """A server that is started again, and another one that it is handed to, go on where it ended."""

    async def main() -> None:
        first = MockServer()
        for number, server in enumerate((first, first, MockServer(history=first.history))):
            async with server:
                server.publish(TOPIC, "news", {})
                client = await dial(server.port)
                reply = await client.join(TOPIC, {"last_seen_id": 0})
                assert reply["response"] == {"last_id": number + 1, "resumed": True, "missed": number + 1}

    run(main())


def test_history_outlives_a_killed_program(run: Any, dial: Any, post: Any, tmp_path: Path) -> None:
    """With --state it is in a file as it comes; a line that a kill cut short does not count."""
    state = tmp_path / "history"
    arguments = (sys.executable, "-m", "mock_server", "--port", "0", "--state", str(state), "--history", "2")

    async def life(last_id: int) -> None:
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220
            try:
                assert process.stdout is not None
                where = json.loads(process.stdout.readline())
                client = await dial(where["port"])
                joined = await client.join(TOPIC, {"last_seen_id": max(last_id - 2, 0)})
                assert joined["response"] == {"last_id": last_id, "resumed": True, "missed": min(last_id, 2)}
                for _ in range(3):
                    await post(f"{where['control']}/publish", {"topic": TOPIC, "event": "news", "payload": {"n": 1}})
            finally:
                process.send_signal(signal.SIGKILL)

    async def main() -> None:
        await life(0)
        with state.open("ab") as file:
            file.write(b'["history:a","news",{"n":1,"id"')
        await life(3)
        await life(6)

    run(main())
