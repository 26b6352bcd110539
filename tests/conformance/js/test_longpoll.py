"""The JavaScript client's long-poll transport against the mock server, chosen or fallen back to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

FAILED = {"source": "transport", "reason": "connection_error"}
ONLINE = {"online_at": 1_700_000_000}
VERSIONS = ("1.7.24", "1.8.12")
ECHO = ["ok", {"again": True}]

versions = pytest.mark.parametrize("phoenix", VERSIONS)


@versions
def test_channels_work_over_long_poll(play: Any, phoenix: str) -> None:
    """Joins, replies, a crash and the join after it, a stop, a leave."""
    result = play("longpoll_channels", phoenix=phoenix)["result"]
    payload = {"x": "hé"}
    assert result["outcomes"] == {
        "echo": ["ok", payload],
        "fail": ["error", payload],
        "ok_only": ["ok", {}],
        "custom_status": ["retry_later", payload],
        "push_then_reply": ["ok", payload],
        "again": ECHO,
    }
    assert result["crash"] == ["timeout", {}]
    assert result["errors"] == [{"reason": "channel_crash"} if phoenix == "1.8.12" else {}]
    assert result["stopped"] == ["closed", 1]
    assert result["leave"] == ["ok", {}]


def test_many_pushes_go_in_batches_of_a_hundred(play: Any) -> None:
    """None is lost, and their replies keep the order."""
    result = play("longpoll_batches")["result"]
    assert result == {"numbers": list(range(150)), "lines": [100, 50]}


def test_both_transports_share_a_room(play: Any) -> None:
    """A client that polls and one on a WebSocket see the same events."""
    news = [{"n": 1}, {"n": 2}, {"n": "3"}]
    assert play("longpoll_beside_websocket")["result"] == [news, news]


def test_presence_works_over_long_poll(play: Any) -> None:
    """Both see each other, and the leave."""
    both = {"alice": [ONLINE], "bob": [ONLINE]}
    assert play("longpoll_presence")["result"] == [both, both, {"alice": [ONLINE]}]


def test_a_binary_push_arrives_but_a_binary_event_fails_the_poll(play: Any) -> None:
    """As with Phoenix, which cannot send binary over long-poll and answers HTTP 500; the client never polls again then."""
    result = play("longpoll_binary")["result"]
    assert result["sent"] == "0001ff"
    assert result["polls"][-1] == 500
    assert set(result["polls"][:-1]) == {200}


@versions
def test_a_disconnected_poller_starts_a_new_session(play: Any, phoenix: str) -> None:
    """`disconnect` ends the session; the next poll is answered 410, and the client joins again."""
    result = play("longpoll_disconnected", phoenix=phoenix)["result"]
    assert result == {"code": 3410, "errors": [FAILED], "again": ECHO}


def test_a_refused_poller_tries_the_next_token(play: Any) -> None:
    """Status 403 in the body; the client closes with 1008 and comes back."""
    assert play("longpoll_refused")["result"] == {"errors": [403], "codes": [1008], "joins": 1}


@contextlib.asynccontextmanager
async def front(port: int, upgrade: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[int]:
    """Stand between client and server as a proxy that knows no WebSocket: hand on every request but an upgrade."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                upgrade(writer)
                await reader.read()
                return
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(to_server):
                to_server.write(head)
                async with asyncio.TaskGroup() as group:
                    group.create_task(carry(reader, to_server))
                    group.create_task(carry(from_server, writer))

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on bytes one way until there are none."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


def refuse(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.write_eof()


def stay_silent(writer: asyncio.StreamWriter) -> None:
    pass


@pytest.mark.parametrize(("upgrade", "fallback_ms"), [(refuse, 5000), (stay_silent, 300)])
def test_a_client_whose_websocket_is_blocked_falls_back(play: Any, upgrade: Any, fallback_ms: int) -> None:
    """Refused at once, or never answered: the client polls instead, and remembers that."""
    outcome = play("longpoll_fallback", through=lambda port: front(port, upgrade), fallbackMs=fallback_ms)
    assert outcome["result"] == {"transport": "LongPoll", "echo": ["ok", {"n": 1}], "memory": {"phx:fallback:LongPoll": "true"}}
    assert [frame["opcode"] for frame in outcome["frames"]] == ["connect", "error", "closed"]


def test_a_client_whose_websocket_works_does_not_fall_back(play: Any) -> None:
    """The fallback is only for who needs it."""
    outcome = play("longpoll_fallback", fallbackMs=5000)
    assert outcome["result"] == {"transport": "RecordedWebSocket", "echo": ["ok", {"n": 1}], "memory": {}}
    assert outcome["requests"] == []
