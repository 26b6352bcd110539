"""The topics that are not joined, in a few words."""

from rig.io.unjoined import Unjoined


def test_one_topic_is_named_with_its_reason() -> None:
    """And nothing is said when there is none."""
    unjoined = Unjoined()
    assert unjoined.reason == ""
    unjoined.add("room:1", "the channel crashed on the server")
    assert unjoined.reason == "'room:1' is not joined: the channel crashed on the server"
    unjoined.remove("room:1")
    unjoined.remove("room:1")
    assert unjoined.reason == ""


def test_of_many_topics_only_the_first_is_named() -> None:
    """However many they are, it is one line."""
    unjoined = Unjoined()
    for number in range(1000):
        unjoined.add(f"room:{number}", "the join was not answered")
    assert unjoined.reason == "1000 topics are not joined, 'room:0' among them: the join was not answered"
    unjoined.clear()
    assert unjoined.reason == ""
