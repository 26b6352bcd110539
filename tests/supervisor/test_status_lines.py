"""The lines in the log that say how a run does."""

import pytest
import structlog

from rig.supervisor.memory import SharedMemory
from rig.supervisor.status import Status
from rig.supervisor.status_lines import summarise


def test_the_last_line_says_no_latency_where_no_event_came(memory: SharedMemory) -> None:
    """A reader is not shown a figure that is None."""
    with structlog.testing.capture_logs() as logs:
        summarise(Status(memory), recycled=0, waiting=0)

    assert logs == [{"event": "done", "log_level": "info", "received": 0, "handled": 0, "unfinished": 0}]


def test_the_last_line_says_the_latency_of_the_events_that_came(memory: SharedMemory) -> None:
    """In milliseconds, and only the counts that are not 0."""
    memory.io_pages[0].set("received", 1)
    memory.io_pages[0].set("routed", 1)
    memory.workers[0].page.add("handled", 1)
    memory.workers[0].page.observe("latency", 2_000_000)
    with structlog.testing.capture_logs() as logs:
        summarise(Status(memory), recycled=3, waiting=0)

    (line,) = logs
    assert line.keys() == {"event", "log_level", "received", "routed", "handled", "recycled", "unfinished", "p50_ms", "p99_ms"}
    assert (line["handled"], line["recycled"], line["unfinished"]) == (1, 3, 0)
    assert line["p50_ms"] == line["p99_ms"]
    assert 1.8 < line["p50_ms"] < 2.2


@pytest.mark.parametrize(
    ("counted", "waiting", "said"),
    [
        ({"durable_stored": 5, "durable_acknowledged": 3}, 2, {"stored": 5, "acknowledged": 3, "waiting": 2}),
        ({"durable_stored": 5}, 5, {"stored": 5, "acknowledged": 0, "waiting": 5}),
        ({"durable_acknowledged": 1}, 0, {"stored": 0, "acknowledged": 1, "waiting": 0}),
        ({}, 7, {"stored": 0, "acknowledged": 0, "waiting": 7}),
        (
            {"durable_stored": 3, "durable_acknowledged": 2, "durable_buried": 1, "durable_refused": 4},
            0,
            {"stored": 3, "acknowledged": 2, "buried": 1, "refused": 4, "waiting": 0},
        ),
        ({"durable_stored": 5, "durable_acknowledged": 3}, None, {"stored": 5, "acknowledged": 3}),
        ({}, 0, {}),
        ({}, None, {}),
    ],
)
def test_the_last_line_says_what_became_of_durable_pushes(
    memory: SharedMemory, counted: dict[str, int], waiting: int | None, said: dict[str, int]
) -> None:
    """All of stored, acknowledged and waiting where there was any; nothing where there was none, and nothing that is not known."""
    for number, (name, count) in enumerate(counted.items()):
        memory.io_pages[number % 2].set(name, count)
    with structlog.testing.capture_logs() as logs:
        summarise(Status(memory), recycled=0, waiting=waiting)

    (line,) = logs
    assert {name: value for name, value in line.items() if "durable" in name} == {
        f"durable_{name}": count for name, count in said.items()
    }
