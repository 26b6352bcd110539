"""The outbox: stored once, in order, and never more than it may hold."""

import asyncio
import math

import pytest

from rig.errors import OutboxFull, StoreFailed
from rig.store import Counts, DeadLetters, NewPush, Outbox, Row


def push(key: str, topic: str = "room:1", payload: bytes = b"{}", **more) -> NewPush:
    return NewPush(key, topic, "say", payload, **more)


async def keys(outbox: Outbox) -> list[str]:
    return [row.key for row in await outbox.page(0, 1000)]


def test_a_push_comes_back_as_it_was_stored(opened):
    """Every field, in the order of storing."""

    async def test() -> None:
        outbox = Outbox(await opened())
        opened.time = 1_700_000_000.1239
        awkward = "räum:\x00\"'\n\t\\{}日\U0001f600"
        await outbox.add([push("a", awkward, b'{"a": "\xc3\xa4"}', expires_at=1_700_000_009.9996)])
        await outbox.add([push("b", awkward, bytes(range(256)), binary=True), push("c", awkward, b"")])
        assert await outbox.after(awkward, 0, 10) == [
            Row(1, "a", awkward, "say", b'{"a": "\xc3\xa4"}', False, 1_700_000_000.124, 1_700_000_010.0, 0, None),
            Row(2, "b", awkward, "say", bytes(range(256)), True, 1_700_000_000.124, None, 0, None),
            Row(3, "c", awkward, "say", b"", False, 1_700_000_000.124, None, 0, None),
        ]

    opened.run(test)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 63, 64, 321, 1000])
def test_a_batch_of_any_size_is_stored_in_order(opened, size):
    """It goes into the table in a few statements of fixed shapes."""

    async def test() -> None:
        outbox = Outbox(await opened())
        await outbox.add([push(f"{number:05}") for number in range(size)])
        rows = await outbox.after("room:1", 0, 2000)
        assert [(row.id, row.key) for row in rows] == [(number + 1, f"{number:05}") for number in range(size)]

    opened.run(test)


def test_a_key_that_waits_is_passed_over(opened):
    """The io process asks again for what it had asked for when it was killed."""

    async def test() -> None:
        outbox = Outbox(await opened())
        await outbox.add([push("a", payload=b"1"), push("b")])
        await outbox.add([push("a", payload=b"2"), push("c"), push("c")])
        assert await keys(outbox) == ["a", "b", "c"]
        assert (await outbox.get(1)).payload == b"1"
        assert await outbox.counts() == Counts(3, 75 + 76 + 76)

    opened.run(test)


def test_pages_follow_each_other(opened):
    """Topic by topic; who asks for what comes after an id misses nothing."""

    async def test() -> None:
        outbox = Outbox(await opened())
        await outbox.add([push(str(number), f"room:{number % 3}") for number in range(30)])
        assert await outbox.topics() == ["room:0", "room:1", "room:2"]
        seen, after = [], 0
        while rows := await outbox.after("room:1", after, 4):
            assert len(rows) <= 4
            after = rows[-1].id
            seen += [row.key for row in rows]
        assert seen == [str(number) for number in range(1, 30, 3)]

    opened.run(test)


def test_a_page_is_bounded_in_bytes(opened):
    """Large payloads come one by one, so that memory stays small; each comes."""

    async def test() -> None:
        outbox = Outbox(await opened())
        await outbox.add([push(str(number), payload=b"x" * 1_500_000) for number in range(5)])
        await outbox.add([push("huge", payload=b"x" * 6_000_000), push("last")])
        sizes, after = [], 0
        while rows := await outbox.after("room:1", after, 64):
            after = rows[-1].id
            sizes.append(len(rows))
        assert sizes == [2, 2, 1, 1, 1]

    opened.run(test)


def test_an_id_is_not_given_twice(opened):
    """What is stored after all was acknowledged is still after it."""

    async def test() -> None:
        outbox = Outbox(await opened())
        await outbox.add([push("a"), push("b")])
        await outbox.acknowledge([1, 2])
        await outbox.add([push("c")])
        assert [row.key for row in await outbox.after("room:1", 2, 10)] == ["c"]

    opened.run(test)


def test_acknowledged_pushes_are_gone(opened):
    """Only those; to acknowledge one twice does no harm."""

    async def test() -> None:
        outbox = Outbox(await opened())
        await outbox.add([push(str(number)) for number in range(6)])
        await asyncio.gather(
            outbox.acknowledge([1, 2]), outbox.acknowledge([4]), outbox.acknowledge([]), outbox.acknowledge([4, 99])
        )
        assert await keys(outbox) == ["2", "4", "5"]
        await outbox.acknowledge(range(1, 7))
        assert await outbox.counts() == Counts(0, 0)
        assert await outbox.topics() == []

    opened.run(test)


