"""What a handler gets as its payload, and what becomes of a payload that does not fit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import attrs
import msgspec
import pytest

from rig.app import App, Event


class Deployed(msgspec.Struct):
    id: int
    app: str = ""


@dataclass
class Scaled:
    id: int


class Typed(TypedDict):
    id: int


@attrs.define
class Defined:
    id: int


class Hostile(msgspec.Struct):
    id: int

    def __post_init__(self) -> None:
        raise KeyError(f"no {self.id}")


@pytest.mark.parametrize(
    ("payload_type", "payload", "expected"),
    [
        (Deployed, {"id": 1, "app": "x", "more": True}, Deployed(1, "x")),
        (Scaled, {"id": 1}, Scaled(1)),
        (Typed, {"id": 1}, {"id": 1}),
        (Defined, {"id": 1}, Defined(1)),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (Any, {"a": [1, None, "x"]}, {"a": [1, None, "x"]}),
        (bytes, b"\x00\xff", b"\x00\xff"),
        (Any, b"\x00\xff", b"\x00\xff"),
        (msgspec.Raw, {"a": 1}, msgspec.Raw(b'{"a":1}')),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_payload_is_what_the_annotation_says(
    bench: Any, run: Callable[..., None], payload_type: Any, payload: Any, expected: Any
) -> None:
    """A handler gets its payload in the type that it names."""
    app, seen = App(), []

    @app.on("room:{id}", "tick")
    async def handler(event: Event[payload_type]) -> None:  # type: ignore[valid-type]
        seen.append((event.topic, event.event, event.payload, event.captures))

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:7", "tick", payload))
        await worker.idle()
        await worker.die()

    run(main)
    assert seen == [("room:7", "tick", expected, {"id": "7"})]
    assert not bench.dead


@pytest.mark.parametrize(
    ("payload_type", "payload", "reason"),
    [
        (Deployed, {"id": "x"}, "Expected `int`, got `str` - at `$.id`"),
        (Deployed, {}, "Object missing required field `id`"),
        (dict[str, list[int]], {"a": [1, "x"]}, "Expected `int`, got `str` - at `$[...][1]`"),
        (Scaled, [], "Expected `object`, got `array`"),
        (bytes, {"a": 1}, "Expected a binary frame, got JSON"),
        (Deployed, b"\xff\xfe", "malformed"),
        (Hostile, {"id": 1}, "KeyError: 'no 1'"),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_payload_that_does_not_fit_is_a_dead_letter(
    bench: Any, run: Callable[..., None], payload_type: Any, payload: Any, reason: str
) -> None:
    """It is not tried again; the dead letter says where the fault is, and the events after it are handled."""
    app, seen = App(), []

    @app.on("room:*", "tick", retries=5)
    async def handler(event: Event[payload_type]) -> None:  # type: ignore[valid-type]
        seen.append(event.payload)

    @app.on("room:*", "tock")
    async def other(event: Event[Any]) -> None:
        seen.append(event.event)

    async def main() -> None:
        worker = bench.worker(app)
        bench.publish(("room:7", "tick", payload), ("room:7", "tock", b"" if isinstance(payload, bytes) else 1))
        await worker.idle()
        await worker.die()

    run(main)
    (dead,) = bench.dead
    assert reason in dead.reason
    assert dead.reason.startswith(f"the payload does not fit {dead.handler}: ")
    assert dead.payload == (payload if isinstance(payload, bytes) else msgspec.json.encode(payload))
    assert (dead.topic, dead.event) == ("room:7", "tick")
    assert seen == ["tock"]
    assert (bench.page.get("invalid"), bench.page.get("failed")) == (1, 0)
