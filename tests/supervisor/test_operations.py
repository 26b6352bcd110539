"""What an operator may see of a run and do to it."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rig.admin.run import Rotation, TopicState
from rig.control import (
    DumpFlight,
    Endpoints,
    EndpointState,
    FlightDumped,
    FromChild,
    ListTopics,
    Question,
    Rotate,
    Rotated,
    State,
    Topics,
)
from rig.supervisor import operations as operations_module
from rig.supervisor.child import Died
from rig.supervisor.memory import SharedMemory
from rig.supervisor.operations import Operations
from tests.running import run, until


class FakeChild:
    """A child that is asked, and answers when the test says."""

    def __init__(self, name: str) -> None:
        self.name, self.pid, self.restarts = name, 4711, 0
        self.ready = asyncio.Event()
        self.alive = True
        self.asked: list[Question] = []

    def ask(self, question: Question) -> bool:
        if self.alive:
            self.asked.append(question)
        return self.alive


class Stage:
    """Two io processes and two workers."""

    def __init__(self, memory: SharedMemory) -> None:
        self.ios: list[Any] = [FakeChild("io-0"), FakeChild("io-1")]
        self.workers: list[Any] = [FakeChild("worker-0"), FakeChild("worker-1")]
        self.state = State("connecting", "starting", 0)
        self.operations = Operations("shop", self.ios, self.workers, memory, state=lambda: self.state)

    def hear(self, number: int, message: FromChild | Died) -> None:
        self.operations.heard(self.ios[number], message)

    async def asked(self, question: type) -> None:
        """Return when both io processes were asked, last of all this."""
        await until(lambda: all(io.asked and isinstance(io.asked[-1], question) for io in self.ios))


@pytest.fixture
def stage(memory: SharedMemory) -> Iterator[Stage]:
    return Stage(memory)


def test_the_status_has_the_run_its_connections_and_its_workers(stage: Stage, memory: SharedMemory) -> None:
    """All that a person looks for first."""
    memory.workers[1].page.add("handled", 5)
    memory.io_pages[0].set("heartbeat_rtt_ns", 1_500_000)
    memory.io_pages[0].observe("heartbeat_rtt", 1_500_000)
    memory.io_pages[0].add("reconnects_draining", 2)
    for page, rows, letters in zip(memory.io_pages, (5, 4), (2, 1), strict=True):
        page.set("outbox_rows", rows)
        page.add("dead_letters", letters)
    memory.io_pages[0].add("heartbeats_missed", 1)
    memory.io_pages[0].add("received", 7)
    stage.workers[0].ready.set()
    stage.state = State("connected", "", 40)
    stage.hear(0, State("connected", "", 40))
    stage.hear(0, Endpoints([EndpointState("ws://a", True, 0, "", None), EndpointState("ws://b", False, 2, "refused", 9.0)]))

    status = stage.operations.status()

    assert (status["app"], status["state"], status["reason"], status["topics"]) == ("shop", "connected", "", 40)
    [first, second] = status["io"]
    assert (first["name"], first["pid"], first["state"], first["joined"]) == ("io-0", 4711, "connected", 40)
    assert first["heartbeat"] == pytest.approx({"rtt_ms": 1.5, "rtt_p50_ms": 1.5, "rtt_p99_ms": 1.5, "missed": 1}, rel=0.07)
    assert first["reconnects_by_cause"] == {"draining": 2}
    assert first["endpoints"][1] == {"url": "ws://b", "here": False, "failures": 2, "reason": "refused", "rests_until": 9.0}
    assert second["endpoints"] == []
    assert [(worker["ready"], worker["handled"], worker["ring_fill"]) for worker in status["workers"]] == [
        (True, 0, 0.0),
        (False, 5, 0.0),
    ]
    assert (status["totals"]["received"], status["totals"]["handled"]) == (7, 5)
    assert status["stored"] == {"outbox": 5, "dead_letters": 3, "spilled": 0}


def test_it_says_since_when_and_what_was_before(stage: Stage) -> None:
    """A reason that changes is a change, a repetition is none."""
    since = stage.operations.status()["since"]
    for state in (State("connecting", "a", 0), State("connecting", "a", 0), State("connecting", "b", 0)):
        stage.hear(0, state)
    assert stage.operations.status()["since"] == since

    stage.state = State("connected", "", 1)
    stage.hear(0, stage.state)
    status = stage.operations.status()
    assert status["since"] > since
    assert [(change["state"], change["reason"]) for change in status["io"][0]["changes"]] == [
        ("connecting", "a"), ("connecting", "b"), ("connected", ""),
    ]  # fmt: skip


def test_the_topics_are_those_of_all_io_processes(stage: Stage) -> None:
    """Each with the process that has it."""

    async def test() -> None:
        asking = asyncio.create_task(stage.operations.topics())
        await stage.asked(ListTopics)
        for number, topic in ((1, "b"), (0, "a")):
            stage.hear(number, Topics(stage.ios[number].asked[-1].request, {topic: "joined"}))
        assert await asking == [TopicState("a", "joined", "io-0"), TopicState("b", "joined", "io-1")]

    run(test)


def test_each_rotation_gets_its_own_answer(stage: Stage) -> None:
    """Whoever comes second is refused, and the first is not told so."""

    async def test() -> None:
        first = asyncio.create_task(stage.operations.rotate())
        await stage.asked(Rotate)
        second = asyncio.create_task(stage.operations.rotate())
        await until(lambda: len(stage.ios[1].asked) == 2)
        for number in range(2):
            stage.hear(number, Rotated(stage.ios[number].asked[1].request, "", 0, 0.0, "another is under way"))
        assert [rotation.failure for rotation in await second] == ["another is under way"] * 2
        assert not first.done()
        for number in range(2):
            stage.hear(number, Rotated(stage.ios[number].asked[0].request, "ws://a", 3, 0.5, ""))
        assert await first == [Rotation("io-0", "ws://a", 3, 0.5, ""), Rotation("io-1", "ws://a", 3, 0.5, "")]

    run(test)


def dies(stage: Stage) -> None:
    stage.hear(1, Died("SIGKILL", 1, 0.1))


def is_gone(stage: Stage) -> None:
    pass


@pytest.mark.parametrize("harm", [dies, is_gone])
def test_an_io_process_that_does_not_answer_holds_nobody_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Stage], None]
) -> None:
    """Neither one that was started again meanwhile, nor one that hangs or is gone."""
    for name in ("_ROTATED_WITHIN", "_LISTED_WITHIN", "_DUMPED_WITHIN"):
        monkeypatch.setattr(operations_module, name, 0.05 if harm is is_gone else 60.0)

    async def test() -> None:
        for ask, question in (
            (stage.operations.rotate, Rotate),
            (stage.operations.topics, ListTopics),
            (stage.operations.dump_flight, DumpFlight),
        ):
            asking: asyncio.Task[Any] = asyncio.create_task(ask())
            await stage.asked(question)
            number = stage.ios[0].asked[-1].request
            answers = {Rotate: Rotated(number, "ws://a", 1, 0.1, ""), ListTopics: Topics(number, {"a": "joined"})}
            stage.hear(0, answers.get(question, FlightDumped(number, "/flight", "")))
            harm(stage)
            answer = await asyncio.wait_for(asking, 5)
            assert len(answer) == (1 if question is ListTopics else 2)
            assert question is ListTopics or "did not answer" in (getattr(answer[1], "failure", "") or answer[1].error)

        stage.ios[0].alive = stage.ios[1].alive = False
        assert await stage.operations.topics() == []
        assert not stage.operations._asked

    run(test)
