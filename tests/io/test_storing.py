"""From the workers' storage rings to the database."""

import asyncio
from collections.abc import Callable, Iterator

import msgspec
import pytest
import structlog

from rig.counters import Page
from rig.io import storing as module
from rig.io.storing import Inlet, Storing
from rig.records import DeadLetter, EnqueueRequest, Kind, Outcome, PushResult, encode_enqueues, encode_letters
from rig.ring import Consumer, Doorbell, Producer, RingMemory
from tests.io.stored import BROKEN, FakeLetters, FakeOutbox
from tests.running import until

CAPACITY = 64 * 1024


class Line:
    """
    A worker's storage ring, and its end of it.

    Attributes:
        results: What came back.
        held: What is to be called once the replies ring has room, while it has none.
    """

    def __init__(self) -> None:
        self.memory, self.bell = RingMemory.create(CAPACITY), Doorbell.create()
        self.producer = Producer(self.memory)
        self.results: list[PushResult] = []
        self.held: list[Callable[[], None]] | None = None

    def close(self) -> None:
        self.memory.close()
        self.bell.close()

    def enqueue(self, *requests: EnqueueRequest) -> None:
        """Put pushes into the ring as one record."""
        self.producer.put(encode_enqueues(requests), kind=Kind.ENQUEUE, count=len(requests))
        self.bell.ring()

    def bury(self, *letters: DeadLetter) -> None:
        """Put dead letters into the ring as one record."""
        self.producer.put(encode_letters(letters), kind=Kind.DEAD_LETTERS, count=len(letters))
        self.bell.ring()

    def answer(self, results: list[PushResult], published: Callable[[], None]) -> None:
        self.results += results
        if self.held is None:
            published()
        else:
            self.held.append(published)

    @property
    def uncommitted(self) -> int:
        """How many records a successor would find."""
        return len(Consumer(self.memory).poll(10_000))

    def outcomes(self) -> dict[int, int]:
        return {result.id: result.outcome for result in self.results}


def request(identity: int, topic: str = "a", *, key: str | None = None, payload: bytes = b"{}") -> EnqueueRequest:
    return EnqueueRequest(identity, key or f"key-{identity}", topic, "e", payload, False, None)


def letter(number: int) -> DeadLetter:
    return DeadLetter("a", "e", "app.handler", "failed", "Traceback", b"%d" % number, False, 1, 12.5)


class Scene:
    """Two workers' rings, and the io process that takes what is in them."""

    def __init__(self, page: Page) -> None:
        self.lines = [Line(), Line()]
        self.outbox, self.letters = FakeOutbox(), FakeLetters()
        self.topics: list[str] = []
        self.page = page

    def process(self) -> Storing:
        """Start an io process; it must be made on the loop."""
        inlets = [Inlet(line.memory, line.bell, line.answer) for line in self.lines]
        storing = Storing(inlets, page=self.page, stored=lambda topics: self.topics.extend(sorted(topics)))
        storing.start()
        return storing

    def ready(self) -> Storing:
        """Start an io process that has a store."""
        storing = self.process()
        storing.use(self.outbox, self.letters)  # type: ignore[arg-type]
        return storing

    async def die(self, storing: Storing) -> None:
        """End as `kill -9` does: nothing more is committed."""
        for line in self.lines:
            asyncio.get_running_loop().remove_reader(line.bell.fd)
        for task in storing._tasks:
            task.cancel()
        await asyncio.gather(*storing._tasks, return_exceptions=True)


@pytest.fixture
def scene(page: Page) -> Iterator[Scene]:
    scene = Scene(page)
    yield scene
    for line in scene.lines:
        line.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(module, "_TRY_AGAIN", 0.001)


def test_what_all_workers_have_at_hand_goes_into_one_commit(scene: Scene, run: Callable[..., None]) -> None:
    """In the order of each ring; then each worker is answered, and the sender told."""

    async def main() -> None:
        for number in range(3):
            scene.lines[0].enqueue(request(2 * number), request(2 * number + 1, "b"))
            scene.lines[1].enqueue(request(100 + number))
        storing = scene.ready()
        await until(lambda: len(scene.lines[1].results) == 3)
        await storing.close()

    run(main)
    assert scene.outbox.commits == [9]
    assert [row.key for row in scene.outbox.rows.values() if row.topic == "b"] == ["key-1", "key-3", "key-5"]
    assert scene.lines[0].outcomes() == dict.fromkeys(range(6), Outcome.STORED)
    assert scene.lines[1].outcomes() == dict.fromkeys(range(100, 103), Outcome.STORED)
    assert scene.topics == ["a", "b"]
    assert [line.uncommitted for line in scene.lines] == [0, 0]
    assert scene.page.get("durable_stored") == 9


