"""Each time that a topic was not joined is one gap, with its reason; the first join is none."""

from typing import Any

import pytest
import structlog.testing

from rig.backoff import Cause
from rig.counters import Page
from rig.gap import Answer, Gap
from rig.io.gaps import Gaps
from rig.phoenix import events

LOST = events.SocketClosed(Cause.LINK_LOST, 1006, "", 1.0)
NOTHING = Answer(None, None)


class Bench:
    """Gaps, and who is told."""

    def __init__(self, page: Page) -> None:
        self.told: list[Gap] = []
        self.now = 100.0
        self.gaps = Gaps(page=page, tell=self.told.append, clock=lambda: self.now)

    def join(self, topic: str, *, answer: Answer = NOTHING, since: Any = None) -> bool:
        return self.gaps.joined(topic, answer, since)


@pytest.fixture
def bench(page: Page) -> Bench:
    return Bench(page)


def test_first_join_is_no_gap(bench: Bench) -> None:
    """Nothing was missed before there was anything; nor by a connection that never had the topic."""
    bench.gaps.note(LOST)
    assert not bench.join("a")
    assert not bench.join("a"), "joined on a second connection meanwhile"
    assert bench.told == []


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (LOST, "the connection was lost: link_lost"),
        (events.ChannelErrored("a", {}, 1.0), "the channel crashed on the server"),
        (events.ChannelClosed("a", False, 1.0), "the server closed the channel"),
    ],
)
def test_join_after_an_end_is_a_gap(bench: Bench, page: Page, end: Any, reason: str) -> None:
    """One for each end, however often the next join was tried."""
    bench.join("a")
    bench.join("b")
    bench.gaps.note(end)
    bench.gaps.note(LOST)
    bench.gaps.note(LOST)
    assert bench.join("a", answer=Answer(True, 2), since=7)
    assert not bench.join("a")

    assert bench.told == [Gap(topic="a", outcome="replayed", since=7, confirmed=True, missed=2, reason=reason)]
    assert page.get("gaps_replayed") == 1


def test_topic_that_was_left_has_no_gap(bench: Bench) -> None:
    """Whoever left it does not miss it, before or after the connection is lost."""
    bench.join("a")
    bench.join("b")
    bench.gaps.note(events.ChannelClosed("a", True))
    bench.gaps.note(LOST)
    bench.gaps.note(events.ChannelClosed("b", True))

    assert not bench.join("a")
    assert not bench.join("b")


def test_gap_before_our_time_is_one(bench: Bench) -> None:
    """A predecessor's topics were not listened to since it died."""
    bench.gaps.expect("a", "the io process was restarted")

    assert bench.join("a")
    assert bench.told[0].reason == "the io process was restarted"


def test_each_outcome_is_counted_and_said_once_in_a_while(bench: Bench, page: Page) -> None:
    """Many topics make one line for each outcome, a warning where events are lost, with how many lines were left out."""
    with structlog.testing.capture_logs() as logs:
        for number in range(90):
            bench.gaps.expect(f"t:{number}", "why")
            bench.join(f"t:{number}", answer=[Answer(True, 1), Answer(True, 0), Answer(False, 3)][number % 3], since=number)
        bench.now += 10
        bench.gaps.expect("last", "why")
        bench.join("last", answer=Answer(False, None))

    assert [page.get(f"gaps_{outcome}") for outcome in ("replayed", "nothing_missed", "not_replayed")] == [30, 30, 31]
    assert [(entry["log_level"], entry["outcome"], entry["topic"], entry.get("suppressed")) for entry in logs] == [
        ("info", "replayed", "t:0", None),
        ("info", "nothing_missed", "t:1", None),
        ("warning", "not_replayed", "t:2", None),
        ("warning", "not_replayed", "last", 29),
    ]
    assert not logs[-1].keys() & {"since", "missed"}, "what is not known is left out"
    assert len(bench.told) == 91
