"""Durable pushes in real processes: once `enqueue` has returned nothing loses them, and each topic's arrive in order."""

import asyncio
import os
import random
import signal
import time

import pytest

from mock_server.channel import Reply
from mock_server.reference import Crash, Room
from tests.integration.outbox_scene import OK, Database, Recorder

PROMPT = 0.5
"""Seconds for a time-out of pushes, so that the tests of it are quick."""


@pytest.fixture
def recorder(monkeypatch):
    """Let the server write down what is pushed as `record`."""
    recorder = Recorder()
    monkeypatch.setitem(Room.handlers, "record", recorder)
    return recorder


def stored(stage):
    return stage.ledger.all("stored")


def in_all(stage, recorder, topic):
    """Return what has arrived, and behind it what the end of the run has left for the next."""
    arrived = recorder.first_in_order(topic)
    return arrived + [i for i in Database(stage.state).stored(topic) if i not in arrived]


def durable(summary):
    """Return what the last line says of durable pushes: stored, acknowledged, waiting."""
    return [summary[f"durable_{what}"] for what in ("stored", "acknowledged", "waiting")]


async def all_arrived(stage, until, recorder, count):
    """Return when every push has arrived, and the outbox is empty."""
    await until(lambda: recorder.total >= count)
    database = Database(stage.state)
    await until(lambda: database.waiting == 0)


@pytest.mark.slow
def test_what_is_stored_arrives_once_and_in_order(play, until, recorder):
    """Each topic's in the order of storing, each with a key of its own, and nothing is left in the outbox."""

    async def test(stage):
        rig = await stage.run_worker(topics=8)
        await stage.flood("flooded_deposit", 1_200)
        await until(lambda: len(stored(stage)) == 1_200)
        await all_arrived(stage, until, recorder, 1_200)
        assert durable(await rig.drain()) == [1_200, 1_200, 0]

        for topic in stage.topics:
            assert recorder.numbers(topic) == list(range(150))
            assert [[i, key] for i, key in recorder.pushes[topic]] == [value for name, value in stored(stage) if name == topic]
        keys = [value[1] for _, value in stored(stage)]
        assert len(set(keys)) == 1_200
        assert [value[1] for name, value in stored(stage) if name == "room:0"] == sorted(
            value[1] for name, value in stored(stage) if name == "room:0"
        ), "keys grow with time"

    play(test)


@pytest.mark.slow
def test_every_way_to_enqueue_stores(play, until, recorder):
    """In the lifespan, in a thread, in a task that nobody waits for: all of it arrives, what came last by the next run."""

    async def test(stage):
        rig = await stage.run_worker(topics=4, workers=1, LEDGER_GREETINGS="room:0")
        stage.server.publish("room:1", "other_ways", {})
        stage.server.publish("room:2", "later", {})
        await until(lambda: recorder.total == 3)
        await rig.drain()
        assert len(stage.ledger.all("bye")) == 1, "the end of the lifespan could still store"
        rig = await stage.run_worker(topics=4, workers=1)
        await until(lambda: recorder.total == 4)
        await rig.drain()

        assert recorder.numbers("room:0") == ["hello", "bye"]
        assert (recorder.numbers("room:1"), recorder.numbers("room:2")) == (["thread"], ["later"])

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_lost_connections_and_crashed_channels_lose_nothing(play, until, recorder, seed):
    """Whatever ends between a push and its answer, it is sent again with its key, and order holds."""

    async def test(stage):
        dice = random.Random(seed)

        def answer(_):
            if dice.random() < 0.004:
                raise Crash("on purpose")
            return OK

        recorder.answer = answer
        rig = await stage.run_worker(topics=4)
        await stage.flood("flooded_deposit", 1_000)
        await stage.received(1_000)
        for number, share in enumerate((150, 350, 550), 1):
            await until(lambda share=share: recorder.total > share)
            assert stage.server.close_where(0) == 1
            await rig.hear("connected", times=number + 1)  # before the next: one that ends already cannot be ended
        await all_arrived(stage, until, recorder, 1_000)
        await rig.drain()

        for topic in stage.topics:
            assert recorder.first_in_order(topic) == list(range(250))
        assert len(rig.said("connection lost")) == 3

    play(test, seconds=90)


