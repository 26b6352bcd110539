"""The outbox on its way to the server."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
import structlog

from rig.backoff import Cause
from rig.counters import Page
from rig.io import stream as stream_module
from rig.io import verdicts as verdicts_module
from rig.io import visits as visits_module
from rig.io.sender import Sender
from rig.io.stream import StoredPush, Terms
from rig.phoenix import Push, events
from tests.io.stored import BROKEN, FakeOutbox
from tests.running import until

WINDOW = 4
CLOSED = events.SocketClosed(Cause.LINK_LOST, 1006, "", 0.1)


class Line:
    """
    A sender, and its connection and outbox as a test sees them.

    Attributes:
        sent: Every push, in order.
        joins: Topics that were joined for their rows.
    """

    def __init__(self, page: Page, *, window: int = WINDOW, on_error: Any = "dead-letter", retries: int = 2) -> None:
        self.outbox = FakeOutbox()
        self.page = page
        self.sent: list[StoredPush] = []
        self.joins: list[str] = []
        self.unsent_bytes, self.deaf = 0, False
        self.sender = Sender(
            Terms(window, 2.5, on_error, retries),
            page=page,
            wanted={"a", "b"},
            owns=lambda topic: not topic.startswith("foreign"),
            send=self._send,
            unsent_bytes=lambda: self.unsent_bytes,
            deaf=lambda: self.deaf,
            join=self.joins.append,
            leave=self.joins.remove,
        )

    async def start(self, *topics: str) -> None:
        """Send what is in the outbox; these topics are joined."""
        self.sender.use(self.outbox)  # type: ignore[arg-type]
        self.sender.size_pages(await self.outbox.counts())
        await self.sender.look()
        self.join(*topics)

    def join(self, *topics: str) -> None:
        for topic in topics:
            self.sender.note(events.Joined(topic, {}, False))

    def store(self, topic: str, *numbers: int, **more: Any) -> list[int]:
        """Store pushes, and tell the sender."""
        ids = self.outbox.put(topic, *numbers, **more)
        self.sender.stored([topic])
        return ids

    async def arrived(self, count: int) -> list[StoredPush]:
        """Wait for so many pushes, insist that there are no more, and take them."""
        await until(lambda: len(self.sent) >= count)
        await turns()
        taken, self.sent = self.sent, []
        assert len(taken) == count, [number(push) for push in taken]
        return taken

    async def nothing_arrives(self) -> None:
        await turns()
        assert [number(push) for push in self.sent] == []

    def reply(self, pushes: Iterable[Push], status: str = "ok", response: Any = None) -> None:
        for push in pushes:
            self.sender.resolve(events.ReplyReceived(push, status, response))

    def lose(self, pushes: Iterable[Push]) -> None:
        """Lose the connection, with these pushes unanswered."""
        self.sender.note(CLOSED)
        for push in pushes:
            self.sender.resolve(events.PushInterrupted(push, "lost"))

    async def wait(self, seconds: float) -> None:
        """Let so much of the server's time pass."""
        self.sender._patience.now += seconds
        await self.sender.tend()
        await turns()

    async def empty(self) -> None:
        await until(lambda: not self.outbox.rows)

    def _send(self, pushes: list[Push]) -> None:
        assert all(isinstance(push, StoredPush) for push in pushes)
        self.sent += pushes  # type: ignore[arg-type]


async def turns() -> None:
    """Let everything go on that can."""
    for _ in range(60):
        await asyncio.sleep(0)


def number(push: Push) -> int:
    """Return the number that a push has for its payload."""
    return int(bytes(push.payload).lstrip(b"\x00"))


