"""The pair in memory behaves as a WebSocket does, but a test decides when something arrives."""

import pytest

from rig.errors import LocalProtocolError
from rig.transport import BinaryFrame, Closed
from rig.transport.memory import deliver_all, pair


class Owner:
    """Writes down what it is told."""

    def __init__(self):
        self.heard = []
        self.on_text = lambda frames: None

    def text_received(self, frames):
        self.heard.append(("text", frames))
        self.on_text(frames)

    def binary_received(self, frames):
        self.heard.append(("binary", frames))

    def frames_rejected(self, count, reason):
        self.heard.append(("rejected", count))

    def transport_closed(self, closed):
        self.heard.append(("closed", closed))


@pytest.fixture
def ends():
    """Two connected owners, each with its transport."""
    a_owner, b_owner = Owner(), Owner()
    a, b = pair(a_owner, b_owner)
    return a, a_owner, b, b_owner


def test_frames_arrive_at_the_other_side_when_they_are_delivered(ends):
    """Nothing happens before the test says so, and then in one batch."""
    a, _, b, b_owner = ends
    a.send([b"1"])
    a.send([b"2", b"3"])
    assert b_owner.heard == []
    assert a.write_buffer_bytes == 3

    assert b.deliver()

    assert b_owner.heard == [("text", [b"1", b"2", b"3"])]
    assert (a.write_buffer_bytes, b.bytes_received) == (0, 3)
    assert a.sent == [b"1", b"2", b"3"]
    assert not b.deliver()


def test_text_and_binary_come_in_order_and_apart(ends):
    """A batch is of one kind."""
    a, _, b, b_owner = ends
    a.send([b"1", BinaryFrame(b"2"), BinaryFrame(b"3"), b"4"])
    b.deliver()

    assert b_owner.heard == [("text", [b"1"]), ("binary", [b"2", b"3"]), ("text", [b"4"])]


def test_batches_have_the_limits_of_a_websocket(ends):
    """At most 512 frames or 256 KiB come at once, unless one frame is larger."""
    a, _, b, b_owner = ends
    a.send([b"x"] * 513 + [b"y" * 200_000] * 2 + [b"z" * 300_000])
    b.deliver()

    assert [len(frames) for _, frames in b_owner.heard] == [512, 2, 1, 1]


def test_a_paused_side_is_told_nothing_until_it_resumes(ends):
    """What arrives meanwhile waits, the close as well."""
    a, _, b, b_owner = ends
    b.pause_reading()
    b.pause_reading()
    a.send([b"1"])
    a.close()
    assert not b.deliver()

    b.resume_reading()
    b.deliver()

    assert b_owner.heard == [("text", [b"1"]), ("closed", Closed(1000))]


def test_pausing_in_a_batch_does_not_stop_what_was_read_already(ends):
    """An owner must take the rest of the read, as with a WebSocket."""
    a, _, b, b_owner = ends
    b_owner.on_text = lambda frames: b.pause_reading()
    a.send([b"1"] * 600)
    b.deliver()
    a.send([b"2"])
    b.deliver()

    assert [len(frames) for _, frames in b_owner.heard] == [512, 88]


def test_a_close_comes_behind_what_was_sent_and_ends_both_sides_once(ends):
    """Each side learns the code, and who began."""
    a, a_owner, b, b_owner = ends
    b.send([b"under way"])
    a.send([b"last"])
    a.close(4001, "enough")
    a.close(1000)
    a.send([b"dropped"])
    deliver_all(a, b)
    b.close()
    a.abort()

    assert b_owner.heard == [("text", [b"last"]), ("closed", Closed(4001, "enough"))]
    assert a_owner.heard == [("text", [b"under way"]), ("closed", Closed(4001, by_us=True))]
    assert not a.is_open
    assert a.sent == [b"last"]


def test_an_abort_ends_both_sides_at_once_and_loses_what_was_under_way(ends):
    """No CLOSE, no last frames."""
    a, a_owner, b, b_owner = ends
    b.send([b"lost"])
    a.send([b"lost"])
    a.abort()
    deliver_all(a, b)

    assert a_owner.heard == [("closed", Closed(1006, by_us=True))]
    assert b_owner.heard == [("closed", Closed(1006))]


def test_an_abort_in_a_batch_is_the_last_that_is_heard(ends):
    """The rest of the read is not handed on."""
    a, _, b, b_owner = ends
    b_owner.on_text = lambda frames: b.abort()
    a.send([b"1", BinaryFrame(b"2")])
    b.deliver()

    assert b_owner.heard == [("text", [b"1"]), ("closed", Closed(1006, by_us=True))]


def test_answers_to_answers_are_delivered_until_all_is_quiet(ends):
    """A conversation runs to its end in one call."""
    a, a_owner, b, b_owner = ends
    b_owner.on_text = lambda frames: b.send([b"%d" % (int(frames[0]) + 1)])
    a_owner.on_text = lambda frames: a.send(frames) if int(frames[0]) < 5 else None
    a.send([b"1"])
    deliver_all(a, b)

    assert a_owner.heard == [("text", [b"2"]), ("text", [b"3"]), ("text", [b"4"]), ("text", [b"5"])]


def test_a_code_that_must_not_be_sent_is_refused(ends):
    """A wrong code is our mistake here as well."""
    with pytest.raises(LocalProtocolError):
        ends[0].close(1005)
