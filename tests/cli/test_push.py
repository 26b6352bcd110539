"""`rig push`."""

import asyncio
import json
import time

import pytest

from rig.errors import ConnectFailed, PushTimeout
from rig.store import Outbox, StateDirectory, Store

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


@pytest.fixture
def state(tmp_path):
    """The state directory of a run that is over."""
    directory = StateDirectory(tmp_path / "state")
    directory.create()

    async def make():
        await (await Store.open(directory.database)).close()

    asyncio.run(make())
    return directory


def rows(directory):
    async def read():
        store = await Store.open(directory.database)
        found = await Outbox(store).page(0, 100)
        await store.close()
        return found

    return asyncio.run(read())


def test_with_durable_it_is_stored_and_the_key_printed(rig, server, state):
    """Nothing is dialled: the run that has the directory sends it, with the key in the payload."""
    result = rig(*PUSH, '{"body": "hi"}', "--durable", "--state-dir", str(state.path))

    assert (result.exit_code, result.stderr) == (0, "")
    [row] = rows(state)
    assert result.stdout == row.key + "\n"
    assert (row.topic, row.event, row.binary, row.expires_at) == ("room:1", "new_msg", False, None)
    assert json.loads(row.payload) == {"idempotency_key": row.key, "body": "hi"}
    assert server.dialled is None


def test_its_field_and_time_to_live_can_be_chosen(rig, state):
    """As for those that handlers store."""
    before = time.time()
    stored = (*PUSH, "--durable", "--state-dir", str(state.path))
    assert rig(*stored, "[1]", "--idempotency-field", "", "--outbox-ttl", "60").exit_code == 0
    assert rig(*stored, "{}", "--idempotency-field", "id").exit_code == 0

    plain, named = rows(state)
    assert plain.payload == b"[1]"
    assert before + 60 <= plain.expires_at <= time.time() + 60
    assert json.loads(named.payload) == {"id": named.key}


def test_a_payload_that_cannot_carry_the_key_is_refused(rig, state):
    """The sentence says what to do, and nothing is stored."""
    result = rig(*PUSH, "[1]", "--durable", "--state-dir", str(state.path))

    assert result.exit_code == 1
    assert "empty --idempotency-field" in result.stderr
    assert rows(state) == []


def test_a_topic_that_is_no_text_is_refused(rig, state):
    """As bytes on the command line that are not UTF-8: the sentence blames them, and not the database."""
    result = rig("push", "ws://localhost:4000/socket", "room:\udcff", "new_msg", "--durable", "--state-dir", str(state.path))

    assert result.exit_code == 1
    assert "must be text" in result.stderr
    assert rows(state) == []


def test_a_full_outbox_refuses_it(rig, state):
    """With exit code 1, so that a script notices."""
    large = json.dumps({"pad": "x" * 600_000})
    stored = (*PUSH, "-", "--durable", "--state-dir", str(state.path), "--outbox-max-bytes", "1MiB")
    assert rig(*stored, stdin=large).exit_code == 0
    result = rig(*stored, stdin=large)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "the outbox has reached its limit" in result.stderr
    assert len(rows(state)) == 1


def test_the_only_state_directory_is_found_by_itself(rig, monkeypatch, tmp_path):
    """With none, and with several, the sentence says what to name."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))

    async def make(name):
        directory = StateDirectory.of_app(name)
        directory.create()
        await (await Store.open(directory.database)).close()

    none = rig(*PUSH, "--durable")
    asyncio.run(make("shop"))
    one = rig(*PUSH, "--durable")
    asyncio.run(make("audit"))
    several = rig(*PUSH, "--durable")

    assert (none.exit_code, one.exit_code, several.exit_code) == (2, 0, 2)
    assert "--state-dir" in none.stderr
    assert [row.key for row in rows(StateDirectory.of_app("shop"))] == one.stdout.split()
    assert "shop" in several.stderr
    assert "audit" in several.stderr