def numbers(pushes: Iterable[Push]) -> list[int]:
    return [number(push) for push in pushes]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing before something is tried again."""
    monkeypatch.setattr(stream_module, "full_jitter", lambda attempt, random: 0.0)
    monkeypatch.setattr(stream_module, "_STORE_PAUSE", 0.001)
    monkeypatch.setattr(verdicts_module, "_TRY_AGAIN", 0.001)


@pytest.fixture
def line(page: Page, request: pytest.FixtureRequest) -> Callable[..., Line]:
    """Give a function that makes a line; it must be called on the loop."""
    return lambda **terms: Line(page, **terms)


def test_rows_are_sent_in_order_so_many_at_a_time(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """A further one only when the server has answered one; each leaves the outbox by its own ok."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", *range(10))
        await it.start("a")
        first = await it.arrived(WINDOW)
        assert numbers(first) == [0, 1, 2, 3]
        assert len(it.outbox.rows) == 10, "nothing is acknowledged before the server has answered"
        it.reply([first[1]])
        second = await it.arrived(1)
        await until(lambda: len(it.outbox.rows) == 9)
        it.reply([first[0], first[2]])
        third = await it.arrived(2)
        assert numbers([*second, *third]) == [4, 5, 6]
        it.reply([first[3], *second, *third])
        it.reply(await it.arrived(3))
        await it.empty()
        await it.sender.close()

    run(main)


def test_topics_do_not_wait_for_each_other(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """One that is not answered, or not joined, keeps no other."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", *range(4))
        it.outbox.put("b", *range(10, 14))
        await it.start("b")
        it.reply(await it.arrived(4))
        await until(lambda: {row.topic for row in it.outbox.rows.values()} == {"a"})
        it.join("a")
        it.reply(await it.arrived(4))
        await it.empty()
        await it.sender.close()

    run(main)


def test_rows_that_come_later_follow(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """While others are on their way, and when none are."""

    async def main() -> None:
        it = line()
        await it.start("a")
        it.store("a", 1)
        first = await it.arrived(1)
        it.store("a", 2)
        it.reply([*first, *await it.arrived(1)])
        await it.empty()
        it.store("a", 3)
        it.reply(await it.arrived(1))
        await it.empty()
        it.outbox.put("a", 4)
        await it.sender.look()
        it.reply(await it.arrived(1))
        await it.empty()
        await it.sender.close()

    run(main)


def test_a_lost_connection_repeats_from_the_lowest_row_without_an_answer(
    line: Callable[..., Line], run: Callable[..., None]
) -> None:
    """Once the topic is joined again, in order, with the same payload; what was answered is not sent again."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", *range(6))
        await it.start("a")
        first = await it.arrived(4)
        it.reply([first[1]])
        fifth = await it.arrived(1)
        it.lose([first[0], first[2], first[3], *fifth])
        await it.nothing_arrives()
        it.join("a")
        again = await it.arrived(4)
        assert numbers(again) == [0, 2, 3, 4]
        assert [push.row.key for push in again] == [push.row.key for push in (first[0], first[2], first[3], *fifth)]
        it.reply(again)
        it.reply(await it.arrived(1))
        await it.empty()
        await it.sender.close()

    run(main)


@pytest.mark.parametrize(
    "end",
    [events.ChannelErrored("a", {}, 0.1), events.ChannelClosed("a", False, 0.1)],
    ids=["crashed", "closed"],
)
def test_a_channel_that_ends_is_as_a_lost_connection(line: Callable[..., Line], run: Callable[..., None], end: Any) -> None:
    """Only for its own topic."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", 1, 2)
        it.outbox.put("b", 11)
        await it.start("a", "b")
        pushes = await it.arrived(3)
        it.sender.resolve(events.PushInterrupted(pushes[0], "crashed"))
        it.sender.resolve(events.PushInterrupted(pushes[1], "crashed"))
        it.sender.note(end)
        it.reply([pushes[2]])
        await it.nothing_arrives()
        it.join("a")
        again = await it.arrived(2)
        assert numbers(again) == [1, 2]
        it.reply(again)
        await it.empty()
        await it.sender.close()

    run(main)


def test_a_push_without_an_answer_is_repeated_when_no_other_waits_for_one(
    line: Callable[..., Line], run: Callable[..., None]
) -> None:
    """Nothing new is sent meanwhile; what was sent after it and is answered is not repeated."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", *range(2))
        await it.start("a")
        with structlog.testing.capture_logs() as logs:
            early = await it.arrived(2)
            await it.wait(2.0)
            it.store("a", *range(2, 6))
            late = await it.arrived(2)
            it.reply([early[0]])
            another = await it.arrived(1)
            assert numbers([*late, *another]) == [2, 3, 4]
            await it.wait(1.0)
            it.reply([late[0], *another])
            await it.nothing_arrives()
            await it.wait(1.4)
            await it.nothing_arrives()
            await it.wait(0.2)
            again = await it.arrived(3)
        assert numbers(again) == [1, 3, 5]
        it.reply(again)
        await it.empty()
        assert [entry["event"] for entry in logs] == [
            "a durable push was not answered, and is sent again: its event needs a reply with ok"
        ]
        await it.sender.close()

    run(main)


