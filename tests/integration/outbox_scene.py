"""What the tests of the outbox share: a server that writes down what is pushed to it, and a look into the state directory."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mock_server.channel import Channel, Outcome, Push, Reply

OK = Reply("ok")


class Recorder:
    """
    The server's handler of `record`.

    Attributes:
        pushes: Topic → (i, key), in the order in which they came.
        answer: What a push is answered with; it may raise, which crashes the channel.
    """

    def __init__(self) -> None:
        self.pushes: dict[str, list[tuple[Any, str]]] = defaultdict(list)
        self.answer: Callable[[Any], Outcome] = lambda i: OK

    def __call__(self, channel: Channel, push: Push) -> Outcome:
        self.pushes[channel.topic].append((push.payload["i"], push.payload.get("idempotency_key")))
        return self.answer(push.payload["i"])

    def numbers(self, topic: str) -> list[Any]:
        """Return what came on a topic, repetitions included."""
        return [i for i, _ in self.pushes[topic]]

    @property
    def total(self) -> int:
        """How many different pushes came."""
        return len({(topic, i) for topic, pushes in self.pushes.items() for i, _ in pushes})

    def first_in_order(self, topic: str) -> list[Any]:
        """Return what came, each at its first time, and insist that a repetition has the same key."""
        keys: dict[Any, str] = {}
        for i, key in self.pushes[topic]:
            assert key, "each carries a key"
            assert keys.setdefault(i, key) == key, "the key stays the same"
        assert len(set(keys.values())) == len(keys), "no two share a key"
        return list(keys)


class Database:
    """The database of a run, read beside it."""

    def __init__(self, state: Path) -> None:
        self.path = state / "rig.db"

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement; nothing is in a table that is not there yet."""
        if not self.path.exists():
            return []
        connection = sqlite3.connect(self.path, timeout=5)
        try:
            with connection:
                return connection.execute(statement).fetchall()
        except sqlite3.OperationalError as exc:
            if "no such table" in str(exc):
                return []
            raise
        finally:
            connection.close()

    @property
    def waiting(self) -> int:
        """How many pushes wait."""
        [(rows,)] = self.ask("SELECT count(*) FROM outbox")
        return int(rows)

    def stored(self, topic: str) -> list[Any]:
        """Return what waits for a topic, in order."""
        return [
            json.loads(payload)["i"] for (payload,) in self.ask(f"SELECT payload FROM outbox WHERE topic = '{topic}' ORDER BY id")
        ]

    def letters(self) -> list[dict[str, Any]]:
        """Return the dead letters, oldest first."""
        names = ("kind", "topic", "event", "key", "handler", "reason", "traceback", "payload", "retry")
        return [dict(zip(names, row, strict=True)) for row in self.ask(f"SELECT {', '.join(names)} FROM dead_letters ORDER BY id")]
