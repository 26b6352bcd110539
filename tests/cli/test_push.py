"""`rig push`."""

import pytest

from rig.errors import ConnectFailed, PushTimeout

PUSH = ("push", "ws://h/socket", "room:1", "new_msg")


def test_the_response_is_printed_as_json(rig, server):
    """Exit code 0 only if the server said ok."""
    result = rig(*PUSH, '{"body": "hi"}')

    assert (result.exit_code, result.stdout, result.stderr) == (0, '{"id":7}\n', "")
    assert server.joined == [("room:1", {})]
    assert server.pushed == [("push", "new_msg", {"body": "hi"}, 10.0)]
    assert server.closed


def test_a_refusal_ends_with_1_and_still_prints_the_response(rig, server):
    """The sentence goes to stderr, the response to stdout, where a script reads it."""
    server.refuse("room:1", "new_msg", {"reason": "too long"})

    result = rig(*PUSH)

    assert (result.exit_code, result.stdout) == (1, '{"reason":"too long"}\n')
    assert result.stderr == "Error: the server answered 'new_msg' on 'room:1' with error: {'reason': 'too long'}\n"


def test_without_a_payload_an_empty_object_is_pushed(rig, server):
    """Most events without data have one."""
    rig(*PUSH)

    assert server.pushed[0][2] == {}


def test_the_payload_can_come_from_stdin(rig, server):
    """For payloads that are long or made by another program."""
    rig(*PUSH, "-", stdin='{"body": "räume"}\n')

    assert server.pushed[0][2] == {"body": "räume"}


def test_without_reply_it_does_not_wait(rig, server):
    """Some events are never answered."""
    result = rig(*PUSH, "--no-reply")

    assert (result.exit_code, result.stdout) == (0, "")
    assert server.pushed == [("send", "new_msg", {}, None)]


def test_the_time_out_can_be_chosen(rig, server):
    """Seconds, as everywhere."""
    rig(*PUSH, "--timeout", "2.5", "--join-payload", "[1]")

    assert server.pushed[0][3] == 2.5
    assert server.dialled.push_timeout == 2.5
    assert server.joined == [("room:1", [1])]


@pytest.mark.parametrize("exc", [PushTimeout("room:1", "new_msg", 10.0)])
def test_no_reply_in_time_ends_with_1(rig, server, exc):
    """The sentence says what may be the matter."""
    server.reply = exc

    result = rig(*PUSH)

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {exc}\n")


def test_an_unreachable_server_ends_with_1(rig, server):
    """The sentence names host and port."""
    server.refusal = ConnectFailed("h", 80, "refused")

    result = rig(*PUSH)

    assert result.exit_code == 1
    assert "cannot reach h:80" in result.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":tru}', "invalid character (byte 9)"),
        ("{", "truncated"),
        ("{'a': 1}", "byte 1"),
        ("[" * 100_000, "is not JSON"),
        ("", "truncated"),
    ],
    ids=["word", "short", "quotes", "deep", "empty"],
)
@pytest.mark.parametrize("way", ["argument", "stdin"])
def test_bad_json_is_a_usage_error_that_names_the_position(rig, server, text, reason, way):
    """Found before anything is dialled."""
    result = rig(*PUSH, text) if way == "argument" else rig(*PUSH, "-", stdin=text)

    assert result.exit_code == 2
    assert "Invalid value for JSON: " in result.stderr
    assert reason in result.stderr
    assert len(result.stderr) < 1000
    assert server.dialled is None
