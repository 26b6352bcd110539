"""Keys of durable pushes, and `rig.enqueue` outside of its worker."""

import asyncio
import re
import threading
import time
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rig
from rig.durable import enqueueing_by, make_key, with_key
from rig.errors import LocalProtocolError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


class Outbox:
    """Remembers what was to be stored, and the thread that was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.threads: list[threading.Thread] = []

    async def enqueue(self, topic: str, event: str, payload: Any, *, key: str | None, ttl: float | None) -> str:
        self.threads.append(threading.current_thread())
        await asyncio.sleep(0)
        if event == "refuse":
            raise LocalProtocolError("no")
        self.calls.append((topic, event, payload, key, ttl))
        return key or "made"


def test_keys_are_uuids_that_grow_with_time() -> None:
    """Version 7: so that an index of them is appended to, and anybody can read when they were made."""
    before = time.time_ns() // 1_000_000
    keys = []
    for _ in range(50):
        keys.append(make_key())
        time.sleep(0.00001)
    after = time.time_ns() // 1_000_000

    assert keys == sorted(keys)
    for key in keys:
        found = uuid.UUID(key)
        assert (found.version, found.variant, str(found)) == (7, uuid.RFC_4122, key)
        assert before <= found.int >> 80 <= after


def test_keys_are_unique() -> None:
    """However many are made in a moment."""
    assert len({make_key() for _ in range(20_000)}) == 20_000


def test_finer_digits_of_the_clock_order_keys_within_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9562, section 6.2, method 3: 4096 steps a millisecond."""
    now = 1_700_000_000_000_000_000
    keys = []
    for step in range(0, 1_000_000, 250):
        monkeypatch.setattr("rig.durable.time.time_ns", lambda step=step: now + step)
        keys.append(make_key())

    assert keys == sorted(keys)
    assert re.fullmatch(r"018bcfe5-6800-7000-[89ab][0-9a-f]{3}-[0-9a-f]{12}", keys[0])


@given(st.dictionaries(st.text(), json_values), st.text(min_size=1), st.text(min_size=1))
def test_the_key_is_one_more_field(fields: dict[str, Any], field: str, key: str) -> None:
    """The rest of the payload is as it was."""
    fields.pop(field, None)

    assert msgspec.json.decode(with_key(msgspec.json.encode(fields), field, key)) == {field: key, **fields}


@given(st.none() | st.integers(-9, 9) | st.text() | st.lists(st.integers(-9, 9)))
def test_what_is_no_object_cannot_carry_a_key(payload: Any) -> None:
    """It is refused, unless no key is wanted in it."""
    text = msgspec.json.encode(payload)

    with pytest.raises(LocalProtocolError, match="empty --idempotency-field"):
        with_key(text, "key", "k")
    assert with_key(text, "", "k") is text


def test_outside_of_a_worker_it_says_what_to_do() -> None:
    """In a script or a test there is nobody who stores."""
    with pytest.raises(LocalProtocolError, match="rig push --durable"):
        asyncio.run(rig.enqueue("a", "b"))


def test_in_a_worker_it_stores_by_its_context() -> None:
    """None pushes `{}`; what the context raises comes out."""

    async def main() -> None:
        outbox = Outbox()
        with enqueueing_by(outbox):
            assert await rig.enqueue("a", "b") == "made"
            assert await rig.enqueue("a", "b", 0, key="k", ttl=3) == "k"
            with pytest.raises(LocalProtocolError, match="no"):
                await rig.enqueue("a", "refuse")
        assert outbox.calls == [("a", "b", {}, None, None), ("a", "b", 0, "k", 3)]
        with pytest.raises(LocalProtocolError, match="by way of a worker"):
            await rig.enqueue("a", "b")

    asyncio.run(main())


def test_a_thread_stores_by_the_loop_of_the_worker() -> None:
    """A plain `def` handler runs in one, and writes `asyncio.run(rig.enqueue(…))`."""

    async def main() -> None:
        outbox = Outbox()
        with enqueueing_by(outbox):
            key = await asyncio.to_thread(lambda: asyncio.run(rig.enqueue("a", "b", {"i": 1}, key="k")))
            with pytest.raises(LocalProtocolError, match="no"):
                await asyncio.to_thread(lambda: asyncio.run(rig.enqueue("a", "refuse")))
        assert key == "k"
        assert outbox.calls == [("a", "b", {"i": 1}, "k", None)]
        assert set(outbox.threads) == {threading.main_thread()}

    asyncio.run(main())