@pytest.mark.slow
def test_what_is_not_answered_is_sent_again_with_its_key(play, until, recorder):
    """From the lowest one on that has no answer, and never behind a later one that was first sent after it."""

    async def test(stage):
        unanswered = {3, 7}

        def answer(i):
            if i in unanswered:
                unanswered.discard(i)
                return None
            return OK

        recorder.answer = answer
        rig = await stage.run_worker("--push-timeout", str(PROMPT), topics=1)
        await stage.flood("flooded_deposit", 200)
        await all_arrived(stage, until, recorder, 200)
        await rig.drain()

        assert recorder.first_in_order("room:0") == list(range(200))
        assert sorted(i for i in set(recorder.numbers("room:0")) if recorder.numbers("room:0").count(i) > 1) == [3, 7]
        assert rig.said("a durable push was not answered, and is sent again: its event needs a reply with ok")

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_io_processes_lose_no_stored_push_and_answer_every_handler(play, until, recorder, seed):
    """What it had in hand comes to its successor: `enqueue` returns in every handler, and each push arrives, in order."""

    async def test(stage):
        dice = random.Random(seed)
        rig = await stage.run_worker(topics=8)
        for number in range(3):
            sent = await stage.flood("flooded_deposit", 800)
            count = sum(sent.values())
            some = dice.randrange(count - 780, count - 50)
            await until(lambda some=some: len(stored(stage)) > some)
            [pid] = await until(lambda: rig.pids("rig.io"))
            first = stage.server.clients and stage.client
            os.kill(pid, signal.SIGKILL)
            await rig.hear("process died, and is started again", name="io", times=number + 1)
            await until(lambda first=first: stage.server.clients and stage.client != first and stage.joined() == set(stage.topics))
        await until(lambda: rig.said("connected") and Database(stage.state).waiting == 0)
        summary = await rig.drain()

        assert not stage.ledger.all("refused")
        assert summary["unfinished"] == 0
        for topic in stage.topics:
            mine = [value for name, value in stored(stage) if name == topic]
            assert len(mine) == len({i for i, _ in mine})
            assert in_all(stage, recorder, topic) == [i for i, _ in mine], "just what the handlers were told is stored"
            assert dict(recorder.pushes[topic]).items() <= dict(mine).items()

    play(test, seconds=90)


@pytest.mark.slow
def test_killed_workers_store_each_event_once_if_it_makes_the_key(play, until, recorder):
    """The event in hand comes again, and stores again; with a key that is made of it, nothing is sent twice but what was sent."""

    async def test(stage):
        recorder.answer = lambda i: OK
        rig = await stage.run_worker(topics=8, workers=1)
        for number in range(2):
            await stage.flood("keyed_deposit", 800)
            await until(lambda number=number: len(stored(stage)) > number * 800 + 100)
            [pid] = await until(lambda: rig.pids("rig.worker"))
            os.kill(pid, signal.SIGKILL)
            await rig.hear("process died, and is started again", name="worker-0", times=number + 1)
            await until(lambda number=number: len({tuple(value) for _, value in stored(stage)}) >= (number + 1) * 800)
        await all_arrived(stage, until, recorder, 1_600)
        await rig.drain()

        for topic in stage.topics:
            assert recorder.first_in_order(topic) == list(range(200))

    play(test)


@pytest.mark.slow
def test_what_could_not_be_sent_is_sent_by_the_next_run(play, until, recorder):
    """SIGTERM while the server is away: what handlers have enqueued is stored before the end, and nothing is lost."""

    async def test(stage):
        rig = await stage.run_worker(topics=4)
        recorder.answer = lambda i: None
        await stage.flood("flooded_deposit", 400)
        await until(lambda: len(stored(stage)) == 400)
        assert durable(await rig.drain()) == [400, 0, 400]
        database = Database(stage.state)
        assert all(database.stored(topic) == list(range(100)) for topic in stage.topics)

        recorder.answer = lambda i: OK
        rig = await stage.run_worker(topics=4)
        await all_arrived(stage, until, recorder, 400)
        assert durable(await rig.drain()) == [0, 400, 0]

        assert all(recorder.first_in_order(topic) == list(range(100)) for topic in stage.topics)

    play(test)


