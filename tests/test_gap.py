"""What became of the events of a gap, by what the server says and by what was asked."""

from typing import Any

import msgspec
import pytest

from rig.gap import Answer, Gap


@pytest.mark.parametrize(
    ("response", "since", "outcome", "confirmed", "missed"),
    [
        ({"resumed": True, "missed": 3}, 5, "replayed", True, 3),
        ({"resumed": True, "missed": 0}, 5, "nothing_missed", True, 0),
        ({"resumed": True}, 5, "replayed", True, None),
        ({"resumed": False, "missed": 7}, 5, "not_replayed", True, 7),
        ({"resumed": False, "missed": 0}, 5, "not_replayed", True, 0),
        ({"missed": 0}, 5, "nothing_missed", True, 0),
        ({"missed": 2}, 5, "replayed", False, 2),
        ({}, 5, "replayed", False, None),
        ({}, "a", "replayed", False, None),
        ({}, None, "not_replayed", False, None),
        ({"resumed": True}, None, "replayed", True, None),
        ({"resumed": "yes", "missed": "3"}, 5, "replayed", False, None),
        ({"resumed": 1, "missed": True}, None, "not_replayed", False, None),
        ({"missed": -1}, None, "not_replayed", False, None),
        ([1], None, "not_replayed", False, None),
        (None, 5, "replayed", False, None),
    ],
)
def test_outcome_is_what_the_server_says_or_what_must_be_assumed(
    response: Any, since: Any, outcome: str, confirmed: bool, missed: int | None
) -> None:
    """What is not said, or not as expected, is assumed by whether a cursor was sent."""
    answer = Answer.of(response, "resumed")

    assert (answer.outcome(since), answer.missed) == ((outcome, confirmed), missed)


def test_field_of_the_answer_has_any_name() -> None:
    """Servers that call it otherwise are understood."""
    assert Answer.of({"recovered": True, "resumed": False}, "recovered").resumed is True


def test_gap_pushes_as_the_event_that_it_travels_as(run: Any) -> None:
    """A callback can ask the server for the state, on the topic of the gap."""

    class Carrier:
        pushed: Any = None

        async def push(self, event: str, payload: Any, **options: Any) -> str:
            self.pushed = (event, payload, options)
            return "the answer"

    carrier, answers = Carrier(), []
    gap = Gap(topic="a", outcome="not_replayed", since=None, confirmed=False, missed=None, reason="because")

    async def main() -> None:
        answers.append(await gap.heard_by(carrier).push("state", {"n": 1}, timeout=2.0))

    run(main)
    assert (answers, carrier.pushed) == (["the answer"], ("state", {"n": 1}, {"timeout": 2.0}))
    assert msgspec.structs.asdict(gap)["_event"] is None


def test_a_gap_is_shown_without_what_it_travels_as() -> None:
    """Who prints one sees what its documentation lists."""
    gap = Gap(topic="a", outcome="replayed", since=3, confirmed=True, missed=2, reason="because")
    shown = "Gap(topic='a', outcome='replayed', since=3, confirmed=True, missed=2, reason='because')"

    assert (repr(gap), repr(gap.heard_by("the event"))) == (shown, shown)
