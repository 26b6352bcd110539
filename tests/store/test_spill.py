"""Spilled records: each worker's own, in order, as they were."""

import asyncio

from rig.store import SPILL, Counts, Spill, SpillRow


def row(worker: int, record: bytes, **more) -> SpillRow:
    return SpillRow(worker, kind=1, count=2, time_ns=1_700_000_000_123_456_789, record=record, **more)


def test_records_come_back_to_their_worker_in_order(opened):
    """Byte for byte, with the ids that were given."""

    async def test() -> None:
        spill = Spill(await opened("spill.db", "off", SPILL))
        ids = await spill.append([row(0, b"a\x00\xff"), row(1, b"b"), row(0, b"")])
        ids += await spill.append([row(0, b"d")])
        assert ids == [1, 2, 3, 4]
        assert await spill.next(0, 0, 10_000) == [row(0, b"a\x00\xff", id=1), row(0, b"", id=3), row(0, b"d", id=4)]
        assert await spill.next(0, 3, 10_000) == [row(0, b"d", id=4)]
        assert await spill.next(1, 0, 10_000) == [row(1, b"b", id=2)]
        assert await spill.next(2, 0, 10_000) == []
        assert await spill.append([]) == []

    opened.run(test)


def test_what_is_read_at_once_is_bounded(opened):
    """In bytes; but one record always comes."""

    async def test() -> None:
        spill = Spill(await opened("spill.db", "off", SPILL))
        await spill.append([row(0, b"x" * 100) for _ in range(5)])
        assert [found.id for found in await spill.next(0, 0, 250)] == [1, 2]
        assert [found.id for found in await spill.next(0, 2, 100)] == [3]
        assert [found.id for found in await spill.next(0, 3, 1)] == [4]

    opened.run(test)


def test_ids_are_right_when_several_append_at_once(opened):
    """Each caller gets those of its own records."""

    async def test() -> None:
        spill = Spill(await opened("spill.db", "off", SPILL))
        ids = await asyncio.gather(*(spill.append([row(worker, b"%d" % worker)] * 300) for worker in range(4)))
        for worker, given in enumerate(ids):
            assert [found.id for found in await spill.next(worker, 0, 10_000)] == given

    opened.run(test)


def test_removed_records_are_gone(opened):
    """By id, or up to one; ids are not given again."""

    async def test() -> None:
        spill = Spill(await opened("spill.db", "off", SPILL))
        await spill.append([row(number % 2, b"x") for number in range(6)])
        await spill.remove([1])
        await spill.remove_up_to(1, 4)
        assert [found.id for worker in (0, 1) for found in await spill.next(worker, 0, 100)] == [3, 5, 6]
        assert await spill.left() == [0, 1]
        assert await spill.get(3) == row(0, b"x", id=3)
        assert await spill.get(1) is None
        assert await spill.counts() == Counts(3, 3)
        await spill.remove([3, 5, 6])
        assert await spill.left() == []
        assert await spill.append([row(0, b"x")]) == [7]

    opened.run(test)
