"""`rig.routing`."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import AppError
from rig.routing import Pattern, joined_topics, lane, rendezvous, shard

# Patterns.


@pytest.mark.parametrize(
    ("pattern", "topic", "captures"),
    [
        ("room:lobby", "room:lobby", {}),
        ("room:lobby", "room:lobby2", None),
        ("room:lobby", "aroom:lobby", None),
        ("room:lobby", "ROOM:lobby", None),
        ("applications:*", "applications:1", {}),
        ("applications:*", "applications:1:2:3", {}),
        ("applications:*", "applications:", {}),
        ("applications:*", "applications", None),
        ("applications:*", "applications:a\nb", {}),
        ("*", "anything:at:all", {}),
        ("*", "", {}),
        ("applications:{app_id}", "applications:42", {"app_id": "42"}),
        ("applications:{app_id}", "applications:é-1.x", {"app_id": "é-1.x"}),
        ("applications:{app_id}", "applications:", None),
        ("applications:{app_id}", "applications:42:logs", None),
        ("{kind}:{id}:logs", "app:42:logs", {"kind": "app", "id": "42"}),
        ("{kind}:{id}:logs", "app:42:x:logs", None),
        ("room:{id}:*", "room:7:a:b", {"id": "7"}),
        ("room:{id}-{n}", "room:a-b-c", {"id": "a-b", "n": "c"}),
        ("a.b:c+d(e)[f]^$|", "a.b:c+d(e)[f]^$|", {}),
        ("a.b", "axb", None),
        ("exact", "exact", {}),
        ("", "", {}),
    ],
)
def test_topic_pattern(pattern, topic, captures):
    """`*` at the end takes any text, `{name}` one segment; all else is literal, and the whole topic must match."""
    assert Pattern(pattern, "e").match(topic, "e") == captures
    assert Pattern(pattern, "e").covers(topic) == (captures is not None)


@pytest.mark.parametrize(
    ("pattern", "event", "matches"),
    [
        ("deployed", "deployed", True),
        ("deployed", "deployed2", False),
        ("deployed", "Deployed", False),
        ("*", "anything", True),
        ("*", "", True),
        ("app_*", "app_started", True),
        ("app_*", "an_app_started", False),
        ("app_?", "app_1", True),
        ("app_?", "app_12", False),
        ("app_[ab]", "app_b", True),
        ("app_[!ab]", "app_b", False),
        ("a.b", "axb", False),
    ],
)
def test_event_pattern(pattern, event, matches):
    """An event pattern is a name or a glob, and the whole name must match."""
    assert (Pattern("t", pattern).match("t", event) is not None) == matches


def test_both_must_match():
    """A pattern matches only if topic and event do."""
    pattern = Pattern("room:{id}", "new_*")

    assert pattern.match("room:1", "new_msg") == {"id": "1"}
    assert pattern.match("room:1", "old_msg") is None
    assert pattern.match("lobby:1", "new_msg") is None


@pytest.mark.parametrize(
    ("topic", "complaint"),
    [
        ("a:*:b", "only stand at the end"),
        ("**", "only stand at the end"),
        ("*a", "only stand at the end"),
        ("a:{", "a capture is written"),
        ("a:}", "a capture is written"),
        ("a:{}", "a capture is written"),
        ("a:{1a}", "a capture is written"),
        ("a:{a-b}", "a capture is written"),
        ("a:{{b}}", "a capture is written"),
        ("{a}:{a}", "a name of its own"),
    ],
)
def test_pattern_that_makes_no_sense(topic, complaint):
    """A pattern that cannot be meant says what is wrong with it."""
    with pytest.raises(AppError, match=complaint):
        Pattern(topic, "e")


@given(st.text(), st.text().filter(lambda event: not set(event) & set("*?[")))
def test_a_literal_matches_itself(topic, event):
    """Text without special characters matches itself and nothing longer."""
    if not set(topic) & set("*{}"):
        assert Pattern(topic, event).match(topic, event) == {}
        assert Pattern(topic, event).match(topic + "x", event) is None


# Shards and lanes.

GOLDEN = {
    b"": (0, 0, 0, 14),
    b"room:1": (0, 0, 0, 5),
    b"applications:42": (0, 1, 1, 7),
    "köln".encode(): (0, 1, 3, 1),
    b"\x00\xff" * 50: (0, 1, 1, 15),
}


@pytest.mark.parametrize("key", list(GOLDEN), ids=range(len(GOLDEN)))
def test_shards_and_lanes_are_those_of_ever(key):
    """Keys go to the worker and lane that they always went to: redelivery after a restart depends on it."""
    assert (shard(key, 1), shard(key, 2), shard(key, 4), lane(key, 16)) == GOLDEN[key]


def test_shards_are_the_same_in_every_process():
    """Neither hash seed nor process changes where a key goes."""
    code = "from rig.routing import lane, shard; print([(shard(b'k%d' % i, 7), lane(b'k%d' % i, 5)) for i in range(50)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert outputs == {str([(shard(b"k%d" % i, 7), lane(b"k%d" % i, 5)) for i in range(50)]).encode() + b"\n"}


@given(st.binary(), st.integers(1, 64), st.integers(1, 64))
def test_shard_and_lane_are_in_range(key, shards, lanes):
    """Every key has a worker and a lane, however many there are."""
    assert 0 <= shard(key, shards) < shards
    assert 0 <= lane(key, lanes) < lanes


def test_keys_are_spread():
    """A thousand topics fill two workers and all their lanes evenly, and the lane does not follow from the worker."""
    keys = [b"applications:%d" % i for i in range(4000)]
    cells = [(shard(key, 2), lane(key, 8)) for key in keys]

    assert all(180 <= cells.count((s, n)) <= 320 for s in range(2) for n in range(8))


# Sockets.

HOMES = {
    "": (0, 1, 1, 37),
    "room:1": (0, 0, 0, 51),
    "applications:42": (0, 0, 0, 20),
    "applications:*": (0, 0, 0, 33),
    "köln": (0, 0, 0, 53),
}
TOPICS = [f"applications:{number}" for number in range(4_000)]


@pytest.mark.parametrize("topic", list(HOMES))
def test_a_topic_is_joined_on_the_socket_that_it_always_was(topic):
    """Neither version, nor hash seed, nor process changes where a topic is joined: a worker and the io processes agree on it."""
    assert tuple(rendezvous(topic, sockets) for sockets in (1, 2, 3, 64)) == HOMES[topic]


@given(st.text(), st.integers(1, 80))
def test_one_socket_more_takes_topics_from_others_and_moves_none_between_them(topic, sockets):
    """A topic stays where it is, or goes to the new socket."""
    before = rendezvous(topic, sockets)

    assert 0 <= before < sockets
    assert rendezvous(topic, sockets + 1) in (before, sockets)


@pytest.mark.parametrize("sockets", [2, 3, 7])
def test_topics_are_spread_evenly_over_sockets(sockets):
    """Each socket has its share to within a fifth, also of those topics that go to one worker."""
    fair = len(TOPICS) / sockets
    of_one_worker = [topic for topic in TOPICS if shard(topic.encode(), 2) == 0]

    for topics, share in ((TOPICS, fair), (of_one_worker, fair / 2)):
        homes = [rendezvous(topic, sockets) for topic in topics]
        assert all(0.8 * share < homes.count(socket) < 1.2 * share for socket in range(sockets))


def test_the_share_that_moves_is_that_of_the_new_socket():
    """From four sockets to five, a fifth of the topics moves."""
    moved = sum(rendezvous(topic, 4) != rendezvous(topic, 5) for topic in TOPICS)

    assert 0.17 < moved / len(TOPICS) < 0.23


def test_no_sockets_have_no_topic():
    """There is nothing to choose from."""
    with pytest.raises(ValueError, match="empty"):
        rendezvous("room:1", 0)


# What to join.


def names(named, patterns):
    return joined_topics(dict.fromkeys(named), [Pattern(topic, event) for topic, event in patterns])


def test_named_topics_come_first_and_in_order():
    """Topics that are named are joined, in the order in which they were named."""
    assert names(["b", "a"], []) == ["b", "a"]


def test_a_pattern_that_is_covered_adds_nothing():
    """A pattern that covers a named topic is served by it."""
    assert names(["room:1"], [("room:*", "e"), ("room:{id}", "e"), ("room:1", "e")]) == ["room:1"]


def test_a_pattern_that_covers_nothing_is_joined_as_written():
    """`applications:*` is a legal Phoenix topic, and is joined as such, once."""
    assert names(["room:1"], [("applications:*", "a"), ("applications:*", "b"), ("exact", "c")]) == [
        "room:1",
        "applications:*",
        "exact",
    ]


def test_an_earlier_pattern_may_cover_a_later_one():
    """A topic that is joined because of one handler serves the next one's pattern too."""
    assert names([], [("room:1", "a"), ("room:*", "b"), ("room:{id}", "c")]) == ["room:1"]


def test_captures_need_a_named_topic():
    """`{name}` alone names no topic: the error says how to name one."""
    with pytest.raises(AppError, match=r"app\.join\('applications:1:logs'\)"):
        names(["room:1"], [("applications:{id}:logs", "e")])
