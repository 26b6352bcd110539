"""Topics that are joined only for rows of the outbox."""

import asyncio
from collections.abc import Callable

import pytest

from rig.io import visits as module
from rig.io.visits import PLACES, Visits
from tests.running import until


class Server:
    """What is joined, as the connection sees it."""

    def __init__(self) -> None:
        self.joined: list[str] = []
        self.log: list[str] = []
        self.asked: list[str] = []
        self.visits = Visits(join=self._join, leave=self._leave, give_way=self.asked.append)

    def _join(self, topic: str) -> None:
        assert topic not in self.joined
        self.joined.append(topic)
        self.log.append(f"+{topic}")
        assert len(self.joined) <= PLACES

    def _leave(self, topic: str) -> None:
        self.joined.remove(topic)
        self.log.append(f"-{topic}")


TOPICS = [f"t{number}" for number in range(100)]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a refused topic rest for a moment only."""
    monkeypatch.setattr(module, "rejoin_delay", lambda attempts, random, *, unauthorized: 0.001 * (attempts + 1))


def test_only_so_many_are_joined_and_the_others_wait_in_turn(run: Callable[..., None]) -> None:
    """A place becomes free when a topic has nothing more to send."""

    async def main() -> None:
        server = Server()
        for topic in TOPICS:
            server.visits.want(topic)
            server.visits.want(topic)
        assert server.joined == TOPICS[:PLACES]
        for number in range(len(TOPICS)):
            server.visits.dry(TOPICS[number])
        assert [entry for entry in server.log if entry[0] == "+"] == [f"+{topic}" for topic in TOPICS]

    run(main)


def test_one_that_is_idle_stays_until_its_place_is_wanted(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that gets a push now and then is not joined each time; after a while it is left."""

    async def main() -> None:
        server = Server()
        server.visits.want("a")
        server.visits.dry("a")
        server.visits.look()
        server.visits.want("a")
        server.visits.dry("a")
        assert server.log == ["+a"]
        monkeypatch.setattr(module, "IDLE", 0.0)
        server.visits.look()
        assert server.log == ["+a", "-a"]
        server.visits.want("a")
        server.visits.look()
        assert server.log == ["+a", "-a", "+a"], "it has rows"

    run(main)


def test_a_refused_topic_takes_nobodys_place(run: Callable[..., None]) -> None:
    """It comes back later, again and again, until it is joined."""

    async def main() -> None:
        server = Server()
        for topic in TOPICS[: PLACES + 1]:
            server.visits.want(topic)
        server.visits.refused("t0")
        assert "t0" not in server.joined
        assert TOPICS[PLACES] in server.joined
        server.visits.want("t0")
        assert "t0" not in server.joined, "not before it has rested"
        server.visits.dry("t1")
        await until(lambda: "t0" in server.joined)
        server.visits.joined("t0")
        server.visits.refused("nobody")
        server.visits.close()

    run(main)


def test_refusals_in_a_row_make_the_rest_longer(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the topics of the handlers; an accepted join starts over, and one without rights waits in the slow lane."""
    asked = []

    def delay(attempts: int, random: object, *, unauthorized: int) -> float:
        asked.append((attempts, unauthorized))
        return 0.0

    monkeypatch.setattr(module, "rejoin_delay", delay)

    async def main() -> None:
        server = Server()
        server.visits.want("a")
        for unauthorized in (False, False, True):
            await until(lambda: "a" in server.joined)
            server.visits.refused("a", unauthorized=unauthorized)
        await until(lambda: "a" in server.joined)
        server.visits.joined("a")
        server.visits.refused("a")
        server.visits.close()

    run(main)
    assert asked == [(0, 0), (1, 0), (2, 3), (0, 0)]


def test_one_that_never_runs_dry_gives_way(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing of it is on its way any more it is left, and queues for its next turn."""
    monkeypatch.setattr(module, "SLICE", 0.0)

    async def main() -> None:
        server = Server()
        for topic in TOPICS[:PLACES]:
            server.visits.want(topic)
        server.visits.look()
        assert server.asked == [], "nobody waits"
        server.visits.want("late")
        server.visits.look()
        assert server.asked == TOPICS[:PLACES]
        assert server.joined == TOPICS[:PLACES], "what is on its way is waited for"
        server.visits.gave_way("t3")
        assert "late" in server.joined
        assert "t3" not in server.joined
        server.visits.dry("late")
        assert "t3" in server.joined

    run(main)


def test_nothing_is_joined_after_the_end(run: Callable[..., None]) -> None:
    """Nor what rests."""

    async def main() -> None:
        server = Server()
        for topic in TOPICS[: PLACES + 1]:
            server.visits.want(topic)
        server.visits.refused("t0")
        server.visits.close()
        joined = list(server.joined)
        await asyncio.sleep(0.01)
        server.visits.dry("t1")
        assert server.joined == joined

    run(main)