def test_what_comes_while_it_writes_is_in_the_next_commit(scene: Scene, run: Callable[..., None]) -> None:
    """So that the more there is to do, the more share one commit."""

    async def main() -> None:
        storing = scene.ready()
        scene.outbox.gate.clear()
        scene.lines[0].enqueue(request(0))
        await asyncio.sleep(0.01)
        for number in range(1, 4):
            scene.lines[0].enqueue(request(number))
        await asyncio.sleep(0.01)
        assert scene.lines[0].results == []
        scene.outbox.gate.set()
        await until(lambda: len(scene.lines[0].results) == 4)
        await storing.close()

    run(main)
    assert scene.outbox.commits == [1, 3]


def test_a_record_is_committed_only_when_it_is_stored_and_answered(scene: Scene, run: Callable[..., None]) -> None:
    """A worker whose replies ring is full is not answered yet, so a successor must find the record."""

    async def main() -> None:
        line = scene.lines[0]
        line.held = []
        storing = scene.ready()
        scene.outbox.gate.clear()
        line.enqueue(request(1))
        await asyncio.sleep(0.01)
        assert line.uncommitted == 1
        scene.outbox.gate.set()
        await until(lambda: line.held)
        assert line.uncommitted == 1
        line.held[0]()
        assert line.uncommitted == 0
        await storing.close()

    run(main)


@pytest.mark.parametrize("when", ["before the store", "within", "before the answer"])
def test_what_a_killed_io_process_had_in_hand_is_answered_by_its_successor(
    scene: Scene, run: Callable[..., None], when: str
) -> None:
    """A row that was stored already is not stored twice."""

    async def main() -> None:
        line = scene.lines[0]
        line.held = []
        first = scene.process() if when == "before the store" else scene.ready()
        if when == "within":
            scene.outbox.gate.clear()
        line.enqueue(request(1), request(2))
        await asyncio.sleep(0.02)
        await scene.die(first)
        assert len(scene.outbox.rows) == (2 if when == "before the answer" else 0)
        line.results.clear()
        line.held = None
        scene.outbox.gate.set()
        second = scene.ready()
        await until(lambda: len(line.results) == 2)
        await second.close()
        assert line.outcomes() == {1: Outcome.STORED, 2: Outcome.STORED}
        assert [row.key for row in scene.outbox.rows.values()] == ["key-1", "key-2"]
        assert line.uncommitted == 0

    run(main)


def test_a_failing_store_is_told_to_those_who_wait(scene: Scene, run: Callable[..., None]) -> None:
    """With what it said, each of them; once it works, it takes pushes again."""

    async def main() -> None:
        line = scene.lines[0]
        storing = scene.ready()
        scene.outbox.failure = BROKEN
        with structlog.testing.capture_logs() as logs:
            line.enqueue(request(1), request(2))
            await until(lambda: len(line.results) == 2)
        scene.outbox.failure = None
        line.enqueue(request(3))
        await until(lambda: len(line.results) == 3)
        await storing.close()
        assert line.outcomes() == {1: Outcome.STORE_FAILED, 2: Outcome.STORE_FAILED, 3: Outcome.STORED}
        assert msgspec.json.decode(line.results[0].response) == [BROKEN.path, BROKEN.reason, BROKEN.remedy]
        assert [(entry["event"], entry["pushes"]) for entry in logs] == [("durable pushes were refused", 2)]

    run(main)
    assert (scene.page.get("durable_stored"), scene.page.get("durable_refused")) == (1, 2)


def test_one_push_too_many_keeps_no_other_out(scene: Scene, run: Callable[..., None]) -> None:
    """A full outbox refuses those that do not fit, in order, and takes the others of the same record."""

    async def main() -> None:
        scene.outbox.room = 2
        storing = scene.ready()
        scene.lines[0].enqueue(request(1), request(2), request(3))
        await until(lambda: len(scene.lines[0].results) == 3)
        await storing.close()

    run(main)
    assert scene.lines[0].outcomes() == {1: Outcome.STORED, 2: Outcome.STORED, 3: Outcome.OUTBOX_FULL}
    assert msgspec.json.decode(scene.lines[0].results[2].response) == ["/state/rig.db", 1000]
    assert [row.key for row in scene.outbox.rows.values()] == ["key-1", "key-2"]


def test_letters_are_stored_with_all_they_say(scene: Scene, run: Callable[..., None]) -> None:
    """Payload, handler, traceback, worker, time; nobody waits for an answer."""

    async def main() -> None:
        storing = scene.ready()
        scene.lines[0].bury(letter(1), letter(2))
        await until(lambda: len(scene.letters.letters) == 2)
        await until(lambda: scene.lines[0].uncommitted == 0)
        await storing.close()

    run(main)
    [first, _] = scene.letters.letters.values()
    assert (first.topic, first.event, first.handler, first.reason, first.traceback) == (
        "a",
        "e",
        "app.handler",
        "failed",
        "Traceback",
    )
    assert (first.payload, first.binary, first.worker, first.received_at) == (b"1", False, 1, 12.5)
    assert scene.lines[0].results == []
    assert scene.page.get("dead_letters") == 2


