"""Long-poll over real HTTP: what no transcript shows."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mock_server import MockServer

NDJSON = {"Content-Type": "application/x-ndjson"}
FAST = 0.05


class Poller:
    """A client that polls, and shows every answer."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url
        self.token = ""

    async def request(self, method: str, *, url: str = "", body: bytes = b"", **headers: str) -> tuple[int, str]:
        """Make a request as it is; returns HTTP status and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, url or self.url, data=io.BytesIO(body) if body else None, headers=named) as response:
            return response.status, await response.text()

    async def call(self, method: str, **options: Any) -> dict[str, Any]:
        """Make a request with the token; returns the body of an answer that is HTTP 200."""
        url = f"{self.url}&token={self.token}" if self.token else self.url
        status, body = await self.request(method, **{"url": url, **options})
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    async def open(self) -> None:
        """Open a session."""
        answer = await self.call("GET")
        assert (answer["status"], answer["messages"]) == (410, [])
        self.token = answer["token"]

    async def post(self, *messages: Any) -> int:
        """Send messages as one batch; returns the status."""
        body = "\n".join(json.dumps(message) for message in messages).encode()
        status: int = (await self.call("POST", body=body, **NDJSON))["status"]
        return status

    async def poll(self) -> list[Any]:
        """Poll once; returns the messages."""
        answer = await self.call("GET")
        assert answer["status"] == (200 if answer["messages"] else 204)
        return [json.loads(text) for text in answer["messages"]]

    async def join(self, topic: str, ref: str = "1") -> Any:
        """Join; returns the reply's payload."""
        assert await self.post([ref, ref, topic, "phx_join", {}]) == 200
        (reply,) = await self.poll()
        return reply[4]


@asynccontextmanager
async def serving(path: str = "/socket/longpoll?vsn=2.0.0", **options: Any) -> AsyncIterator[tuple[MockServer, Poller]]:
    async with MockServer(**options) as server, aiohttp.ClientSession() as http:
        yield server, Poller(http, server.http_url + path)


Run = Callable[[Any], None]


def test_join_push_and_broadcast_are_polled_back(run: Run) -> None:
    """A session is a socket like any other: replies and broadcasts come, in order, with the next poll."""

    async def main() -> None:
        async with serving() as (server, poller):
            await poller.open()
            assert (await poller.join("room:a"))["status"] == "ok"
            assert await poller.post(["1", "2", "room:a", "echo", {"n": 2}], ["1", "3", "room:a", "echo", {"n": 3}]) == 200
            assert server.publish("room:a", "news", {}) == 1
            assert [(message[1], message[3]) for message in await poller.poll()] == [
                ("2", "phx_reply"),
                ("3", "phx_reply"),
                (None, "news"),
            ]

    run(main())


def test_parked_poll_returns_with_the_first_message(run: Run) -> None:
    """A poll that waits is answered as soon as there is something."""

    async def main() -> None:
        async with serving() as (server, poller):
            await poller.open()
            await poller.join("room:a")
            poll = asyncio.create_task(poller.poll())
            await asyncio.sleep(0.05)
            assert not poll.done()
            server.publish("room:a", "news", {"n": 1})
            assert await asyncio.wait_for(poll, 1) == [[None, None, "room:a", "news", {"n": 1}]]

    run(main())


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


def test_later_of_two_polls_gets_the_messages(run: Run) -> None:
    """The earlier one runs into its window."""

    async def main() -> None:
        async with serving(time_scale=0.2) as (server, poller):
            await poller.open()
            await poller.join("room:a")
            earlier = asyncio.create_task(poller.poll())
            await asyncio.sleep(0.05)
            later = asyncio.create_task(poller.poll())
            await asyncio.sleep(0.05)
            server.publish("room:a", "news", {})
            assert len(await later) == 1
            assert await earlier == []

    run(main())


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_other_methods_are_http_400(method: str, run: Run) -> None:
    """Only GET, POST and OPTIONS mean something."""

    async def main() -> None:
        async with serving() as (_, poller):
            assert await poller.request(method) == (400, "")

    run(main())


