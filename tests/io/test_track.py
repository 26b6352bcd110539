"""Which events are repeats: usually those that are not above the newest, after a join those that were seen."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.cursors import Cursor
from rig.io import track as track_module
from rig.io.track import Track


class Watched(Track):
    """A track whose owner remembers what it was told."""

    def __init__(self, cursor: Cursor | None = None) -> None:
        self.list: list[Track] = []
        self.repeats: list[Cursor] = []
        super().__init__("a", cursor, self.list, lambda track, repeat: self.repeats.append(repeat))

    def take(self, *cursors: Cursor, pushed: bool = False) -> list[Cursor]:
        """Return what is admitted of these."""
        return [cursor for cursor in cursors if self.admit(cursor, pushed=pushed)]


def test_event_that_is_not_above_the_newest_is_a_repeat() -> None:
    """Whatever was received before, and everything below it, is dropped, and the owner hears of it: nobody replays just now."""
    track = Watched()

    assert track.take(1, 2, 2, 5, 3, 6) == [1, 2, 5, 6]
    assert (track.floor, track.newest, track.repeats) == (6, 6, [2, 3])


def test_owner_has_each_track_once() -> None:
    """However many events come, the track is in the list of those to look at once, until the owner has looked."""
    track = Watched()
    track.take(1, 2, 3)
    assert track.list == [track]
    track.list.clear()
    track.touched = False
    track.take(3)
    assert track.list == []
    track.take(4)
    assert track.list == [track]


def test_join_sends_what_was_received() -> None:
    """The newest, or nothing where nothing is known."""
    track = Watched()
    track.catch_up()
    assert (track.sent, track.ahead) == (None, None)
    track.take(4)
    track.catch_up()
    assert track.sent == 4


def test_what_is_left_on_disk_is_passed_over_in_a_replay_and_counts_as_received() -> None:
    """What is between is admitted, in whatever order it comes; the floor goes on over both."""
    track = Watched(10)
    track.left = {13, 14}
    track.catch_up()
    track.missing = 4
    assert track.take(15) == [15], "a live event"
    assert track.take(11, 12, 13, 14, pushed=True) == [11, 12]
    assert (track.floor, track.left, track.repeats) == (15, None, [])


def test_what_is_left_on_disk_is_passed_over_where_nothing_is_known() -> None:
    """Without a cursor the server may send its newest by itself."""
    track = Watched()
    track.left = {1, 2}
    track.catch_up()
    assert track.take(1, 2, 3) == [3]
    assert track.floor == 3


def test_a_server_that_begins_anew_may_use_a_cursor_again() -> None:
    """An event with the cursor of one that is left on disk is another event then."""
    track = Watched(10)
    track.left = {13}
    track.catch_up()
    track.begin_anew()
    assert track.take(1, 13) == [1, 13]


def test_live_events_that_overtake_a_replay_make_no_repeats_of_it() -> None:
    """What was missed is admitted though newer events came first, each once."""
    track = Watched(10)
    track.catch_up()

    assert track.take(15, 11, 12, 16, 13, 12, 14, 15, 16, 17) == [15, 11, 12, 16, 13, 14, 17]
    assert track.repeats == []


def test_join_in_the_midst_of_a_replay_asks_for_the_rest() -> None:
    """The floor is where the replay has come to, however far live events were ahead of it."""
    track = Watched(10)
    track.catch_up()
    track.take(15, 11, 12)
    track.catch_up()

    assert track.sent == 12
    assert track.take(13, 14, 15, 16) == [13, 14, 16]


def test_all_is_received_when_the_announced_number_was_replayed() -> None:
    """What a channel pushes counts, as repeats of it do; live events that come between do not."""
    track = Watched(10)
    track.catch_up()
    track.missing = 3
    track.take(11, 12, pushed=True)
    track.take(15)
    assert track.floor == 12
    track.take(13, pushed=True)

    assert (track.floor, track.newest, track.ahead, track.missing) == (15, 15, None, 0)


def test_when_no_replay_is_expected_any_more_all_is_received() -> None:
    """Then the order counts again, and the owner has the track to look at."""
    track = Watched(10)
    track.catch_up()
    track.take(12, 13)
    track.list.clear()
    track.touched = False
    track.caught_up()

    assert (track.floor, track.list) == (13, [track])
    assert track.take(11, 14) == [14]


def test_server_that_numbers_anew_is_followed() -> None:
    """Once it has said that it does not know our cursor, lower numbers are new events, in whatever order they come."""
    track = Watched(1000)
    track.catch_up()
    track.begin_anew()

    assert track.take(3, 1, 2, 3, 4) == [3, 1, 2, 4]
    track.catch_up()
    assert track.sent == 3
    track.caught_up()
    assert track.take(4, 5) == [5]


def test_first_number_after_a_new_beginning_can_be_asked_for() -> None:
    """A connection that is lost at once again has something to resume from."""
    track = Watched(1000)
    track.catch_up()
    track.begin_anew()
    track.take(7, 8)
    track.catch_up()

    assert track.sent == 7


@pytest.mark.parametrize("catches_up", [False, True])
def test_other_kind_of_cursor_begins_anew(catches_up: bool) -> None:
    """A server that changes from numbers to texts is followed."""
    track = Watched(1000)
    if catches_up:
        track.catch_up()
        track.take(1001)

    assert track.take("a", "b", "a") == ["a", "b"]
    assert (track.floor, track.newest) == ("b", "b")


def test_what_a_predecessor_had_handed_on_is_a_repeat() -> None:
    """Even where it was handed on with holes, which are filled."""
    track = Watched(10)
    for cursor in (9, 11, 13, 12, 15):
        track.seen(cursor)

    assert track.take(11, 12, 13, 14, 15, 16) == [14, 16]


def test_memory_of_a_long_replay_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many events the lower half is taken for complete; the rest of the replay is admitted all the same."""
    monkeypatch.setattr(track_module, "MOST_AHEAD", 100)
    track = Watched(0)
    track.catch_up()
    for number in range(1, 1_000):
        assert track.admit(number)
        assert track.ahead is not None
        assert len(track.ahead) <= 101
    assert not track.admit(999)
    assert not track.admit(3)
    assert isinstance(track.floor, int)
    assert track.floor > 800


@settings(deadline=None)
@given(data=st.data(), missed=st.lists(st.integers(11, 60), unique=True), live=st.lists(st.integers(61, 80), unique=True))
def test_every_interleaving_of_replay_and_live_events_is_received_once(data: Any, missed: list[int], live: list[int]) -> None:
    """Replay and live events are each in order; the replay may hold live events too; nothing is lost, nothing comes twice."""
    missed, live = sorted(missed), sorted(live)
    replay = missed + live[: data.draw(st.integers(0, len(live)))]
    track, admitted, received = Watched(10), [], set()
    track.catch_up()
    queues = [list(replay), list(live)]
    while any(queues):
        queue = queues[data.draw(st.integers(0, 1))]
        if queue:
            cursor = queue.pop(0)
            received.add(cursor)
            admitted += track.take(cursor, pushed=queue is queues[0])
            complete = next((number for number in sorted({*missed, *live}) if number not in received), 10**6)
            assert isinstance(track.floor, int)
            assert track.floor < complete
    track.caught_up()

    assert sorted(admitted) == sorted({*missed, *live})
    assert track.floor == max([10, *admitted])
