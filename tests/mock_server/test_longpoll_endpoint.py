"""The HTTP of long-poll: methods, tokens, bodies and refusals that no transcript shows."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.mock_server.poller import NDJSON, serving

Run = Callable[[Any], None]


def test_binary_line_of_a_batch_is_base64(run: Run) -> None:
    """A binary push reaches the channel; its payload of plain text comes back as a message, not as an error."""
    push = bytes((0, 1, 1, 6, 11)) + b"12room:abinary_echo" + b"hello"

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.join("room:a")
            answer = await poller.call("POST", body=base64.b64encode(push), **NDJSON)
            assert answer == {"status": 200}
            answer = await poller.call("GET")
            assert answer["messages"] == ["\x01\x01\x01\x06\x0212room:aokhello"]

    run(main())


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_other_methods_are_http_400(method: str, run: Run) -> None:
    """Only GET, POST and OPTIONS mean something."""

    async def main() -> None:
        async with serving() as (_, poller):
            assert await poller.request(method) == (400, "")

    run(main())


def test_batch_keeps_its_order_and_drops_stale_join_refs(run: Run) -> None:
    """Text and binary lines are handled one after the other; null passes for the join_ref, a wrong one is dropped."""
    binary = base64.b64encode(bytes((0, 1, 1, 6, 11)) + b"14room:abinary_echo" + b"hi").decode()
    lines = ['["1","1","room:a","phx_join",{}]', '[null,"2","room:a","echo",{}]', '["9","3","room:a","echo",{}]', binary]
    lines.append('["1","5","room:a","echo",{}]')

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            assert await poller.call("POST", body="\r\n".join(lines).encode(), **NDJSON) == {"status": 200}
            messages = (await poller.call("GET"))["messages"]
            assert messages[2] == "\x01\x01\x01\x06\x0214room:aokhi"
            assert [json.loads(text)[1] for text in messages[:2] + messages[3:]] == ["1", "2", "5"]

    run(main())


def test_line_that_is_neither_an_array_nor_base64_fails_the_whole_batch(run: Run) -> None:
    """Nothing of it is handled, and the session lives on."""

    async def main() -> None:
        async with serving(time_scale=0.2) as (_, poller):
            await poller.open()
            body = b'["1","1","room:a","phx_join",{}]\n{"no":"array"}'
            status, _ = await poller.request("POST", url=f"{poller.url}&token={poller.token}", body=body, **NDJSON)
            assert status == 500
            assert await poller.poll() == []

    run(main())


def test_token_of_no_session_is_gone_at_once(run: Run) -> None:
    """Only for a session that has ended does the server wait in vain."""

    async def main() -> None:
        async with serving() as (_, poller):
            poller.token = "made.up.token"
            started = asyncio.get_running_loop().time()
            assert await poller.post([None, "1", "phoenix", "heartbeat", {}]) == 410
            assert (await poller.call("GET"))["status"] == 410
            assert asyncio.get_running_loop().time() - started < 0.5

    run(main())


def test_last_of_two_tokens_in_the_query_counts(run: Run) -> None:
    """A client may have a parameter of that name itself, before the one that names the session."""

    async def main() -> None:
        async with serving("/socket/longpoll?vsn=2.0.0&token=mine") as (_, poller):
            await poller.open()
            assert (await poller.join("room:a"))["status"] == "ok"

    run(main())


@pytest.mark.parametrize(("phoenix", "opens_new"), [("1.8.12", False), ("1.8.9", True)])
def test_token_may_come_in_a_header_since_1_8_10(phoenix: str, opens_new: bool, run: Run) -> None:
    """The header wins over a stale parameter."""

    async def main() -> None:
        async with serving(phoenix=phoenix) as (_, poller):
            await poller.open()
            await poller.call("POST", body=b'["1","1","room:a","phx_join",{}]')
            answer = await poller.call("GET", url=f"{poller.url}&token=stale", x_phoenix_longpoll_token=poller.token)
            assert (answer["status"] == 410) == opens_new
            assert len(answer["messages"]) == (0 if opens_new else 1)

    run(main())


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/socket", "vsn=2.0.0&token=bad"),
        ("/err", "vsn=2.0.0&token=reason"),
        ("/socket", "vsn=123.1.1"),
        ("/default", "vsn="),
    ],
)
def test_refusals_of_every_kind_are_403_in_the_body(path: str, query: str, run: Run) -> None:
    """The application's own error answers do not reach long-poll clients."""

    async def main() -> None:
        async with serving(f"{path}/longpoll?{query}") as (server, poller):
            assert await poller.call("GET") == {"status": 403}
            assert server.clients == []

    run(main())


def test_connect_that_raises_is_http_500(run: Run) -> None:
    """As for a WebSocket."""

    async def main() -> None:
        async with serving("/socket/longpoll?vsn=2.0.0&token=raise") as (_, poller):
            assert (await poller.request("GET"))[0] == 500

    run(main())


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json"])
def test_single_message_may_have_any_content_type(content_type: str, run: Run) -> None:
    """Only batches need theirs."""

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            body = b'["1","1","room:a","phx_join",{}]'
            assert await poller.call("POST", body=body, Content_Type=content_type) == {"status": 200}
            assert len(await poller.poll()) == 1

    run(main())


def test_body_of_more_than_8_mb_is_http_400(run: Run) -> None:
    """The session does not even see it."""
    message = b'["1","1","room:a","phx_join",{"pad":"%s"}]'

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            url = f"{poller.url}&token={poller.token}"
            fits = message % (b"x" * (8_000_000 - len(message) + 2))
            assert await poller.request("POST", url=url, body=fits) == (200, '{"status":200}')
            assert (await poller.request("POST", url=url, body=fits + b" "))[0] == 400
            assert len(await poller.poll()) == 1

    run(main())


def test_token_of_the_client_comes_in_a_header_since_1_8(run: Run) -> None:
    """As it is, not in base64."""

    async def main() -> None:
        for phoenix, token in (("1.8.12", "se/cret"), ("1.7.24", None)):
            async with serving(phoenix=phoenix) as (_, poller):
                poller.token = (await poller.call("GET", x_phoenix_authtoken="se/cret"))["token"]
                assert (await poller.join("room:auth"))["response"]["auth_token"] == token

    run(main())


def test_answers_are_compressed_for_those_who_ask(run: Run) -> None:
    """As the real server's are; never cached, whatever they say."""

    async def main() -> None:
        async with serving() as (_, poller), poller.http.get(poller.url, headers={"Accept-Encoding": "gzip"}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["Cache-Control"] == "no-store"
            assert (await response.json())["status"] == 410

    run(main())
