"""Dead letters on their way from a handler to the store."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import structlog

from rig.app import App, Event
from rig.records import DeadLetter, Kind, decode_letters
from rig.ring import Consumer, Doorbell, RingMemory
from rig.worker.binding import Bindings, Call
from rig.worker.letters import Letters
from rig.worker.storage import Storage
from tests.io.stored import BROKEN
from tests.running import until

CAPACITY = 64 * 1024


class Line:
    """A storage ring with its doorbell, and what was stored beside it."""

    def __init__(self) -> None:
        self.memory, self.bell = RingMemory.create(CAPACITY), Doorbell.create()
        self.consumer = Consumer(self.memory)
        self.large: list[DeadLetter] = []
        self.failures = 0
        self.topics: list[str] = []

    def close(self) -> None:
        self.memory.close()
        self.bell.close()

    def letters(self) -> Letters:
        """Start a worker's letters; it must be called on the loop."""
        storage = Storage(self.memory, self.bell, field="", ttl=0)

        def storage_of(topic: str) -> Storage:
            self.topics.append(topic)
            return storage

        return Letters(3, storage_of, store_large=self._store_large)

    def taken(self) -> list[DeadLetter]:
        """Take what is in the ring."""
        records = self.consumer.poll(1_000)
        if records:
            self.consumer.commit(records[-1])
        assert all(record.kind == Kind.DEAD_LETTERS for record in records)
        return [letter for record in records for letter in decode_letters(record.payload)]

    async def _store_large(self, letter: DeadLetter) -> None:
        if self.failures:
            self.failures -= 1
            raise BROKEN
        self.large.append(letter)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


@pytest.fixture
def call() -> Iterator[Call]:
    app = App()

    @app.on("room:*", "tick")
    async def handler(event: Event) -> None: ...

    with ThreadPoolExecutor(1) as executor:
        binding = Bindings(app.routes, 1, executor).get("room:1", "tick")
        assert binding is not None
        yield binding.calls[0]


def failure(text: str = "no") -> Exception:
    """Return an exception that was raised."""
    try:
        raise ValueError(text)
    except ValueError as exc:
        return exc


def bury(letters: Letters, call: Call, raw: Any = msgspec.Raw(b'{"i": 1}'), exc: BaseException | None = None) -> Any:  # noqa: B008
    return letters.bury(call, raw, "handler failed after 1 attempt: ValueError: no", exc, time.monotonic_ns() - 2_000_000_000)


def test_a_letter_says_everything(line: Line, call: Call, run: Callable[..., None]) -> None:
    """The payload as it came, the traceback, who handled it, and when the io process had it; the log has one line of it."""

    async def main() -> None:
        with structlog.testing.capture_logs() as logs:
            await bury(line.letters(), call, exc=failure())
        [letter] = line.taken()
        assert (letter.topic, letter.event, letter.worker, letter.payload, letter.binary) == (
            "room:1",
            "tick",
            3,
            b'{"i": 1}',
            False,
        )
        assert letter.handler == call.route.name
        assert letter.reason == "handler failed after 1 attempt: ValueError: no"
        assert letter.traceback.startswith("Traceback (most recent call last):\n")
        assert letter.traceback.endswith("    raise ValueError(text)\nValueError: no\n")
        assert 1.9 < time.time() - letter.received_at < 10
        assert line.topics == ["room:1"]
        assert [(entry["event"], entry["topic"], entry["event_name"], entry["reason"]) for entry in logs] == [
            ("event given up", "room:1", "tick", letter.reason)
        ]

    run(main)


def test_a_binary_payload_and_no_traceback(line: Line, call: Call, run: Callable[..., None]) -> None:
    """As for an event that was in hand at two deaths."""

    async def main() -> None:
        await bury(line.letters(), call, b"\x00\xff")
        [letter] = line.taken()
        assert (letter.payload, letter.binary, letter.traceback) == (b"\x00\xff", True, "")

    run(main)


def test_the_log_says_the_same_only_once_a_while(line: Line, call: Call, run: Callable[..., None]) -> None:
    """Every event is a letter all the same."""

    async def main() -> None:
        letters = line.letters()
        with structlog.testing.capture_logs() as logs:
            for _ in range(100):
                await bury(letters, call, exc=failure())
        assert len(logs) == 1
        assert len(line.taken()) == 100

    run(main)


def test_a_full_ring_is_waited_for(line: Line, call: Call, run: Callable[..., None]) -> None:
    """Nothing is dropped, and `bury` has not returned before the letter is in the ring."""

    async def main() -> None:
        letters = line.letters()
        raw = msgspec.Raw(b'"%b"' % (b"x" * 5_000))
        buried = 0

        async def bury_many() -> None:
            nonlocal buried
            for _ in range(30):
                await bury(letters, call, raw)
                buried += 1

        with structlog.testing.capture_logs() as logs:
            task = asyncio.create_task(bury_many())
            await until(lambda: any("waits" in entry["event"] for entry in logs))
            await asyncio.sleep(0.01)
            assert buried < 15
            found: list[DeadLetter] = []
            await until(lambda: found.extend(line.taken()) or len(found) == 30)
            await task

    run(main)


def test_a_letter_that_no_ring_takes_is_stored_directly(line: Line, call: Call, run: Callable[..., None]) -> None:
    """However often the store fails meanwhile: the event is not finished before."""

    async def main() -> None:
        line.failures = 3
        with structlog.testing.capture_logs() as logs:
            await bury(line.letters(), call, msgspec.Raw(b'"%b"' % (b"x" * CAPACITY)), failure())
        assert [len(letter.payload) for letter in line.large] == [CAPACITY + 2]
        assert line.taken() == []
        assert [entry["event"] for entry in logs] == ["event given up", "a dead letter waits: it could not be stored"]

    run(main)


def test_a_traceback_holds_no_secret_and_is_no_longer_than_needed(line: Line, call: Call, run: Callable[..., None]) -> None:
    """What was raised last stands at its end, and stays."""

    async def main() -> None:
        await bury(line.letters(), call, exc=failure("x" * 20_000 + " token=hunter2secret end"))
        [letter] = line.taken()
        assert len(letter.traceback) < 8_100
        assert "hunter2secret" not in letter.traceback
        assert letter.traceback.endswith(" end\n")

    run(main)


def test_an_exception_that_cannot_be_shown_is_still_a_letter(line: Line, call: Call, run: Callable[..., None]) -> None:
    """A handler's exception may raise in its own `__str__`, or say what cannot be encoded."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def odd() -> BaseException:
        try:
            raise Odd
        except Odd as exc:
            return exc

    async def main() -> None:
        letters = line.letters()
        await bury(letters, call, exc=odd())
        await bury(letters, call, exc=failure("\udcff"))
        first, second = line.taken()
        assert "Odd" in first.traceback
        assert second.traceback.endswith("ValueError: ?\n")

    run(main)