def test_a_command_stores_beside_a_run_and_it_is_sent_within_a_second(play, until, recorder):
    """`rig push --durable` prints the key, and the run notices what it has stored."""

    async def test(stage):
        rig = await stage.run_worker(topics=2)
        command = await stage.rig(
            *("push", stage.server.url, "room:1", "record", '{"i": 1}', "--durable", "--state-dir", str(stage.state))
        )
        assert await command.end() == 0
        printed = time.monotonic()
        await until(lambda: recorder.total == 1)
        took = time.monotonic() - printed
        await all_arrived(stage, until, recorder, 1)
        assert durable(await rig.drain()) == [0, 1, 0]

        assert recorder.pushes["room:1"] == [(1, command.out[0])]
        assert took < 1.0

    play(test)


@pytest.mark.slow
def test_a_command_stores_for_the_next_run(play, until, recorder):
    """No run needs to be there, only its state directory, which is found where it is the only one."""

    async def test(stage):
        rig = await stage.rig(
            *("run", "ledger_app:app", "--app-dir", str(os.path.dirname(__file__)), "--url", stage.server.url, "-w", "1"),
            *("--log-format", "json", "--status-interval", "0"),
        )
        await until(lambda: len(stage.joined()) == 16)
        await rig.drain()
        command = await stage.rig("push", stage.server.url, "room:1", "record", '{"i": 1}', "--durable")
        assert await command.end() == 0, command.err
        assert recorder.total == 0
        rig = await stage.rig(
            *("run", "ledger_app:app", "--app-dir", str(os.path.dirname(__file__)), "--url", stage.server.url, "-w", "1"),
            *("--log-format", "json", "--status-interval", "0"),
        )
        await until(lambda: recorder.total == 1)
        await rig.drain()

        assert recorder.pushes["room:1"] == [(1, command.out[0])]

    play(test)


def test_a_topic_that_no_handler_joins_is_joined_for_its_pushes(play, until, recorder):
    """Handlers get nothing of what the server sends on it meanwhile, though their pattern fits."""

    async def test(stage):
        rig = await stage.run_worker(topics=2)
        stage.server.publish("room:0", "deposit", {"i": 1, "topic": "room:elsewhere"})
        await until(lambda: recorder.total == 1)
        assert "room:elsewhere" in stage.joined()
        stage.server.publish("room:elsewhere", "tick", {"i": 77})
        stage.server.publish("room:0", "deposit", {"i": 2, "topic": "room:elsewhere"})
        await all_arrived(stage, until, recorder, 2)
        await rig.drain()

        assert recorder.numbers("room:elsewhere") == [1, 2]
        assert not stage.ledger.all("tick")

    play(test)


def test_more_topics_than_the_server_lets_us_join_take_turns(play, until, recorder):
    """Phoenix allows 100 channels a socket; a topic gives its place to another when it has nothing more to send."""

    async def test(stage):
        rig = await stage.run_worker(topics=4)
        for number in range(300):
            stage.server.publish(f"room:{number % 4}", "deposit", {"i": number, "topic": f"room:other-{number}"})
        await all_arrived(stage, until, recorder, 300)
        await rig.drain()

        assert len(recorder.pushes) == 300
        assert not rig.said("durable pushes wait: their topic is not joined")

    play(test)


def test_a_refused_join_leaves_the_pushes_waiting_and_says_so(play, until, recorder):
    """Others are sent meanwhile; once the server accepts the join, they are sent, too."""

    async def test(stage):
        rig = await stage.run_worker(topics=2)
        stage.server.faults.change({"refuse_joins": "room:closed"})
        stage.server.publish("room:0", "deposit", {"i": 1, "topic": "room:closed"})
        await rig.hear("durable pushes wait: their topic is not joined", topic="room:closed")
        stage.server.publish("room:0", "deposit", {"i": 2, "topic": "room:open"})
        await until(lambda: recorder.numbers("room:open") == [2])
        assert Database(stage.state).stored("room:closed") == [1]
        stage.server.faults.reset()
        await all_arrived(stage, until, recorder, 2)
        await rig.drain()

        assert recorder.numbers("room:closed") == [1]

    play(test)


