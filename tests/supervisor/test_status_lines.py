"""The lines in the log that say how a run does."""

import structlog

from rig.supervisor.memory import SharedMemory
from rig.supervisor.status import Status
from rig.supervisor.status_lines import summarise


def test_the_last_line_says_no_latency_where_no_event_came(memory: SharedMemory) -> None:
    """A reader is not shown a figure that is None."""
    with structlog.testing.capture_logs() as logs:
        summarise(Status(memory), recycled=0)

    assert logs == [{"event": "done", "log_level": "info", "received": 0, "handled": 0, "unfinished": 0}]


def test_the_last_line_says_the_latency_of_the_events_that_came(memory: SharedMemory) -> None:
    """In milliseconds, and only the counts that are not 0."""
    memory.io_pages[0].set("received", 1)
    memory.io_pages[0].set("routed", 1)
    memory.workers[0].page.add("handled", 1)
    memory.workers[0].page.observe("latency", 2_000_000)
    with structlog.testing.capture_logs() as logs:
        summarise(Status(memory), recycled=3)

    (line,) = logs
    assert line.keys() == {"event", "log_level", "received", "routed", "handled", "recycled", "unfinished", "p50_ms", "p99_ms"}
    assert (line["handled"], line["recycled"], line["unfinished"]) == (1, 3, 0)
    assert line["p50_ms"] == line["p99_ms"]
    assert 1.8 < line["p50_ms"] < 2.2