def test_a_letter_that_cannot_be_stored_stays_in_the_ring(scene: Scene, run: Callable[..., None]) -> None:
    """It is tried again, loudly; pushes behind it do not wait for it, but their records are not committed before it."""

    async def main() -> None:
        line = scene.lines[0]
        storing = scene.ready()
        scene.letters.failure = BROKEN
        with structlog.testing.capture_logs() as logs:
            line.bury(letter(1))
            line.enqueue(request(1))
            await until(lambda: line.results and logs)
            assert line.uncommitted == 2
            scene.letters.failure = None
            await until(lambda: line.uncommitted == 0)
        await storing.close()
        assert len(scene.letters.letters) == 1
        assert "tried again" in logs[0]["event"]
        assert "disk is full" in logs[0]["reason"]

    run(main)


def test_a_letter_outlives_the_io_process_that_could_not_store_it(scene: Scene, run: Callable[..., None]) -> None:
    """Its successor finds it where it was."""

    async def main() -> None:
        scene.letters.failure = BROKEN
        first = scene.ready()
        scene.lines[0].bury(letter(1))
        await asyncio.sleep(0.01)
        await scene.die(first)
        scene.letters.failure = None
        second = scene.ready()
        await until(lambda: scene.letters.letters)
        await second.close()

    run(main)
    assert [one.payload for one in scene.letters.letters.values()] == [b"1"]


def test_without_a_store_pushes_are_refused_and_letters_wait(scene: Scene, run: Callable[..., None]) -> None:
    """Until it is known that there is none, both wait: opening takes a moment."""

    async def main() -> None:
        line = scene.lines[0]
        storing = scene.process()
        line.enqueue(request(1))
        line.bury(letter(1))
        await asyncio.sleep(0.01)
        assert line.results == []
        storing.refuse(BROKEN)
        await until(lambda: line.results)
        assert line.outcomes() == {1: Outcome.STORE_FAILED}
        storing.use(scene.outbox, scene.letters)  # type: ignore[arg-type]
        await until(lambda: scene.letters.letters)
        line.enqueue(request(2))
        await until(lambda: len(line.results) == 2)
        await storing.close()
        assert line.outcomes()[2] == Outcome.STORED

    run(main)


@pytest.mark.parametrize("kind", [Kind.ENQUEUE, Kind.DEAD_LETTERS, Kind.PUSHES])
def test_a_record_that_cannot_be_read_is_given_up(scene: Scene, run: Callable[..., None], kind: Kind) -> None:
    """The log says so, and those behind it are stored."""

    async def main() -> None:
        storing = scene.ready()
        with structlog.testing.capture_logs() as logs:
            scene.lines[0].producer.put(b"\xc1", kind=kind)
            scene.lines[0].enqueue(request(1))
            await until(lambda: scene.lines[0].results)
        await storing.close()
        assert [entry["kind"] for entry in logs] == [kind]
        assert scene.lines[0].uncommitted == 0

    run(main)


def test_the_end_stores_what_is_in_the_rings(scene: Scene, run: Callable[..., None]) -> None:
    """Also what no doorbell announced; the workers are gone, so nothing comes any more."""

    async def main() -> None:
        storing = scene.ready()
        await asyncio.sleep(0.01)
        for number in range(20):
            scene.lines[0].producer.put(encode_enqueues([request(number)]), kind=Kind.ENQUEUE)
        scene.lines[0].producer.put(encode_letters([letter(1)]), kind=Kind.DEAD_LETTERS)
        await storing.close()

    run(main)
    assert len(scene.outbox.rows) == 20
    assert len(scene.letters.letters) == 1


def test_the_end_says_which_letters_are_lost(scene: Scene, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails to the end keeps the process no longer than a moment."""
    monkeypatch.setattr(module, "_LAST_TRY", 0.05)

    async def main() -> None:
        scene.letters.failure = BROKEN
        storing = scene.ready()
        scene.lines[0].bury(letter(1), letter(2))
        with structlog.testing.capture_logs() as logs:
            await storing.close()
        assert logs[-1]["letters"] == 2
        assert "lost" in logs[-1]["event"]

    run(main)


def test_the_end_takes_no_longer_than_it_may(scene: Scene, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that hangs keeps a push in the ring, and nobody waiting for it."""
    monkeypatch.setattr(module, "_LAST_TRY", 60.0)

    async def main() -> None:
        storing = scene.ready()
        scene.outbox.gate.clear()
        scene.lines[0].enqueue(request(1))
        async with asyncio.timeout(5):
            await storing.close(0.02)

    run(main)
    assert scene.lines[0].uncommitted == 1


def test_payloads_of_any_size_that_a_ring_takes_are_stored(scene: Scene, run: Callable[..., None]) -> None:
    """A record that fills its eighth of the ring, many times over."""

    async def main() -> None:
        storing = scene.ready()
        for number in range(40):
            await until(lambda: scene.lines[0].producer.fits(CAPACITY // 8))
            scene.lines[0].enqueue(request(number, payload=b"x" * (CAPACITY // 8 - 100)))
        await until(lambda: len(scene.lines[0].results) == 40)
        await storing.close()

    run(main)
    assert len(scene.outbox.rows) == 40