def test_what_the_server_refuses_becomes_a_dead_letter(play, until, recorder):
    """With what it said; those behind it go on, and `rig deadletters retry` sends it again with its key."""

    async def test(stage):
        recorder.answer = lambda i: Reply("error", {"reason": "sold out"}) if i == 3 else OK
        rig = await stage.run_worker(topics=1)
        await stage.flood("flooded_deposit", 10)
        await all_arrived(stage, until, recorder, 10)
        database = Database(stage.state)
        [letter] = await until(database.letters)
        recorder.answer = lambda i: OK
        retry = await stage.rig("deadletters", "retry", "--all", "--state-dir", str(stage.state))
        assert await retry.end() == 0, retry.err
        await until(lambda: recorder.numbers("room:0").count(3) == 2)
        await all_arrived(stage, until, recorder, 10)
        summary = await rig.drain()

        assert (letter["kind"], letter["topic"], letter["event"]) == ("push", "room:0", "record")
        assert letter["reason"] == 'the server refused it: error {"reason":"sold out"}'
        assert recorder.first_in_order("room:0") == list(range(10))
        assert not database.letters()
        assert (durable(summary), summary["durable_buried"]) == ([10, 10, 0], 1)

    play(test)


@pytest.mark.slow
@pytest.mark.parametrize("window", ["1", "64"])
def test_with_retry_what_the_server_refuses_is_sent_again(play, until, recorder, window):
    """With a window of 1, before anything behind it; after so many times it is a dead letter."""

    async def test(stage):
        refusals = {2: 2, 5: 99}

        def answer(i):
            if refusals.get(i, 0):
                refusals[i] -= 1
                return Reply("error", {"reason": "not yet"})
            return OK

        recorder.answer = answer
        policy = ("--outbox-on-error", "retry", "--outbox-retries", "2", "--outbox-window", window)
        rig = await stage.run_worker(*policy, topics=1)
        await stage.flood("flooded_deposit", 8)
        await all_arrived(stage, until, recorder, 8)
        [letter] = await until(Database(stage.state).letters)
        await rig.drain()

        numbers = recorder.numbers("room:0")
        assert (numbers.count(2), numbers.count(5)) == (3, 3)
        assert letter["reason"].startswith("the server refused it 3 times: error")
        if window == "1":
            assert numbers == [0, 1, 2, 2, 2, 3, 4, 5, 5, 5, 6, 7]

    play(test)


@pytest.mark.slow
def test_a_push_that_waited_too_long_is_not_sent(play, until, recorder):
    """It becomes a dead letter that says so, while its topic cannot be joined as well."""

    async def test(stage):
        rig = await stage.run_worker(topics=2)
        stage.server.faults.change({"refuse_joins": "room:closed"})
        stage.server.publish("room:0", "deposit", {"i": 1, "topic": "room:closed", "ttl": 0.2})
        stage.server.publish("room:0", "deposit", {"i": 2, "topic": "room:closed"})
        database = Database(stage.state)
        [letter] = await until(lambda: database.letters())
        stage.server.faults.reset()
        await all_arrived(stage, until, recorder, 1)
        await rig.drain()

        assert (letter["kind"], letter["reason"]) == ("push", "expired")
        assert recorder.numbers("room:closed") == [2]

    play(test)


@pytest.mark.slow
def test_a_full_outbox_is_told_to_the_handler(play, until, recorder):
    """Nothing is dropped in silence; once the server has taken some, there is room again."""

    async def test(stage):
        recorder.answer = lambda i: None
        rig = await stage.run_worker("--outbox-max-bytes", "1MiB", "--push-timeout", str(PROMPT), topics=2)
        for number in range(6):
            stage.server.publish("room:0", "deposit", {"i": number, "pad": 250_000})
        await until(lambda: len(stage.ledger.all("refused")) == 2)
        recorder.answer = lambda i: OK
        await all_arrived(stage, until, recorder, 4)
        stage.server.publish("room:1", "deposit", {"i": 6, "pad": 250_000})
        await all_arrived(stage, until, recorder, 5)
        await rig.drain()

        assert [value for _, value in stage.ledger.all("refused")] == [["OutboxFull", 4], ["OutboxFull", 5]]
        assert recorder.first_in_order("room:0") == [0, 1, 2, 3]
        assert rig.said("durable pushes were refused")

    play(test)