def test_events_of_a_topic_that_is_not_joined_are_unmatched(run: Run) -> None:
    """The reply has no join_ref, whatever the message had."""

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.post(["1", "2", "room:a", "echo", {}])
            unmatched = {"response": {"reason": "unmatched topic"}, "status": "error"}
            assert await poller.poll() == [[None, "2", "room:a", "phx_reply", unmatched]]

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
        async with serving(time_scale=FAST) as (_, poller):
            await poller.open()
            body = b'["1","1","room:a","phx_join",{}]\n{"no":"array"}'
            status, _ = await poller.request("POST", url=f"{poller.url}&token={poller.token}", body=body, **NDJSON)
            assert status == 500
            assert await poller.poll() == []

    run(main())


@pytest.mark.parametrize("event", ["phx_leave", "echo"])
def test_stale_join_ref_is_ignored_and_null_is_accepted(event: str, run: Run) -> None:
    """A leave with an old join_ref does not end the channel; one without does."""

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.join("room:a", ref="4")
            assert await poller.post(["3", "5", "room:a", event, {}], [None, "6", "room:a", event, {}]) == 200
            messages = await poller.poll()
            expected = [["4", "6", "phx_reply"], ["4", "4", "phx_close"]] if event == "phx_leave" else [["4", "6", "phx_reply"]]
            assert [[message[0], message[1], message[3]] for message in messages] == expected

    run(main())


def test_crashed_channel_reports_an_error(run: Run) -> None:
    """Its ref is the join_ref."""

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.join("room:a")
            await poller.post(["1", "2", "room:a", "crash", {}])
            assert await poller.poll() == [["1", "1", "room:a", "phx_error", {"reason": "channel_crash"}]]

    run(main())


def test_101st_join_is_refused(run: Run) -> None:
    """The limit is that of a WebSocket."""

    async def main() -> None:
        async with serving() as (_, poller):
            await poller.open()
            await poller.post(*(["1", "1", f"room:{number}", "phx_join", {}] for number in range(100)))
            assert len(await poller.poll()) == 100
            assert (await poller.join("room:last"))["response"] == {"reason": "too many channels joined"}

    run(main())


def test_slow_join_times_the_request_out_but_not_the_message(run: Run) -> None:
    """A POST that waits longer than the window gets 408; what it sent is handled all the same, and answered later."""

    async def main() -> None:
        async with serving(time_scale=FAST) as (_, poller):
            await poller.open()
            assert await poller.post(["1", "1", "room:slow", "phx_join", {}]) == 408
            while not (messages := await poller.poll()):
                pass
            assert messages[0][4]["status"] == "ok"

    run(main())


def test_session_that_is_held_up_looks_like_one_that_has_ended(run: Run) -> None:
    """While a join takes long no request finds the session: messages get 410, and a poll opens another one."""

    async def main() -> None:
        async with serving(time_scale=0.2) as (_, poller):
            await poller.open()
            joining = asyncio.create_task(poller.post(["1", "1", "room:slow", "phx_join", {}]))
            await asyncio.sleep(0.05)
            assert await poller.post([None, "2", "phoenix", "heartbeat", {}]) == 410
            assert (await poller.call("GET"))["token"] != poller.token
            await joining
            while not (messages := await poller.poll()):
                pass
            assert messages[0][3] == "phx_reply"

    run(main())


def test_session_without_polls_ends(run: Run) -> None:
    """One and a half windows after the last poll, or twice that, its channels are gone, and so is the client."""

    async def main() -> None:
        async with serving(time_scale=FAST) as (server, poller):
            await poller.open()
            await poller.join("room:a")
            (connection,) = server.sockets
            await asyncio.wait_for(asyncio.shield(connection.lost), 6 * FAST + 1)
            assert server.clients == []
            assert server.hub.subscribers("room:a") == []
            assert await poller.post(["1", "2", "room:a", "echo", {}]) == 410

    run(main())


def test_session_with_polls_lives_on(run: Run) -> None:
    """Empty polls are enough."""

    async def main() -> None:
        async with serving(time_scale=FAST) as (_, poller):
            await poller.open()
            await poller.join("room:a")
            for _ in range(5):
                assert await poller.poll() == []
            assert await poller.post(["1", "2", "room:a", "echo", {}]) == 200

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


