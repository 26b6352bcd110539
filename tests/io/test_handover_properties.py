"""Whatever arrives when, a hand-over loses no event, keeps each topic in order, and brings each push to the server once."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from rig.phoenix import Push
from tests.io.cluster import Cluster, Owner
from tests.running import run

TOPICS = ("room:1", "room:2", "room:3")

topic = st.sampled_from(TOPICS)
step = st.one_of(
    st.tuples(st.just("broadcast"), topic),
    st.tuples(st.just("push"), topic),
    st.tuples(st.just("deliver"), st.integers(0, 1)),
    st.tuples(st.just("hear"), st.integers(0, 1)),
    st.just(("answer", None)),
    st.just(("turn", None)),
)


class Play:
    """A hand-over in the middle of everything."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.cluster.answering = False
        self.owner = Owner(self.cluster)
        self.sent = dict.fromkeys(TOPICS, 0)
        self.pushes: dict[str, list[Push]] = {name: [] for name in TOPICS}

    async def take(self, what: str, where: object) -> None:
        match what, where:
            case "broadcast", str(name):
                self.cluster.broadcast(name, self.sent[name])
                self.sent[name] += 1
            case "push", str(name):
                push = Push(name, "do", len(self.pushes[name]))
                self.pushes[name].append(push)
                self.owner.uplink.push([push])
            case "deliver", int(number) if number < len(self.cluster.peers):
                self.cluster.deliver(number)
            case "hear", int(number) if number < len(self.cluster.peers):
                self.cluster.hear(number)
            case "answer", _:
                self.answer()
            case "turn", _:
                await asyncio.sleep(0)

    def answer(self) -> None:
        """Let every server answer what it was asked."""
        for peer in self.cluster.peers:
            for message in peer.unanswered:
                peer.reply(message)
            peer.unanswered.clear()

    async def end(self) -> None:
        self.cluster.answering = True
        self.answer()
        await self.owner.until(lambda: not self.owner.uplink.replacing)
        await self.owner.until(lambda: len(self.owner.answered()) == sum(map(len, self.pushes.values())))


@settings(deadline=None, max_examples=12)
@given(st.lists(step, max_size=30), st.lists(step, max_size=80))
def test_nothing_is_lost_or_out_of_order(before, during):
    """Events may come twice, never late; pushes come once."""

    async def test():
        play = Play()
        await play.owner.open(*TOPICS)
        for what, where in before:
            await play.take(what, where)
        result = play.owner.uplink.rotate("a test")
        for what, where in during:
            await play.take(what, where)
        await play.end()

        assert result.result().topics == len(TOPICS)
        for name in TOPICS:
            received = play.owner.received(name)
            newest = -1
            for number in received:  # as with a cursor: what is not above the newest is a repeat
                assert number <= newest + 1
                newest = max(newest, number)
            assert newest == play.sent[name] - 1
            assert [payload for of, payload in play.cluster.pushed if of == name] == list(range(len(play.pushes[name])))
        await play.owner.close()

    run(test)
