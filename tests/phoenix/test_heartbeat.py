"""`rig.phoenix.heartbeat`."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.phoenix.heartbeat import Beat, Heartbeat


def run(heartbeat, until, *, now=0.0, reply_after=None, traffic_every=None):
    """Play shell and server until a time or a death; return (time, what) of every beat that was not a plain one."""
    seen, replies, refs = [], [], 0
    next_traffic = math.inf if traffic_every is None else now + traffic_every
    while True:
        now = min(heartbeat.deadline, next_traffic, replies[0][0] if replies else math.inf)
        if now > until:
            return seen
        if replies and replies[0][0] == now:
            at, ref = replies.pop(0)
            heartbeat.alive(at)
            heartbeat.replied(ref, at)
        elif next_traffic == now:
            heartbeat.alive(now)
            next_traffic += traffic_every
        else:
            beat = heartbeat.handle_timeout(now)
            if beat in (Beat.SEND, Beat.MISSED):
                refs += 1
                heartbeat.sent(str(refs), now)
                if reply_after is not None:
                    replies.append((now + reply_after, str(refs)))
            if beat in (Beat.MISSED, Beat.DEAD):
                seen.append((now, beat))
            if beat is Beat.DEAD:
                return seen
            assert heartbeat.deadline > now


def started(now=0.0, **options):
    heartbeat = Heartbeat(**options)
    heartbeat.start(now)
    return heartbeat


def test_idle_until_started():
    """A heartbeat that is not started wants nothing."""
    assert Heartbeat().deadline == math.inf
    assert Heartbeat().handle_timeout(1e9) is None


def test_first_beat_after_the_interval():
    """The first beat is due one interval after the start, and not earlier."""
    heartbeat = started()

    assert heartbeat.deadline == 15.0
    assert heartbeat.handle_timeout(14.9) is None
    assert heartbeat.handle_timeout(15.0) is Beat.SEND


def test_a_replied_beat_leads_to_the_next():
    """A server that replies is beaten every 15 s, and never doubted."""
    assert run(started(), 1000.0, reply_after=0.1) == []


def test_round_trip_time():
    """The reply to a beat gives its round-trip time."""
    heartbeat = started()
    heartbeat.sent("7", 15.0)

    assert heartbeat.replied("7", 15.25) == 0.25
    assert heartbeat.replied("7", 15.5) is None


@pytest.mark.parametrize("ref", [None, "8", ""])
def test_unknown_reply_means_nothing(ref):
    """A reply to a beat that was never sent does not count."""
    heartbeat = started()
    heartbeat.sent("7", 15.0)

    assert heartbeat.replied(ref, 16.0) is None
    assert heartbeat.deadline == 20.0


def test_half_open_is_found_within_25_seconds_of_the_start():
    """A link that never says anything is given up after 15 + 5 + 5 s."""
    assert run(started(), 100.0) == [(20.0, Beat.MISSED), (25.0, Beat.DEAD)]


@pytest.mark.parametrize("last_sign", [i / 10 for i in range(1, 400, 7)])
def test_half_open_is_found_within_25_seconds_of_the_last_sign(last_sign):
    """Whenever the last byte came, the link is given up within 25 s of it."""
    heartbeat, seen, refs = started(), [], 0
    while not seen or seen[-1][1] is not Beat.DEAD:
        now = min(heartbeat.deadline, last_sign)
        if now == last_sign:
            heartbeat.alive(now)
            last_sign, stopped = math.inf, now
            continue
        beat = heartbeat.handle_timeout(now)
        if beat in (Beat.SEND, Beat.MISSED):
            refs += 1
            heartbeat.sent(str(refs), now)
            if last_sign < math.inf:
                heartbeat.alive(now + 0.01)
                heartbeat.replied(str(refs), now + 0.01)
        seen.append((now, beat))

    assert seen[-1][0] - stopped <= 25.0


def test_late_reply_with_traffic_is_alive():
    """Behind a backlog the reply can be 12 s late: received frames are a sign of life."""
    assert run(started(), 300.0, reply_after=12.0, traffic_every=1.0) == []


def test_late_reply_without_traffic_is_missed_once():
    """A reply that takes 7 s on a silent link costs a missed beat, and no connection."""
    seen = run(started(), 29.0, reply_after=7.0)

    assert seen == [(20.0, Beat.MISSED)]


def test_a_reply_forgives_missed_beats():
    """Missed beats count only in a row."""
    heartbeat = started()
    heartbeat.sent("1", 15.0)
    assert heartbeat.handle_timeout(20.0) is Beat.MISSED
    heartbeat.sent("2", 20.0)
    heartbeat.alive(22.0)
    assert heartbeat.replied("1", 22.0) == 7.0
    assert heartbeat.missed == 0

    assert heartbeat.handle_timeout(25.0) is None


def test_traffic_forgives_missed_beats():
    """A byte after a missed beat starts the count over."""
    heartbeat = started()
    heartbeat.sent("1", 15.0)
    assert heartbeat.handle_timeout(20.0) is Beat.MISSED
    heartbeat.sent("2", 20.0)
    heartbeat.alive(21.0)

    assert heartbeat.handle_timeout(25.0) is None
    assert heartbeat.missed == 0


def test_no_reply_for_60_seconds_is_death_despite_traffic():
    """A server that sends but answers nothing for 60 s is given up, and not much later."""
    [(at, beat)] = run(started(), 300.0, traffic_every=0.5)

    assert beat is Beat.DEAD
    assert 60.0 <= at <= 65.0


def test_traffic_keeps_beats_at_their_interval():
    """While verdicts are put off by traffic, beats still go out every 15 s."""
    heartbeat, beats = started(), []
    while heartbeat.deadline < 59.0:
        now = heartbeat.deadline
        if heartbeat.handle_timeout(now) is Beat.SEND:
            heartbeat.sent(str(now), now)
            beats.append(now)
        heartbeat.alive(now + 0.01)

    assert beats == [15.0, 30.0, 45.0]


def test_no_verdict_while_reading_is_paused():
    """Beats go on while the owner does not read, but none counts as lost, however long it takes."""
    heartbeat = started()
    heartbeat.pause()
    beats = []
    while heartbeat.deadline < 600.0:
        now = heartbeat.deadline
        assert heartbeat.handle_timeout(now) is Beat.SEND
        heartbeat.sent(str(now), now)
        beats.append(now)

    assert beats == [15.0 * i for i in range(1, 40)]


def test_pausing_in_the_middle_of_a_verdict():
    """A pause between a beat and its verdict suspends that verdict."""
    heartbeat = started()
    heartbeat.sent("1", 15.0)
    heartbeat.pause()

    assert heartbeat.deadline == 30.0
    assert heartbeat.handle_timeout(21.0) is None


def test_after_a_pause_the_count_starts_anew():
    """After reading resumes the server has the full time to show itself, also for the 60 s rule."""
    heartbeat = started()
    heartbeat.pause()
    for i in range(1, 10):
        heartbeat.sent(str(i), 15.0 * i)
    heartbeat.resume(140.0)

    assert heartbeat.handle_timeout(145.0) is None
    assert heartbeat.missed == 0


def test_half_open_is_found_after_a_pause():
    """A link that died while the owner did not read is found within 25 s of reading on."""
    heartbeat = started()
    heartbeat.pause()
    heartbeat.sent("1", 15.0)
    heartbeat.resume(20.0)

    seen = run(heartbeat, 100.0, now=20.0)

    assert seen[-1][1] is Beat.DEAD
    assert seen[-1][0] <= 45.0


def test_a_new_connection_waits_for_nothing_of_the_old_one():
    """A beat, a miss and a pause of the old connection have no part in the new one."""
    heartbeat = started()
    heartbeat.sent("1", 15.0)
    assert heartbeat.handle_timeout(20.0) is Beat.MISSED
    heartbeat.sent("2", 20.0)
    heartbeat.pause()
    heartbeat.start(24.0)

    assert heartbeat.deadline == 39.0
    assert heartbeat.missed == 0
    assert heartbeat.replied("2", 24.1) is None
    assert run(heartbeat, 100.0, now=24.0) == [(44.0, Beat.MISSED), (49.0, Beat.DEAD)]


def test_a_reply_settles_the_beats_before_it():
    """The reply to the second beat settles the first one too: the server was there after both."""
    heartbeat = started()
    heartbeat.sent("1", 15.0)
    heartbeat.handle_timeout(20.0)
    heartbeat.sent("2", 20.0)
    heartbeat.alive(20.1)

    assert heartbeat.replied("2", 20.1) == pytest.approx(0.1)
    assert heartbeat.replied("1", 20.2) is None
    assert heartbeat.deadline == 35.0


def test_stop():
    """A stopped heartbeat wants nothing."""
    heartbeat = started()
    heartbeat.sent("1", 15.0)
    heartbeat.stop()

    assert heartbeat.deadline == math.inf


# Any interval, any time-out.


@given(
    interval=st.floats(0.1, 100.0),
    timeout=st.floats(0.1, 100.0),
    last_sign=st.floats(0.0, 300.0),
    pings=st.lists(st.floats(0.0, 500.0), max_size=20),
)
def test_half_open_is_found_whatever_the_interval(interval, timeout, last_sign, pings):
    """A silent link is given up within interval + 2 · time-out, be the beats closer together than the time-out or not."""
    heartbeat = started(interval=interval, timeout=timeout, silence=1e9)
    times = sorted([*pings, *(last_sign * i / 10 for i in range(11))])
    sent, end = 0, last_sign + interval + 2 * timeout + 1e-6
    while True:
        now = min(heartbeat.deadline, times[0] if times else math.inf)
        assert now <= end
        if times and times[0] == now:
            times.pop(0)
            if now <= last_sign:
                heartbeat.alive(now)
            else:
                heartbeat.pinged(f"ping {len(times)}", now)
            continue
        beat = heartbeat.handle_timeout(now)
        if beat is Beat.DEAD:
            break
        if beat is not None:
            sent += 1
            heartbeat.sent(str(sent), now)


def test_a_slow_beat_is_not_silence():
    """With beats minutes apart, 60 s without a reply mean nothing: none was asked for."""
    assert run(started(interval=120.0), until=2000.0, reply_after=6.0, traffic_every=3.0) == []


def test_silence_is_found_with_beats_closer_than_the_time_out():
    """Traffic that goes on puts every verdict off, and still 60 s without any reply are death."""
    seen = run(started(interval=2.0, timeout=5.0), until=200.0, traffic_every=1.0)

    assert [what for _, what in seen] == [Beat.DEAD]
    assert 60.0 <= seen[0][0] <= 65.0


def test_a_ping_has_a_round_trip_time_and_no_verdict():
    """A beat that the owner wanted is answered like any other; unanswered, it costs nothing."""
    heartbeat = started()
    heartbeat.pinged("7", 1.0)
    assert heartbeat.deadline == 15.0
    assert heartbeat.replied("7", 1.25) == 0.25

    heartbeat.pinged("8", 2.0)
    assert heartbeat.handle_timeout(15.0) is Beat.SEND
    assert heartbeat.missed == 0
