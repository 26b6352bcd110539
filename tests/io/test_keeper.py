"""The io process's hold on the store, with a real one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from rig.config import Settings
from rig.control import IoSpec, RouteSpec
from rig.counters import Page
from rig.errors import TokenUnavailable
from rig.io import keeper as module
from rig.io.database import Database
from rig.io.keeper import Keeper
from rig.io.router import UNROUTED, Router
from rig.io.storing import Inlet
from rig.io.stream import StoredPush
from rig.phoenix import events
from rig.records import EnqueueRequest, Kind, Outcome, PushResult, encode_enqueues
from rig.ring import Doorbell, Producer, RingMemory
from rig.store import DeadLetters, NewLetter, NewPush, Outbox, StateDirectory, Store
from tests.running import until


class FakeConnection:
    """Answers each push with ok, and accepts each join; remembers both."""

    write_buffer_bytes = 0
    reading_paused = False

    def __init__(self, scene: "Scene") -> None:
        self._scene = scene
        self.pushed: list[StoredPush] = []
        self.joined: list[tuple[str, Any]] = []

    def push(self, pushes: list[StoredPush]) -> None:
        self.pushed += pushes
        for push in pushes:
            asyncio.get_running_loop().call_soon(self._scene.keeper.resolve, events.ReplyReceived(push, "ok", {}))

    def join(self, topic: str, payload: Any) -> None:
        self.joined.append((topic, payload() if callable(payload) else payload))
        asyncio.get_running_loop().call_soon(self._scene.keeper.note, events.Joined(topic, {}, False))

    def leave(self, topic: str) -> None: ...


class FakeDialler:
    """Gives the payload of a join, or raises."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def join_payload(self, payload: Any) -> Any:
        def with_token() -> Any:
            if self.failure is not None:
                raise self.failure
            return {**payload, "token": "t"}

        return with_token


class FakeDispatch:
    def __init__(self) -> None:
        self.settled = True
        self.topics: list[str] = []

    def redeliver(self, messages: Any, *, binary: bool) -> None:
        self.topics += [message.topic for message in messages]


class Scene:
    """A keeper with everything around it."""

    keeper: Keeper

    def __init__(self, folder: Path, page: Page) -> None:
        self.directory = StateDirectory(folder / "state")
        self.directory.create()
        self.page = page
        self.memory, self.bell = RingMemory.create(64 * 1024), Doorbell.create()
        self.results: list[PushResult] = []
        self.troubles: list[str] = []
        self.router = Router([RouteSpec("room:*", "tick", "topic")], 1)

    @asynccontextmanager
    async def running(self, *, index: int = 0, processes: int = 1) -> AsyncIterator[Keeper]:
        settings = Settings(state_dir=str(self.directory.path), io_processes=processes)
        spec = IoSpec(settings, "io", index, {"room:1": {}}, [], [], -1, run=1, marks=-1, gaps=False)
        database = Database(self.directory.database, "full")
        self.connection, self.dialler, self.dispatch = FakeConnection(self), FakeDialler(), FakeDispatch()
        keeper = self.keeper = Keeper(
            spec,
            [Inlet(self.memory, self.bell, self._answer)],
            page=self.page,
            connection=self.connection,  # type: ignore[arg-type]
            dialler=self.dialler,  # type: ignore[arg-type]
            router=self.router,
            dispatch=self.dispatch,  # type: ignore[arg-type]
            database=database,
            trouble=self.troubles.append,
        )
        keeper.start()
        keeper.note(events.Joined("room:1", {}, False))
        try:
            yield keeper
        finally:
            await keeper.close()
            await database.close()

    def enqueue(self, number: int, topic: str = "room:1") -> None:
        request = EnqueueRequest(number, f"key-{number}", topic, "e", b"%d" % number, False, None)
        Producer(self.memory).put(encode_enqueues([request]), kind=Kind.ENQUEUE)
        self.bell.ring()

    def close(self) -> None:
        self.memory.close()
        self.bell.close()

    async def waiting(self) -> list[bytes]:
        async with other(self.directory) as store:
            return [row.payload for row in await Outbox(store).page(0, 1_000)]

    def _answer(self, results: list[PushResult], published: Callable[[], None]) -> None:
        self.results += results
        published()


@asynccontextmanager
async def other(directory: StateDirectory) -> AsyncIterator[Store]:
    """Open the database as another process does."""
    store = await Store.open(directory.database)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def scene(tmp_path: Path, page: Page) -> Any:
    scene = Scene(tmp_path, page)
    yield scene
    scene.close()


def sent(scene: Scene) -> list[int]:
    return [int(msgspec.json.decode(push.payload)) for push in scene.connection.pushed]


def test_what_an_earlier_run_left_is_sent_first(scene: Scene, run: Callable[..., None]) -> None:
    """Then what the workers want stored; each is deleted when the server has it."""

    async def main() -> None:
        async with other(scene.directory) as store:
            await Outbox(store).add([NewPush(f"old-{number}", "room:1", "e", b"%d" % number) for number in range(3)])
        async with scene.running():
            await until(lambda: len(scene.connection.pushed) == 3)
            scene.enqueue(3)
            await until(lambda: len(scene.connection.pushed) == 4)
        assert sent(scene) == [0, 1, 2, 3]
        assert await scene.waiting() == []

    run(main)
    assert [result.outcome for result in scene.results] == [Outcome.STORED]
    assert (scene.page.get("durable_sent"), scene.page.get("durable_acknowledged")) == (4, 4)