@pytest.mark.slow
def test_a_damaged_database_takes_no_event_down(play, until, recorder):
    """Not even one that an io process finds so in the middle of a run: durable pushes are refused with a sentence that says what to
    do; once the file is away, they are stored."""

    async def test(stage):
        rig = await stage.run_worker(topics=2)
        database = stage.state / "rig.db"
        await until(database.exists)
        first = stage.client
        [pid] = rig.pids("rig.io")
        os.kill(pid, signal.SIGSTOP)
        for path in stage.state.glob("rig.db-*"):
            path.unlink()
        database.write_bytes(b"this is no database" * 1000)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: stage.server.clients and stage.client != first and stage.joined() == set(stage.topics))
        stage.server.publish("room:0", "deposit", {"i": 1})
        await until(lambda: stage.ledger.all("refused"))
        await stage.flood("tick", 100)
        await until(lambda: len(stage.ledger.all("tick")) == 100)
        stage.server.publish("room:1", "broken", {"i": 1})
        await rig.hear("dead letters wait in the ring: they could not be stored, and are tried again")
        stage.server.publish("room:0", "deposit", {"i": 2})
        await until(lambda: len(stage.ledger.all("refused")) == 2)
        database.unlink()
        await until(lambda: Database(stage.state).letters())
        stage.server.publish("room:0", "deposit", {"i": 3})
        await all_arrived(stage, until, recorder, 1)
        await rig.drain()

        assert stage.ledger.all("refused") == [["room:0", ["StoreFailed", 1]], ["room:0", ["StoreFailed", 2]]]
        assert recorder.numbers("room:0") == [3]

    play(test)


@pytest.mark.slow
def test_dead_letters_survive_every_kill_and_can_be_tried_again(play, until):
    """Raw payload, handler, traceback; after `rig deadletters retry` the handler gets the event again."""

    async def test(stage):
        rig = await stage.run_worker(topics=2)
        for number in range(50):
            stage.server.publish("room:0", "broken", {"i": number})
        await stage.received(50)
        await rig.hear("event given up")
        for pid in (*rig.pids("rig.io"), *rig.pids("rig.worker")):
            os.kill(pid, signal.SIGKILL)
        await rig.hear("process died, and is started again", name="io")
        database = Database(stage.state)
        await until(lambda: len({letter["payload"] for letter in database.letters()}) == 50)
        letter = database.letters()[0]
        stage.ledger.open_gate()
        retry = await stage.rig("deadletters", "retry", "--all", "--state-dir", str(stage.state))
        assert await retry.end() == 0, retry.err
        await until(lambda: {value for _, value in stage.ledger.all("mended")} == set(range(50)))
        await until(lambda: not database.letters())
        await rig.drain()

        assert (letter["kind"], letter["topic"], letter["event"], letter["payload"]) == ("event", "room:0", "broken", b'{"i":0}')
        assert letter["handler"] == "ledger_app.broken"
        assert letter["reason"] == "ledger_app.broken failed after 1 attempt: ValueError: event 0 cannot be handled"
        assert 'raise ValueError(f"event {event.payload.i} cannot be handled")' in letter["traceback"]

    play(test)


@pytest.mark.slow
def test_two_io_processes_send_each_topic_from_one_of_them(play, until, recorder):
    """Order holds for each topic, over the death of one of them too, and also for what a command has stored."""

    async def test(stage):
        rig = await stage.run_worker("--io-processes", "2", topics=8)
        await stage.flood("flooded_deposit", 800)
        await until(lambda: len(stored(stage)) > 200)
        os.kill((await until(lambda: len(found := rig.pids("rig.io")) == 2 and found))[0], signal.SIGKILL)
        await rig.hear("process died, and is started again")
        await until(lambda: len(stage.server.clients) == 2 and stage.joined() == set(stage.topics))
        for number in range(4):
            topic = f"room:more-{number}"
            command = await stage.rig(
                "push", "ws://x/socket", topic, "record", '{"i": 0}', "--durable", "--state-dir", str(stage.state)
            )
            assert await command.end() == 0, command.err
        await until(lambda: all(recorder.numbers(f"room:more-{number}") == [0] for number in range(4)))
        await until(lambda: Database(stage.state).waiting == 0)
        await rig.drain()

        for topic in stage.topics:
            mine = [value for name, value in stored(stage) if name == topic]
            assert in_all(stage, recorder, topic) == [i for i, _ in mine]

    play(test)


def test_pushes_that_are_not_durable_are_as_before(play, until, recorder):
    """They carry no key, and nothing of them is stored."""

    async def test(stage):
        rig = await stage.run_worker(topics=2)
        stage.server.publish("room:0", "ask", {"event": "record", "payload": {"i": 1}})
        await until(lambda: stage.ledger.all("answer"))
        await asyncio.sleep(0)
        await rig.drain()

        assert recorder.pushes["room:0"] == [(1, None)]
        assert Database(stage.state).ask("SELECT seq FROM sqlite_sequence") == []

    play(test)
