"""Dead letters: kept until somebody retries or purges them."""

from rig.store import Counts, DeadLetters, Letter, NewLetter, NewPush, Outbox


def letter(payload: bytes = b"{}", topic: str = "room:1", **more) -> NewLetter:
    about = {"handler": "shop:seen", "reason": "ValueError: no", "traceback": None, "worker": 0, "received_at": 7.5} | more
    return NewLetter(topic=topic, event="seen", payload=payload, binary=False, **about)


def test_a_letter_comes_back_as_it_was_stored(opened):
    """The raw payload and the traceback, too; text that UTF-8 cannot hold is made readable."""

    async def test() -> None:
        letters = DeadLetters(await opened())
        await letters.add([letter(b'{"a": 1}', traceback="Traceback\n  \udcff", reason="no \ud800", worker=3)])
        (found,) = await letters.page(0, 9)
        assert found == await letters.get(1)
        assert found == Letter(
            id=1,
            kind="event",
            topic="room:1",
            event="seen",
            reason="no \\ud800",
            payload=b'{"a": 1}',
            binary=False,
            received_at=7.5,
            buried_at=opened.time,
            retry=False,
            key=None,
            attempts=None,
            handler="shop:seen",
            traceback="Traceback\n  \\udcff",
            worker=3,
        )
        assert await letters.get(2) is None

    opened.run(test)


def test_a_retried_push_waits_again_with_its_key(opened):
    """At the end of the outbox, as if it were new, and without the time to live that may have ended it."""

    async def test() -> None:
        store = await opened()
        outbox, letters = Outbox(store), DeadLetters(store)
        await outbox.add(
            [NewPush("a", "room:1", "say", b"\xff", binary=True, expires_at=1.0), NewPush("b", "room:1", "say", b"{}")]
        )
        await outbox.failed([1], "late")
        await outbox.bury([1], "expired")
        assert await letters.retry([1]) == 1
        rows = await outbox.after("room:1", 0, 9)
        assert [(row.key, row.payload, row.binary, row.attempts, row.expires_at) for row in rows] == [
            ("b", b"{}", False, 0, None),
            ("a", b"\xff", True, 0, None),
        ]
        assert await letters.counts() == Counts(0, 0)

    opened.run(test)


def test_a_push_whose_key_waits_already_is_not_stored_twice(opened):
    """Somebody has enqueued it again since."""

    async def test() -> None:
        store = await opened()
        outbox, letters = Outbox(store), DeadLetters(store)
        await outbox.add([NewPush("a", "room:1", "say", b"1")])
        await outbox.bury([1], "refused")
        await outbox.add([NewPush("a", "room:1", "say", b"2")])
        assert await letters.retry() == 1
        assert [row.payload for row in await outbox.page(0, 9)] == [b"2"]
        assert await letters.counts() == Counts(0, 0)

    opened.run(test)


def test_a_retried_event_waits_for_a_run(opened):
    """It is a dead letter until its handler got it; then it is gone."""

    async def test() -> None:
        letters = DeadLetters(await opened())
        await letters.add([letter(b"%d" % number) for number in range(5)])
        assert await letters.to_retry(9) == []
        assert await letters.retry([2, 4, 5]) == 3
        assert [found.id for found in await letters.to_retry(2)] == [2, 4]
        assert [(found.id, found.retry) for found in await letters.to_retry(2, after_id=4)] == [(5, True)]
        await letters.retried([2, 5])
        assert [(found.id, found.retry) for found in await letters.page(0, 9)] == [(1, False), (3, False), (4, True)]

    opened.run(test)


def test_all_letters_are_retried_or_purged_in_pages(opened):
    """However many there are; pushes and events each their own way."""

    async def test() -> None:
        store = await opened()
        outbox, letters = Outbox(store), DeadLetters(store)
        await outbox.add([NewPush(str(number), "room:1", "say", b"{}") for number in range(1500)])
        await outbox.bury(range(1, 1501), "refused")
        await letters.add([letter() for _ in range(1500)])
        assert await letters.retry() == 3000
        assert (await outbox.counts()).rows == 1500
        assert len(await letters.to_retry(5000)) == 1500
        assert await letters.purge([1, 2]) == 0
        assert await letters.purge() == 1500
        assert await letters.counts() == Counts(0, 0)

    opened.run(test)