def test_what_others_store_is_noticed_within_a_second(scene: Scene, run: Callable[..., None]) -> None:
    """Pushes, and dead letters that somebody wants tried again."""

    async def main() -> None:
        async with scene.running(), other(scene.directory) as store:
            await until(lambda: scene.keeper._redelivery is not None)
            await asyncio.sleep(0.1)
            started = asyncio.get_running_loop().time()
            await Outbox(store).add([NewPush("k", "room:1", "e", b"7")])
            await until(lambda: scene.connection.pushed)
            assert asyncio.get_running_loop().time() - started < 1.0
            letters = DeadLetters(store)
            await letters.add([NewLetter("room:1", "tick", "app.handler", "no", None, b"{}", False, 0, 0.0)])
            await letters.retry()
            await until(lambda: scene.dispatch.topics == ["room:1"])

    run(main)


def test_each_io_process_sends_its_own_topics(scene: Scene, run: Callable[..., None]) -> None:
    """So that nobody sends beside another; those of the others stay."""
    topics = [f"room:{number}" for number in range(20)]

    async def main() -> None:
        async with other(scene.directory) as store:
            await Outbox(store).add([NewPush(topic, topic, "e", b"1") for topic in topics])
        seen = []
        for index in (0, 1):
            async with scene.running(index=index, processes=2):
                await until(lambda: scene.connection.pushed)
                await asyncio.sleep(0.05)
                seen.append({push.topic for push in scene.connection.pushed})
        assert seen[0] | seen[1] == set(topics)
        assert not seen[0] & seen[1]

    run(main)


def test_without_a_store_pushes_are_refused_until_there_is_one(
    scene: Scene, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loudly; nobody needs to restart anything."""
    monkeypatch.setattr(module, "_OPEN_AGAIN", 0.02)

    async def main() -> None:
        scene.directory.database.write_bytes(b"no database at all" * 100)
        with structlog.testing.capture_logs() as logs:
            async with scene.running():
                scene.enqueue(1)
                await until(lambda: scene.results)
                assert scene.results[0].outcome == Outcome.STORE_FAILED
                scene.directory.database.unlink()
                await until(scene.directory.database.exists)
                await until(lambda: scene.keeper._redelivery is not None)
                scene.enqueue(2)
                await until(lambda: sent(scene) == [2])
        assert "not a database" in next(entry["reason"] for entry in logs if "no store" in entry["event"])
        assert "not a database" in scene.troubles[0]
        assert scene.troubles[1:] == [""]

    run(main)


def test_a_topic_that_is_joined_for_its_rows_routes_nothing(scene: Scene, run: Callable[..., None]) -> None:
    """It is joined with the token, as any; where there is none, that is a refused join."""

    async def main() -> None:
        async with scene.running():
            scene.dialler.failure = TokenUnavailable("file:x", "no token")
            with structlog.testing.capture_logs() as logs:
                scene.enqueue(1, "room:elsewhere")
                await until(lambda: logs)
            assert logs[0]["event"] == "durable pushes wait: their topic is not joined"
            assert "no token" in logs[0]["reason"]
            assert scene.connection.joined == []
            scene.dialler.failure = None
            await until(lambda: scene.connection.joined)
            assert scene.connection.joined == [("room:elsewhere", {"token": "t"})]
            assert scene.router.find("room:elsewhere", "tick").worker == UNROUTED
            await until(lambda: sent(scene) == [1])

    run(main)


def test_the_number_of_rows_is_known(scene: Scene, run: Callable[..., None]) -> None:
    """For whoever watches the run."""

    async def main() -> None:
        async with other(scene.directory) as store:
            await Outbox(store).add([NewPush(f"{number}", "foreign", "e", b"1") for number in range(5)])
        async with scene.running() as keeper:
            keeper.note(events.JoinRejected("foreign", {}, 0.1))
            await until(lambda: scene.page.get("durable_acknowledged") == 5)
            await until(lambda: scene.page.get("outbox_rows") == 0)
            async with other(scene.directory) as store:
                scene.connection.push = lambda pushes: None  # type: ignore[method-assign,assignment]
                scene.keeper._sender._send = lambda pushes: None
                await Outbox(store).add([NewPush(f"n{number}", "room:1", "e", b"1") for number in range(3)])
            await until(lambda: scene.page.get("outbox_rows") == 3)

    run(main)


def test_letter_that_waits_for_a_slow_worker_keeps_nothing_else_waiting(scene: Scene, run: Callable[..., None]) -> None:
    """What a command has stored is sent meanwhile, and the letter stays until its event is safe."""

    async def main() -> None:
        async with scene.running(), other(scene.directory) as store:
            await until(lambda: scene.keeper._redelivery is not None)
            scene.dispatch.settled = False
            letters = DeadLetters(store)
            await letters.add([NewLetter("room:1", "tick", "h", "r", None, b"{}", False, 0, 0.0)])
            await letters.retry()
            await until(lambda: scene.dispatch.topics == ["room:1"])
            await Outbox(store).add([NewPush("key-1", "room:1", "e", b"1", False, None)])
            await until(lambda: [bytes(push.payload) for push in scene.connection.pushed] == [b"1"])
            assert (await letters.counts()).rows == 1
            scene.dispatch.settled = True
            async with asyncio.timeout(5):
                while (await letters.counts()).rows:  # noqa: ASYNC110 - the database has no bell
                    await asyncio.sleep(0.01)
            assert scene.dispatch.topics == ["room:1"]

    run(main)