def test_failed_attempts_are_counted(opened):
    """With the last reason, until somebody wants it tried again; text that UTF-8 cannot hold does not get in the way."""

    async def test() -> None:
        outbox = Outbox(await opened())
        await outbox.add([push("a"), push("b")])
        await outbox.failed([1, 2], "timeout")
        await outbox.failed([1], "refused \udcff")
        assert [(row.attempts, row.last_error) for row in await outbox.page(0, 9)] == [(2, "refused \\udcff"), (1, "timeout")]
        assert await outbox.retry([1, 77]) == 1
        assert [(row.attempts, row.last_error) for row in await outbox.page(0, 9)] == [(0, None), (1, "timeout")]
        assert await outbox.retry() == 2

    opened.run(test)


def test_a_buried_push_is_a_dead_letter(opened):
    """It waits no more, and is kept with its key and the reason."""

    async def test() -> None:
        store = await opened()
        outbox, letters = Outbox(store), DeadLetters(store)
        await outbox.add([push("a", payload=b"\xff", binary=True), push("b")])
        await outbox.failed([1], "refused")
        opened.time += 5
        await outbox.bury([1, 99], "refused 1 time")
        await outbox.bury([1], "twice")
        assert await keys(outbox) == ["b"]
        (letter,) = await letters.page(0, 9)
        assert (letter.kind, letter.key, letter.topic, letter.event, letter.attempts) == ("push", "a", "room:1", "say", 1)
        assert (letter.payload, letter.binary, letter.reason) == (b"\xff", True, "refused 1 time")
        assert letter.buried_at - letter.received_at == 5

    opened.run(test)


def test_only_what_is_over_has_expired(opened):
    """A push without a time to live never does, nor does one whose end is infinitely far."""

    async def test() -> None:
        outbox = Outbox(await opened())
        ends = [None, 20.0, 10.0, math.inf, 30.0]
        await outbox.add([push(str(number), expires_at=end) for number, end in enumerate(ends)])
        assert [row.key for row in await outbox.expired(9.9)] == []
        assert [row.key for row in await outbox.expired(20.0)] == ["2", "1"]
        assert [row.key for row in await outbox.expired(1e12, 1)] == ["2"]
        assert [row.key for row in await outbox.page(0, 9)] == ["0", "1", "2", "3", "4"]

    opened.run(test)


def test_the_outbox_refuses_what_would_be_too_much(opened):
    """All of it or none; what fits beside it is stored, and room that becomes free is used."""

    async def test() -> None:
        outbox = Outbox(await opened(), limit_bytes=1000)
        large, small = b"x" * 500, b"x" * 100
        wishes = [
            outbox.add([push("a", payload=large)]),
            outbox.add([push("b", payload=small), push("c", payload=large)]),
            outbox.add([push("d", payload=small)]),
        ]
        outcomes = await asyncio.gather(*wishes, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), OutboxFull, type(None)]
        assert "limit of 1000 bytes" in str(outcomes[1])
        assert "rig outbox purge" in str(outcomes[1])
        assert await keys(outbox) == ["a", "d"]
        await outbox.acknowledge([1])
        await outbox.add([push("c", payload=large)])
        assert await keys(outbox) == ["d", "c"]

    opened.run(test)


def test_what_waits_already_is_not_refused(opened):
    """A repeated call is told that its pushes are stored, however full the outbox is."""

    async def test() -> None:
        store = await opened()
        await Outbox(store).add([push("a", payload=b"x" * 900), push("b", payload=b"x" * 900)])
        full = Outbox(store, limit_bytes=1000)
        await full.add([push("a", payload=b"x" * 900)])
        with pytest.raises(OutboxFull):
            await full.add([push("a", payload=b"x" * 900), push("c")])
        await full.add([])
        assert await keys(full) == ["a", "b"]

    opened.run(test)


def test_purged_pushes_are_gone(opened):
    """Some, or all, however many."""

    async def test() -> None:
        outbox = Outbox(await opened())
        await outbox.add([push(str(number)) for number in range(2500)])
        assert await outbox.purge([1, 2, 5000]) == 2
        assert await outbox.purge() == 2498
        assert await outbox.purge() == 0
        assert await outbox.counts() == Counts(0, 0)

    opened.run(test)


def test_to_purge_all_is_not_one_transaction(opened):
    """A run that stores pushes meanwhile does not wait for a million rows."""

    async def test() -> None:
        store = await opened()
        outbox = Outbox(store)
        await outbox.add([push(str(number)) for number in range(2500)])
        statements: list[str] = []
        await store.read(lambda connection: connection.set_trace_callback(statements.append))
        await outbox.purge()
        assert statements.count("COMMIT") == 3

    opened.run(test)


def test_a_name_that_cannot_be_stored_is_refused_alone(opened):
    """A topic with half a character fails its own call, with a sentence."""

    async def test() -> None:
        outbox = Outbox(await opened())
        outcomes = await asyncio.gather(
            outbox.add([push("a")]), outbox.add([push("b", "room:\ud800")]), outbox.add([push("c")]), return_exceptions=True
        )
        assert isinstance(outcomes[1], StoreFailed)
        assert await keys(outbox) == ["a", "c"]

    opened.run(test)
