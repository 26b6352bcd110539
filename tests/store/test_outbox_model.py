"""The outbox and the dead letters against a model of plain dicts."""

import asyncio
import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rig.errors import OutboxFull
from rig.store import Counts, DeadLetters, NewPush, Outbox, Store

LIMIT = 3000
KEYS = st.sampled_from([f"k{number}" for number in range(12)])
TOPICS = st.sampled_from(["room:1", "room:2", "räum", ""])
PUSHES = st.builds(
    NewPush,
    key=KEYS,
    topic=TOPICS,
    event=st.just("say"),
    payload=st.binary(max_size=300),
    binary=st.booleans(),
    expires_at=st.none() | st.sampled_from([10.0, 20.0]),
)
IDS = st.lists(st.integers(1, 40), max_size=6)


class OutboxAndModel(RuleBasedStateMachine):
    """
    Every step is done to both.

    `waiting` and `letters` are by id, in order: (key, topic, payload, binary, expires_at, attempts, size).
    """

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.waiting, self.letters, self.added = {}, {}, []
        self.last_id, self.letter_ids = 0, itertools.count(1)
        self.open()

    def open(self) -> None:
        self.store = self.do(Store.open(Path(self.folder.name) / "rig.db", "off"))
        self.outbox, self.dead = Outbox(self.store, LIMIT), DeadLetters(self.store)

    def do(self, call):
        async def awaited():
            return await call

        return self.runner.run(awaited())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.do(self.store.close())
            self.runner.close()
            self.folder.cleanup()

    def put(self, push: NewPush) -> None:
        """Put a push into the model, unless its key waits."""
        if push.key not in self.keys():
            self.added.append((push.key, push.topic, push.payload, push.binary, push.expires_at, 0, push.size))

    def keys(self) -> set[str]:
        return {row[0] for row in (*self.waiting.values(), *self.added)}

    def learn_ids(self) -> None:
        """Find what was added, in order, behind all that there ever was: only the store knows how large its steps are."""
        rows = self.do(self.outbox.page(self.last_id, 1000))
        for row, added in zip(rows, self.added, strict=True):
            assert row.key == added[0]
            self.waiting[row.id] = added
            self.last_id = row.id
        self.added.clear()

    @rule(batches=st.lists(st.lists(PUSHES, max_size=4), min_size=1, max_size=3))
    def add(self, batches) -> None:
        async def add_all():
            return await asyncio.gather(*(self.outbox.add(batch) for batch in batches), return_exceptions=True)

        for batch, outcome in zip(batches, self.do(add_all()), strict=True):
            new = {push.key: push.size for push in reversed(batch) if push.key not in self.keys()}
            if new and sum(row[-1] for row in (*self.waiting.values(), *self.added)) + sum(new.values()) > LIMIT:
                assert isinstance(outcome, OutboxFull)
                continue
            assert outcome is None
            for push in batch:
                self.put(push)
        self.learn_ids()

    @rule(ids=IDS)
    def acknowledge(self, ids) -> None:
        self.do(self.outbox.acknowledge(ids))
        for id in ids:
            self.waiting.pop(id, None)

    @rule(ids=IDS)
    def failed(self, ids) -> None:
        self.do(self.outbox.failed(ids, "no"))
        for id in set(ids) & self.waiting.keys():
            *row, attempts, size = self.waiting[id]
            self.waiting[id] = (*row, attempts + 1, size)

    @rule(ids=IDS)
    def bury(self, ids) -> None:
        self.do(self.outbox.bury(ids, "no"))
        for id in sorted(set(ids) & self.waiting.keys()):
            self.letters[next(self.letter_ids)] = self.waiting.pop(id)

    @rule(ids=st.none() | IDS)
    def retry_letters(self, ids) -> None:
        chosen = sorted(self.letters.keys() if ids is None else set(ids) & self.letters.keys())
        assert self.do(self.dead.retry(ids)) == len(chosen)
        for id in chosen:
            key, topic, payload, binary, *_ = self.letters.pop(id)
            self.put(NewPush(key, topic, "say", payload, binary))
        self.learn_ids()

    @rule(ids=st.none() | IDS)
    def retry(self, ids) -> None:
        chosen = self.waiting.keys() if ids is None else set(ids) & self.waiting.keys()
        assert self.do(self.outbox.retry(ids)) == len(chosen)
        for id in chosen:
            *row, _, size = self.waiting[id]
            self.waiting[id] = (*row, 0, size)

    @rule(ids=IDS)
    def purge(self, ids) -> None:
        chosen = set(ids) & self.waiting.keys()
        assert self.do(self.outbox.purge(ids)) == len(chosen)
        for id in chosen:
            del self.waiting[id]

    @precondition(lambda self: len(self.waiting) > 8)
    @rule()
    def purge_all(self) -> None:
        assert self.do(self.outbox.purge()) == len(self.waiting)
        self.waiting.clear()

    @rule(ids=IDS)
    def purge_letters(self, ids) -> None:
        chosen = set(ids) & self.letters.keys()
        assert self.do(self.dead.purge(ids)) == len(chosen)
        for id in chosen:
            del self.letters[id]

    @rule()
    def reopen(self) -> None:
        self.do(self.store.close())
        self.open()

    @rule(after_id=st.integers(0, 40), limit=st.integers(1, 5), topic=TOPICS)
    def read(self, after_id, limit, topic) -> None:
        expected = [id for id, row in self.waiting.items() if row[1] == topic and id > after_id][:limit]
        assert [row.id for row in self.do(self.outbox.after(topic, after_id, limit))] == expected

    @rule(now=st.sampled_from([5.0, 10.0, 30.0]))
    def expired(self, now) -> None:
        expected = {id for id, row in self.waiting.items() if row[4] is not None and row[4] <= now}
        assert {row.id for row in self.do(self.outbox.expired(now))} == expected

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        rows = self.do(self.outbox.page(0, 1000))
        assert [row.id for row in rows] == list(self.waiting)
        assert {row.id: (row.key, row.topic, row.payload, row.binary, row.expires_at, row.attempts) for row in rows} == {
            id: row[:-1] for id, row in self.waiting.items()
        }
        letters = self.do(self.dead.page(0, 1000))
        assert {letter.id: (letter.key, letter.payload, letter.attempts) for letter in letters} == {
            id: (row[0], row[2], row[5]) for id, row in self.letters.items()
        }
        assert self.do(self.outbox.topics()) == sorted({row[1] for row in self.waiting.values()})
        assert self.do(self.outbox.counts()) == Counts(len(self.waiting), sum(row[-1] for row in self.waiting.values()))


OutboxAndModel.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestOutboxAndModel = OutboxAndModel.TestCase