@pytest.mark.parametrize(("phoenix", "opens_new"), [("1.8.12", False), ("1.8.9", True)])
def test_token_may_come_in_a_header_since_1_8_10(phoenix: str, opens_new: bool, run: Run) -> None:
    """The header wins over a stale parameter."""

    async def main() -> None:
        async with serving(phoenix=phoenix, time_scale=FAST) as (_, poller):
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


@pytest.mark.parametrize("ends_it", ["disconnect", "kick", "drain"])
def test_server_can_end_a_session(ends_it: str, run: Run) -> None:
    """A poll that waits is not told: it runs into its window, and the next one opens a new session."""

    async def main() -> None:
        async with serving("/socket/longpoll?vsn=2.0.0&user=u1", time_scale=0.1) as (server, poller):
            await poller.open()
            await poller.join("room:a")
            poll = asyncio.create_task(poller.poll())
            await asyncio.sleep(0.05)
            (client,) = server.clients
            assert (client["transport"], client["channels"]) == ("longpoll", ["room:a"])
            ended = {
                "disconnect": lambda: server.disconnect("user:u1"),
                "kick": lambda: server.close_where(1000, client=client["client"]),
                "drain": server.drain,
            }[ends_it]()
            assert ended == 1
            assert server.clients == []
            assert await poll == []
            assert (await poller.call("GET"))["status"] == 410

    run(main())


def test_killed_transport_is_a_session_that_has_ended(run: Run) -> None:
    """The POST that did it was taken."""

    async def main() -> None:
        async with serving(time_scale=FAST) as (_, poller):
            await poller.open()
            await poller.join("room:a")
            assert await poller.post(["1", "2", "room:a", "kill_transport", {}]) == 200
            assert await poller.post(["1", "3", "room:a", "echo", {}]) == 410

    run(main())


def test_token_of_the_client_comes_in_a_header_since_1_8(run: Run) -> None:
    """As it is, not in base64."""

    async def main() -> None:
        for phoenix, token in (("1.8.12", "se/cret"), ("1.7.24", None)):
            async with serving(phoenix=phoenix) as (_, poller):
                poller.token = (await poller.call("GET", x_phoenix_authtoken="se/cret"))["token"]
                assert (await poller.join("room:auth"))["response"]["auth_token"] == token

    run(main())


def test_faults_and_floods_reach_long_poll_too(run: Run, post: Any) -> None:
    """A session is a client like any other."""

    async def main() -> None:
        async with serving() as (server, poller):
            await poller.open()
            await poller.join("room:a")
            await post(f"{server.control_url}/settings", {"duplicate_replies": True})
            await poller.post(["1", "2", "room:a", "echo", {}])
            assert [message[1] for message in await poller.poll()] == ["2", "2"]
            flood = asyncio.create_task(post(f"{server.control_url}/flood", {"topics": ["room:a"], "count": 1_000}))
            came: list[Any] = []
            while len(came) < 1_000:
                came += await poller.poll()
            assert [message[4]["i"] for message in came] == list(range(1_000))
            assert (await flood)["deliveries"] == 1_000
            await post(f"{server.control_url}/settings", {"refuse_connections": 503})
            assert (await poller.request("GET"))[0] == 503

    run(main())


def test_stopping_answers_the_poll_that_waits(run: Run, dial: Any) -> None:
    """Joined clients are drained at once; others are closed only when every request has its answer."""

    async def main() -> None:
        server = MockServer(time_scale=0.2)
        await server.start()
        async with aiohttp.ClientSession() as http:
            poller = Poller(http, f"{server.http_url}/socket/longpoll?vsn=2.0.0")
            await poller.open()
            await poller.join("room:a")
            joined, idle = await dial(server.port), await dial(server.port)
            await joined.join("room:a")
            poll = asyncio.create_task(poller.poll())
            await asyncio.sleep(0.05)
            stopping = asyncio.create_task(server.stop())
            assert (await joined.receive()).code == 1012
            assert not poll.done()
            assert (await idle.receive()).code == 1000
            assert await poll == []
            await stopping

    run(main())


def test_answers_are_compressed_for_those_who_ask(run: Run) -> None:
    """As the real server's are; never cached, whatever they say."""

    async def main() -> None:
        async with serving() as (_, poller), poller.http.get(poller.url, headers={"Accept-Encoding": "gzip"}) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["Cache-Control"] == "no-store"
            assert (await response.json())["status"] == 410

    run(main())
