"""Dead letters that somebody wants tried again."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from rig.control import RouteSpec
from rig.gap import Gap
from rig.io.redelivery import Redelivery
from rig.io.router import Router
from rig.records import Kind, encode_gap
from tests.io.stored import FakeLetters
from tests.running import until


class FakeDispatch:
    """Stands for `rig.io.dispatch.Dispatch`: takes batches, and has room when a test says so."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Any], bool]] = []
        self.announced: list[tuple[str, bytes, int]] = []
        self.settled = True

    def announce(self, topic: str, record: bytes, kind: int) -> None:
        self.announced.append((topic, record, kind))

    def redeliver(self, messages: Sequence[Any], *, binary: bool) -> None:
        self.batches.append(([(message.topic, message.event, bytes(message.payload)) for message in messages], binary))


class Scene:
    """Letters, and the way of events."""

    def __init__(self, *routes: RouteSpec, gaps: bool = False) -> None:
        self.letters, self.dispatch = FakeLetters(), FakeDispatch()
        self.router = Router(routes or [RouteSpec("room:*", "tick", "topic")], 1)
        self.redelivery = Redelivery(
            self.letters,  # type: ignore[arg-type]
            self.router,
            self.dispatch,  # type: ignore[arg-type]
            owns=lambda topic: topic != "room:foreign",
            largest=100,
            gaps=gaps,
        )


def test_a_letter_is_dispatched_as_it_came_and_then_deleted(run: Callable[..., None]) -> None:
    """JSON as JSON, bytes as bytes; those of other io processes, and those that nobody wants again, stay."""

    async def main() -> None:
        scene = Scene()
        scene.letters.put("room:1", "tick", b'{"i": 1}')
        scene.letters.put("room:2", "tick", b"\x00", binary=True)
        foreign = scene.letters.put("room:foreign", "tick", b"{}")
        await scene.redelivery.look()
        assert scene.dispatch.batches == [
            ([("room:1", "tick", b'{"i": 1}')], False),
            ([("room:2", "tick", b"\x00")], True),
        ]
        assert list(scene.letters.letters) == [foreign]

    run(main)


def test_it_is_deleted_only_when_it_is_in_a_ring(run: Callable[..., None]) -> None:
    """Else a kill would lose it."""

    async def main() -> None:
        scene = Scene()
        scene.letters.put("room:1", "tick", b"{}")
        scene.dispatch.settled = False
        looking = asyncio.create_task(scene.redelivery.look())
        await until(lambda: scene.dispatch.batches)
        await asyncio.sleep(0.02)
        assert len(scene.letters.letters) == 1
        scene.dispatch.settled = True
        await looking
        assert not scene.letters.letters

    run(main)


def test_what_cannot_be_tried_again_stays_a_dead_letter(run: Callable[..., None]) -> None:
    """It says why, and does not come up again by itself."""

    async def main() -> None:
        scene = Scene()
        scene.letters.put("room:1", "gone", b"{}")
        scene.letters.put("room:1", "tick", b"x" * 101)
        good = scene.letters.put("room:1", "tick", b"{}")
        with structlog.testing.capture_logs() as logs:
            await scene.redelivery.look()
            await scene.redelivery.look()
        assert len(scene.dispatch.batches) == 1
        kept = list(scene.letters.letters.values())
        assert good not in scene.letters.letters
        assert [letter.retry for letter in kept] == [False, False]
        assert "no handler takes it; before: failed" in kept[0].reason
        assert "too large for a ring" in kept[1].reason
        assert [(letter.handler, letter.payload) for letter in kept] == [("app.handler", b"{}"), ("app.handler", b"x" * 101)]
        assert [entry["letters"] for entry in logs if entry["log_level"] == "warning"] == [2]

    run(main)


def test_many_letters_go_in_pages(run: Callable[..., None]) -> None:
    """All of them, in the order in which they became letters, whatever of others' lies between."""

    async def main() -> None:
        scene = Scene()
        for number in range(300):
            scene.letters.put("room:foreign" if number % 3 else "room:1", "tick", b"%d" % number)
        await scene.redelivery.look()
        sent = [int(payload) for batch, _ in scene.dispatch.batches for _, _, payload in batch]
        assert sent == list(range(0, 300, 3))
        assert len(scene.letters.letters) == 200

    run(main)


def test_nothing_is_tried_again_once_the_end_has_begun(run: Callable[..., None]) -> None:
    """The next run does it."""

    async def main() -> None:
        scene = Scene()
        scene.letters.put("room:1", "tick", b"{}")
        scene.redelivery.stop()
        await scene.redelivery.look()
        assert scene.dispatch.batches == []
        assert len(scene.letters.letters) == 1

    run(main)


def test_a_gap_is_told_again_and_never_handled_as_an_event(run: Callable[..., None]) -> None:
    """Its letter bears the name of the callback's kind, which a handler for every event would match."""
    gap = encode_gap(Gap(topic="room:1", outcome="replayed", since=1, confirmed=True, missed=None, reason="lost"))

    async def main() -> None:
        for gaps in (True, False):
            scene = Scene(RouteSpec("*", "*", "topic"), gaps=gaps)
            scene.letters.put("room:1", "on_gap", gap, binary=True)
            scene.letters.put("room:1", "on_gap", b"\x00", binary=True)
            scene.redelivery._largest = 1000
            await scene.redelivery.look()
            assert scene.dispatch.batches == [([("room:1", "on_gap", b"\x00")], True)]
            assert scene.dispatch.announced == ([("room:1", gap, Kind.GAP)] if gaps else [])
            assert [letter.retry for letter in scene.letters.letters.values()] == ([] if gaps else [False])

    run(main)
