"""What waits between the polls and the owner."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from rig.transport import BinaryFrame, Closed
from rig.transport.longpoll_inbox import Inbox, batches

FRAMES = st.lists(st.one_of(st.binary(max_size=5), st.binary(max_size=5).map(BinaryFrame), st.just(b"x" * 100_000)), max_size=30)


@given(frames=FRAMES.flatmap(lambda some: st.sampled_from([some, some * 40])))
def test_batches_are_the_frames_in_order_cut_by_kind_and_size(frames):
    """Nothing is lost at a border, and no batch is larger than what a transport promises."""
    cut = list(batches(frames))

    assert [frame for batch in cut for frame in batch] == frames
    for batch in cut:
        assert 1 <= len(batch) <= 512
        assert len(batch) == 1 or sum(map(len, batch)) <= 256 * 1024
        assert len({type(frame) for frame in batch}) == 1


def test_the_end_comes_behind_the_batches(run):
    """In whichever order the loops find out; the first end counts."""

    async def main():
        inbox = Inbox(100)
        inbox.end(Closed(3410))
        inbox.end(Closed(1006))
        inbox.put([b"late"])
        assert await inbox.take() == [b"late"]
        assert await inbox.take() == Closed(3410)

    run(main)


def test_a_cut_comes_before_the_batches(run):
    """And in spite of a pause."""

    async def main():
        inbox = Inbox(100)
        inbox.put([b"1"])
        inbox.end(Closed(3410))
        inbox.pause()
        inbox.cut(Closed(1006, by_us=True))
        assert await inbox.take() == Closed(1006, by_us=True)

    run(main)


def test_nothing_is_given_out_while_paused(run):
    """Not even the end."""

    async def main():
        inbox = Inbox(100)
        inbox.pause()
        inbox.put([b"1"])
        inbox.end(Closed(3410))
        taking = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        assert not taking.done()
        inbox.resume()
        assert await taking == [b"1"]

    run(main)


def test_there_is_room_again_once_less_than_the_limit_is_held(run):
    """What was taken no longer counts."""

    async def main():
        inbox = Inbox(10)
        inbox.put([b"12345", BinaryFrame(b"67890")])
        waiting = asyncio.create_task(inbox.wait_for_room())
        await asyncio.sleep(0)
        assert not waiting.done()
        await inbox.take()
        await waiting

    run(main)