def test_a_late_answer_is_an_answer_all_the_same(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """A row that is sent again meanwhile leaves the outbox with it; nothing else that comes late counts."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", 1, 2)
        await it.start("a")
        first = await it.arrived(2)
        await it.wait(3.0)
        again = await it.arrived(2)
        assert numbers(again) == [1, 2]
        it.reply([first[0]])
        await until(lambda: len(it.outbox.rows) == 1)
        it.reply([first[1]], "error", {"reason": "twice"})
        it.sender.resolve(events.PushTimedOut(first[1]))
        await it.nothing_arrives()
        it.reply(again)
        await it.empty()
        assert it.outbox.buried == []
        await it.sender.close()

    run(main)


def test_the_core_waits_longer_than_we_do(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Else it would forget whose a late answer is; but not for ever, or it would remember all of them."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", 1)
        await it.start("a")
        [push] = await it.arrived(1)
        assert push.timeout == 25.0
        it.reply([push])
        await it.sender.close()

    run(main)


def test_while_nothing_is_read_nothing_is_sent_and_no_answer_is_late(
    line: Callable[..., Line], run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in our own buffers, behind events that the workers are too slow for."""
    now = [0.0]
    monkeypatch.setattr("rig.io.sender.time.monotonic", lambda: now[0])

    async def main() -> None:
        it = line()
        it.outbox.put("a", *range(6))
        await it.start("a")
        pushes = await it.arrived(4)
        await it.sender.tend()
        it.deaf = True
        for _ in range(20):
            now[0] += 5.0
            await it.sender.tend()
        it.reply([pushes[0]])
        await it.nothing_arrives()
        it.deaf = False
        it.reply(pushes[1:])
        it.reply(await it.arrived(2))
        await it.empty()
        await it.sender.close()

    run(main)


def test_a_refused_push_becomes_a_dead_letter(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """With what the server said; the others go on."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", 1, 2, 3)
        await it.start("a")
        pushes = await it.arrived(3)
        it.reply([pushes[0]], "error", {"reason": "sold out"})
        it.reply([pushes[1]], "later", b"\x00\x01")
        it.reply([pushes[2]])
        await it.empty()
        assert [(row.payload, reason) for row, reason in it.outbox.buried] == [
            (b"1", 'the server refused it: error {"reason":"sold out"}'),
            (b"2", "the server refused it: later 2 bytes"),
        ]
        await it.sender.close()

    run(main)


def test_with_retry_a_refused_push_is_repeated_so_many_times(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """With a window of 1 nothing overtakes it; the attempts are counted in the outbox, so that a restart forgets none."""

    async def main() -> None:
        it = line(window=1, on_error="retry", retries=2)
        [stubborn, _] = it.outbox.put("a", 1, 2)
        await it.start("a")
        for attempts in range(2):
            it.reply(await it.arrived(1), "error", {"reason": "no"})
            await until(lambda attempts=attempts: it.outbox.rows[stubborn].attempts == attempts + 1)
        last = await it.arrived(1)
        assert numbers(last) == [1]
        it.reply(last, "error", {"reason": "no"})
        second = await it.arrived(1)
        assert numbers(second) == [2]
        it.reply(second)
        await it.empty()
        assert [reason for _, reason in it.outbox.buried] == ['the server refused it 3 times: error {"reason":"no"}']
        await it.sender.close()

    run(main)


def test_a_push_that_met_no_channel_was_not_refused(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Phoenix answers `unmatched topic` to what comes right behind the end of a channel: the application has not seen it."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", 1)
        await it.start("a")
        it.reply(await it.arrived(1), "error", {"reason": "unmatched topic"})
        it.reply(await it.arrived(1))
        await it.empty()
        assert it.outbox.buried == []
        await it.sender.close()

    run(main)


def test_a_push_that_the_serializer_does_not_take_is_buried(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Such as a binary one with version 1 of the protocol: it would never go. While the topic is not joined it only waits."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", 1, 2)
        await it.start("a")
        first, second = await it.arrived(2)
        it.sender.resolve(events.PushRejected(first, "binary payloads need version 2.0.0"))
        it.sender.note(events.ChannelClosed("a", True))
        it.sender.resolve(events.PushRejected(second, "'a' is not joined"))
        it.join("a")
        again = await it.arrived(1)
        assert numbers(again) == [2]
        it.reply(again)
        await it.empty()
        assert [reason for _, reason in it.outbox.buried] == ["it cannot be sent: binary payloads need version 2.0.0"]
        await it.sender.close()

    run(main)


def test_binary_rows_are_binary_pushes(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Bytes go as bytes, JSON as the text that was stored."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", 1, binary=True)
        it.outbox.put("a", 2)
        await it.start("a")
        pushes = await it.arrived(2)
        assert [type(push.payload).__name__ for push in pushes] == ["bytes", "Raw"]
        assert [push.event for push in pushes] == ["e", "e"]
        it.reply(pushes)
        await it.empty()
        await it.sender.close()

    run(main)


def test_only_topics_of_nobody_are_joined_for_their_rows(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Those of the handlers are joined anyway, and those of other io processes are not ours."""

    async def main() -> None:
        it = line()
        for topic in ("a", "other", "foreign:1"):
            it.outbox.put(topic, 1)
        await it.start("a")
        it.reply(await it.arrived(1))
        assert it.joins == ["other"]
        it.join("other")
        [push] = await it.arrived(1)
        assert push.topic == "other"
        it.reply([push])
        await until(lambda: {row.topic for row in it.outbox.rows.values()} == {"foreign:1"})
        assert it.joins == ["other"], "it stays for a while"
        await it.sender.close()

    run(main)


def test_a_refused_join_leaves_the_rows_and_says_so(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Once a while; nothing is sent, nothing buried."""

    async def main() -> None:
        it = line()
        it.outbox.put("other", 1)
        it.outbox.put("second", 1)
        await it.start()
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                it.sender.note(events.JoinRejected("other", {"reason": "no"}, 0.1))
            it.sender.note(events.JoinTimedOut("other", 0.1))
            it.sender.note(events.JoinRejected("unknown", {"reason": "no"}, 0.1))
            await it.nothing_arrives()
            it.sender.note(events.JoinTimedOut("second", 0.1))
        assert [(entry["topic"], entry.get("response", "left out")) for entry in logs] == [
            ("other", {"reason": "no"}),
            ("second", "left out"),
        ]
        assert len(it.outbox.rows) == 2
        await it.sender.close()

    run(main)


def test_what_a_page_holds_is_bounded(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Pages are a few windows at most, and of large rows a single one."""

    async def main() -> None:
        it = line(window=64)
        it.outbox.put("a", *range(1_000))
        await it.start("a")
        pushes = await it.arrived(64)
        assert max(it.outbox.pages) == 256
        it.outbox.pages.clear()
        it.sender.size_pages(type(await it.outbox.counts())(10, 10 * 300 * 1024))
        for _ in range(12):
            it.reply(pushes)
            await turns()
            pushes, it.sent = it.sent, []
        assert set(it.outbox.pages) == {1}
        await it.sender.close()

    run(main)


def test_an_outbox_that_cannot_be_read_is_tried_again(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Loudly, and with nothing sent twice for it."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", *range(4))
        await it.start("a")
        first = await it.arrived(4)
        it.outbox.failure = BROKEN
        with structlog.testing.capture_logs() as logs:
            it.sender.stored(["a"])
            it.reply(first)
            await until(lambda: len(logs) >= 2)
            await it.nothing_arrives()
            it.outbox.failure = None
            await it.empty()
        it.store("a", 5)
        it.reply(await it.arrived(1))
        await it.empty()
        assert {entry["log_level"] for entry in logs} == {"warning", "error"}
        await it.sender.close()

    run(main)


def test_rows_that_waited_too_long_are_buried(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Whether their topic is joined or not; one that is on its way waits for its answer first."""

    async def main() -> None:
        it = line()
        past, future = time.time() - 1, time.time() + 1000
        it.outbox.put("a", 1, expires_at=future)
        it.outbox.put("a", 2, expires_at=past)
        it.outbox.put("b", 3, expires_at=past)
        it.outbox.put("foreign:1", 4, expires_at=past)
        with structlog.testing.capture_logs() as logs:
            await it.start("a")
            [push] = await it.arrived(1)
            await it.sender.expire()
            await until(lambda: len(it.outbox.buried) == 2)
        assert sorted((row.payload, reason) for row, reason in it.outbox.buried) == [(b"2", "expired"), (b"3", "expired")]
        assert [(entry["log_level"], entry["event"], entry.get("key"), entry.get("pushes")) for entry in logs] == [
            ("warning", "a durable push waited too long: it is with the dead letters", "key-2", None),
            ("warning", "durable pushes waited too long: they are with the dead letters", None, 1),
        ]
        it.reply([push])
        await until(lambda: [row.topic for row in it.outbox.rows.values()] == ["foreign:1"])
        await it.sender.close()

    run(main)


def test_a_row_on_its_way_does_not_expire(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """The server may have it already; its answer decides."""

    async def main() -> None:
        it = line()
        [id] = it.outbox.put("a", 1)
        await it.start("a")
        pushes = await it.arrived(1)
        it.outbox.rows[id] = msgspec.structs.replace(it.outbox.rows[id], expires_at=time.time() - 1)
        await it.sender.expire()
        assert it.outbox.buried == []
        it.reply(pushes)
        await it.empty()
        await it.sender.close()

    run(main)


def test_nothing_is_sent_while_the_server_does_not_take_what_was_sent(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """The live traffic has the connection to itself then."""

    async def main() -> None:
        it = line()
        it.unsent_bytes = 10 * 1024 * 1024
        it.outbox.put("a", 1)
        await it.start("a")
        await it.nothing_arrives()
        it.unsent_bytes = 0
        it.reply(await it.arrived(1))
        await it.empty()
        await it.sender.close()

    run(main)


def test_refusals_and_time_outs_wait_for_the_budget_and_lost_connections_do_not(
    line: Callable[..., Line], run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is gone is not overloaded; one that answers with errors may be."""
    spent: list[int] = []
    monkeypatch.setattr("rig.io.budget.Budget.spend", lambda self, repetitions, now: spent.append(repetitions) or 0.0)

    async def main() -> None:
        it = line(on_error="retry")
        it.outbox.put("a", 1, 2, 3)
        await it.start("a")
        it.lose(await it.arrived(3))
        it.join("a")
        pushes = await it.arrived(3)
        assert spent == []
        it.reply([pushes[0]], "error", {})
        it.reply([pushes[2]])
        await it.wait(3.0)
        it.reply(await it.arrived(2))
        await it.empty()
        assert spent == [1], "a round of the topic"
        await it.sender.close()

    run(main)


def test_a_row_that_comes_as_the_one_before_is_answered_is_sent(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """At whatever moment it comes: the stream that ends just then is followed by another."""

    async def main() -> None:
        it = line()
        await it.start("a")
        it.store("a", 0)
        for moment in range(12):
            it.reply(await it.arrived(1))
            for _ in range(moment):
                await asyncio.sleep(0)
            it.store("a", moment + 1)
        it.reply(await it.arrived(1))
        await it.empty()
        await it.sender.close()

    run(main)


def test_topics_that_were_too_many_get_their_turn(
    line: Callable[..., Line], run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked for again when others have nothing left."""
    monkeypatch.setattr("rig.io.sender._STREAMS", 2)

    async def main() -> None:
        it = line()
        for topic, number in {"a": 1, "b": 2, "x": 3}.items():
            it.outbox.put(topic, number)
        await it.start("a", "b")
        pushes = await it.arrived(2)
        await it.sender.tend()
        assert it.joins == []
        it.reply(pushes)
        await until(lambda: len(it.outbox.rows) == 1)
        await it.sender.tend()
        assert it.joins == ["x"]
        it.join("x")
        it.reply(await it.arrived(1))
        await it.empty()
        await it.sender.close()

    run(main)


def test_the_end_waits_until_the_database_has_the_answers(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """Else the next run would send what the server has."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", 1)
        await it.start("a")
        pushes = await it.arrived(1)
        it.outbox.gate.clear()
        it.reply(pushes)
        closing = asyncio.create_task(it.sender.close())
        await turns()
        assert not closing.done()
        it.outbox.gate.set()
        await closing
        assert not it.outbox.rows

    run(main)


def test_the_end_waits_for_answers_and_leaves_the_rest(line: Callable[..., Line], run: Callable[..., None]) -> None:
    """What was not sent is sent by the next run, what was answered is acknowledged before the end."""

    async def main() -> None:
        it = line()
        it.outbox.put("a", *range(8))
        await it.start("a")
        pushes = await it.arrived(4)
        closing = asyncio.create_task(it.sender.close())
        await turns()
        it.reply(pushes)
        await closing
        assert it.sent == []
        assert [int(row.payload) for row in it.outbox.rows.values()] == [4, 5, 6, 7]
        it.sender.stored(["a"])
        await it.nothing_arrives()

    run(main)


@pytest.mark.parametrize(("last_answers", "within"), [(0.01, math.inf), (60.0, 0.01)])
def test_the_end_does_not_wait_for_ever(
    line: Callable[..., Line], run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, last_answers: float, within: float
) -> None:
    """A push without an answer stays in the outbox."""
    monkeypatch.setattr("rig.io.sender._LAST_ANSWERS", last_answers)

    async def main() -> None:
        it = line()
        it.outbox.put("a", 1)
        await it.start("a")
        await it.arrived(1)
        async with asyncio.timeout(5):
            await it.sender.close(within)
        assert len(it.outbox.rows) == 1

    run(main)


def test_a_busy_topic_gives_way_without_repeating_anything(
    line: Callable[..., Line], run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way is answered first; then another topic is joined, and it goes on later where it was."""
    monkeypatch.setattr("rig.io.visits.PLACES", 1)
    monkeypatch.setattr("rig.io.visits.SLICE", 0.0)

    async def main() -> None:
        it = line(window=2)
        it.outbox.put("x", *range(6))
        it.outbox.put("y", 10)
        await it.start("x")
        first = await it.arrived(2)
        assert it.joins == ["x"]
        await it.sender.tend()
        it.reply(first)
        await until(lambda: it.joins == ["y"])
        await it.nothing_arrives()
        it.sender.note(events.ChannelClosed("x", True))
        it.join("y")
        it.reply(await it.arrived(1))
        await until(lambda: it.joins == ["x"])
        it.join("x")
        second = await it.arrived(2)
        assert numbers(second) == [2, 3]
        it.reply(second)
        it.reply(await it.arrived(2))
        await it.empty()
        await it.sender.close()

    run(main)


def test_row_that_comes_while_its_topic_is_being_left_waits_for_the_next_join(run: Callable[..., None], page: Page) -> None:
    """The channel takes nothing from the leave on, long before the server has answered it: the row is no dead letter."""

    async def main() -> None:
        line = Line(page)
        await line.start()
        topics = [f"x{number}" for number in range(visits_module.PLACES)]
        for topic in topics:
            line.store(topic, 1)
            line.join(topic)
        line.reply(await line.arrived(len(topics)))
        await line.empty()
        await turns()
        for topic in [*topics[1:], "y"]:  # all places are busy, and that of x0 goes to y
            line.store(topic, 2)
        assert "x0" not in line.joins
        line.store("x0", 2)
        sent = await line.arrived(len(topics) - 1)
        assert "x0" not in [push.topic for push in sent]
        await line.sender.close()

    run(main)
