"""Servers and links that are there and do not answer, and a server that is gone at once."""

import asyncio
import json
from typing import Any

import pytest

from mock_server import MockServer


async def silent(client: Any, seconds: float = 0.1) -> bool:
    """Say whether nothing comes for a while."""
    waiting = asyncio.ensure_future(client.receive())
    done, _ = await asyncio.wait([waiting], timeout=seconds)
    waiting.cancel()
    return not done


async def beat(client: Any, ref: str) -> None:
    await client.send(None, ref, "phoenix", "heartbeat", {})


def test_an_upgrade_can_go_unanswered(run: Any, dial: Any, post: Any) -> None:
    """TCP is there, and nothing comes until the fault is off; long-poll answers unless it hangs too."""

    async def main() -> None:
        async with MockServer() as server:
            await post(f"{server.control_url}/settings", {"hang_websockets": True})
            dialling = asyncio.ensure_future(dial(server.port))
            plain = await dial(server.port, None)
            await plain.request("/socket/longpoll?vsn=2.0.0", [("Host", "localhost")])
            assert plain.status == 200
            done, _ = await asyncio.wait([dialling], timeout=0.1)
            assert not done
            await post(f"{server.control_url}/settings", {"hang_websockets": False})
            assert (await dialling).status == 101

    run(main())


def test_every_request_of_a_client_can_go_unanswered(run: Any, dial: Any, post: Any) -> None:
    """Long-poll too; the control API answers all the same."""

    async def main() -> None:
        async with MockServer() as server:
            await post(f"{server.control_url}/settings", {"hang_connections": True})
            plain = await dial(server.port, None)
            asking = asyncio.ensure_future(plain.request("/socket/longpoll?vsn=2.0.0", [("Host", "localhost")]))
            done, _ = await asyncio.wait([asking], timeout=0.1)
            assert not done
            await post(f"{server.control_url}/reset", {})
            await asking
            assert plain.status == 200

    run(main())


def test_a_frozen_connection_neither_hears_nor_says_anything_until_it_thaws(run: Any, dial: Any, post: Any) -> None:
    """What was sent both ways arrives then, in order; a new connection is not touched."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("room:a")
            await client.join("ledger:a", ref="1")
            assert await post(f"{server.control_url}/freeze", {}) == {"frozen": 1}
            await client.send("1", "1", "ledger:a", "any", {"i": 0})
            await beat(client, "2")
            server.publish("room:a", "news", {"n": 1})
            fresh = await dial(server.port)
            assert (await fresh.join("room:a"))["status"] == "ok"
            assert await silent(client)
            assert server.received.topic("ledger:a").count == 0, "what the client sends does not arrive either"
            assert await post(f"{server.control_url}/thaw", {}) == {"thawed": 1}
            assert (await client.receive_json())[3] == "news"
            assert {(await client.receive_json())[1] for _ in range(2)} == {"1", "2"}

    run(main())


@pytest.mark.parametrize("code", [1012, 0])
def test_the_end_of_a_frozen_connection_reaches_nobody(code: int, run: Any, dial: Any, post: Any) -> None:
    """The server has given the client up, the client does not know: until the link is there again, or the server is gone."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("room:a")
            server.freeze()
            assert await post(f"{server.control_url}/kick", {"all": True, "code": code}) == {"kicked": 1}
            assert server.clients == []
            assert server.hub.subscribers("room:a") == []
            assert await silent(client)
            server.thaw()
            assert (await client.receive()).opcode == "eof"
            frozen = await dial(server.port)
            await frozen.join("room:a")
            server.freeze(server.clients[0]["client"])
        assert (await frozen.receive()).opcode == "eof"

    run(main())


def test_a_frozen_connection_is_given_up_after_its_idle_time(run: Any, dial: Any) -> None:
    """As Phoenix does with a client that it does not hear; the client hears nothing of it."""

    async def main() -> None:
        async with MockServer(time_scale=0.02) as server:
            client = await dial(server.port, "/short/websocket?vsn=2.0.0")
            connection = next(iter(server.sockets))
            server.freeze()
            async with asyncio.timeout(5):
                while server.sockets:  # noqa: ASYNC110 - the connection's own future waits for the client's end
                    await asyncio.sleep(0.005)
            assert connection.closed
            assert await silent(client)

    run(main())


def test_polls_of_a_frozen_session_go_unanswered(run: Any, dial: Any) -> None:
    """Until it thaws."""

    async def main() -> None:
        async with MockServer(time_scale=0.2) as server:
            host = [("Host", "localhost")]
            plain = await dial(server.port, None)
            await plain.request("/socket/longpoll?vsn=2.0.0", host)
            token = json.loads(plain.body)["token"]
            server.freeze()
            asking = asyncio.ensure_future(plain.request(f"/socket/longpoll?vsn=2.0.0&token={token}", host))
            done, _ = await asyncio.wait([asking], timeout=0.6)
            assert not done
            server.thaw()
            await asking
            assert plain.status == 200

    run(main())


def test_a_crash_ends_every_connection_without_a_word(run: Any, dial: Any) -> None:
    """No close frame, nobody listens any more, and the same server can be started again on its port."""

    async def main() -> None:
        server = MockServer()
        await server.start()
        client = await dial(server.port)
        await client.join("room:a")
        await server.crash()
        assert (await client.receive()).opcode == "eof"
        with pytest.raises(ConnectionRefusedError):
            await dial(server.port)
        async with server:
            assert (await (await dial(server.port)).join("room:a"))["status"] == "ok"

    run(main())
