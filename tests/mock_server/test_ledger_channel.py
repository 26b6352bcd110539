"""Topics that take every push and count it."""

from typing import Any

from mock_server import MockServer


async def push(client: Any, ref: str, i: int, *, event: str = "any", join_ref: str = "1", topic: str = "ledger:a") -> None:
    await client.send(join_ref, ref, topic, event, {"i": i, "idempotency_key": f"k{i}"})


async def status(client: Any) -> str:
    answer: str = (await client.receive_json())[4]["status"]
    return answer


def test_any_push_is_taken_and_counted(run: Any, dial: Any, post: Any) -> None:
    """Whatever its event; the figures are on the control API and on the server object, and reset forgets them."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("ledger:a")
            for i, event in enumerate(("one", "two")):
                await push(client, str(i + 2), i, event=event)
                assert await client.receive_json() == ["1", str(i + 2), "ledger:a", "phx_reply", {"status": "ok", "response": {}}]
            figures = (await post(f"{server.control_url}/received"))["ledger:a"]
            assert (figures["count"], figures["lost"], figures["last"]) == (2, 0, 1)
            assert server.received.topic("ledger:a").count == 2
            await post(f"{server.control_url}/reset", {})
            assert await post(f"{server.control_url}/received") == {}

    run(main())


def test_a_push_that_was_sent_twice_is_answered_twice_and_counted_once(run: Any, dial: Any) -> None:
    """Even over two connections: keys are the topic's."""

    async def main() -> None:
        async with MockServer() as server:
            for _ in range(2):
                client = await dial(server.port)
                await client.join("ledger:a")
                await push(client, "2", 0)
                assert await status(client) == "ok"
            tally = server.received.topic("ledger:a")
            assert (tally.count, tally.unique, tally.duplicates) == (2, 1, 1)

    run(main())


def test_a_join_can_ask_for_trouble(run: Any, dial: Any) -> None:
    """Every n-th push is refused, passed over, taken without a word, or crashes the channel; only what is taken counts."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("ledger:a", {"error_every": 2, "mute_every": 3, "ignore_every": 5, "crash_every": 7})
            for i in range(7):
                await push(client, str(i + 2), i)
            answers = [await client.receive_json() for _ in range(5)]
            assert [(a[1], a[3], a[4].get("status")) for a in answers] == [
                ("2", "phx_reply", "ok"),
                ("3", "phx_reply", "error"),
                ("5", "phx_reply", "error"),
                ("7", "phx_reply", "error"),
                ("1", "phx_error", None),
            ]
            tally = server.received.topic("ledger:a")
            assert (tally.count, tally.refused, tally.missing()) == (2, 5, [1])

    run(main())


def test_the_control_api_can_ask_for_trouble_too(run: Any, dial: Any, post: Any) -> None:
    """For clients that are joined already; the count goes on over a rejoin, so that a client gets past its crashes."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("ledger:a")
            await post(f"{server.control_url}/settings", {"ledger_crash_every": 2})
            await push(client, "2", 0)
            await push(client, "3", 1)
            assert await status(client) == "ok"
            assert (await client.receive_json())[3] == "phx_error"
            await client.join("ledger:a", ref="4")
            await push(client, "5", 1, join_ref="4")
            assert await status(client) == "ok"
            assert server.received.topic("ledger:a").lost == 0

    run(main())


def test_an_event_that_is_always_refused(run: Any, dial: Any) -> None:
    """So that a client can be seen to give up on it."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("ledger:a")
            await push(client, "2", 0, event="refused")
            assert await status(client) == "error"
            assert server.received.topic("ledger:a").count == 0

    run(main())


def test_orders_that_are_no_numbers_refuse_the_join(run: Any, dial: Any) -> None:
    """A typing mistake in a test must not look like a server without faults."""

    async def main() -> None:
        async with MockServer() as server:
            reply = await (await dial(server.port)).join("ledger:a", {"error_every": "2"})
            assert reply["status"] == "error"

    run(main())


def test_the_counts_outlive_the_server(run: Any, dial: Any) -> None:
    """A server that is started again goes on with the keys that it has seen, also if they are handed to another."""

    async def main() -> None:
        first = MockServer()
        for server in (first, first, MockServer(received=first.received)):
            async with server:
                client = await dial(server.port)
                await client.join("ledger:a")
                await push(client, "2", 0)
                assert await status(client) == "ok"
        assert first.received.topic("ledger:a").duplicates == 2

    run(main())
