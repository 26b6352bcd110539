"""`rig listen`."""

import json
import os
import re
import sys
import types

import pytest

from rig.cli.main import main
from rig.errors import AuthenticationRefused, ConnectFailed, JoinRefused

URL = "ws://h/socket"


def event(name="tick", payload=None, topic="room:1", raw=b"[null]"):
    payload = {"n": 1} if payload is None else payload
    return types.SimpleNamespace(topic=topic, event=name, payload=payload, raw=raw)


def test_events_are_json_lines(rig, server):
    """One event a line, for jq."""
    server.events = [event(), event("tock", [1, "ü"], "room:2")]

    result = rig("listen", URL, "room:1", "room:2")

    assert result.exit_code == 0
    assert (
        result.stdout
        == '{"topic":"room:1","event":"tick","payload":{"n":1}}\n{"topic":"room:2","event":"tock","payload":[1,"ü"]}\n'
    )
    assert server.joined == [("room:1", {}), ("room:2", {})]
    assert server.closed


def test_a_binary_payload_can_be_told_from_a_text(rig, server):
    """It is base64, and says so."""
    server.events = [event(payload=b"\x00\xff")]

    assert json.loads(rig("listen", URL, "t").stdout) == {
        "topic": "room:1",
        "event": "tick",
        "payload": "AP8=",
        "encoding": "base64",
    }


def test_connection_options_reach_the_client(rig, server, tmp_path):
    """Parameters, headers, serializer and certificates are the connection's."""
    (tmp_path / "ca.pem").touch()

    rig(
        "listen",
        URL,
        "t",
        "--param",
        "token=x",
        "--header",
        "A: 1",
        "--vsn",
        "1.0.0",
        "--ca",
        "ca.pem",
        "--transport",
        "auto",
        "--auth",
        "env:TOKEN",
        "--proxy",
        "env",
        "--join-payload",
        '{"since":4}',
    )

    settings = server.dialled
    assert settings.url == (URL,)
    assert settings.param == {"token": "x"}
    assert settings.header == (("A", "1"),)
    assert (settings.vsn, settings.ca, settings.insecure) == ("1.0.0", "ca.pem", False)
    assert (settings.transport, settings.auth, settings.proxy) == ("auto", "env:TOKEN", "env")
    assert server.joined == [("t", {"since": 4})]


def test_only_events_that_fit_a_glob_are_printed(rig, server):
    """Several globs: any of them."""
    server.events = [event(name) for name in ("new_msg", "typing", "New_msg", "gone")]

    result = rig("listen", URL, "t", "--event", "new_*", "--event", "g?ne")

    assert [json.loads(line)["event"] for line in result.stdout.splitlines()] == ["new_msg", "gone"]


def test_it_ends_after_so_many_printed_events(rig, server):
    """Events that no glob fits are not counted."""
    server.events = [event(name) for name in "abab"] + [RuntimeError("read on after the last one")]

    result = rig("listen", URL, "t", "--event", "b", "--count", "2")

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert server.closed


def test_timestamps_come_first(rig, server):
    """ISO 8601, UTC."""
    server.events = [event()]

    line = json.loads(rig("listen", URL, "t", "--timestamps").stdout)

    assert next(iter(line)) == "received_at"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["received_at"])


def test_raw_prints_frames_as_they_came(rig, server):
    """For whoever looks for a fault in the protocol."""
    server.events = [event(raw=b'["1",null,"t","e",{}]')]

    assert rig("listen", URL, "t", "--raw").stdout == '["1",null,"t","e",{}]\n'


def test_a_format_puts_fields_where_they_are_wanted(rig, server):
    r"""`\t` is a tab, as in kcat."""
    server.events = [event()]

    assert rig("listen", URL, "t", "--format", r"{topic}\t{event} {payload} {{}}").stdout == 'room:1\ttick {"n":1} {}\n'


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--format", "{name}"], "there is no {name}; there are {topic}, {event}, {payload}"),
        (["--format", "{payload.__class__}"], "there is no {payload.__class__}"),
        (["--format", "{topic"], "write {{ for a brace"),
        (["--join-payload", "{"], "--join-payload: { is not JSON"),
        (["--count", "0"], "--count=0: expected a whole number, at least 1"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_dialled(rig, server, args, sentence):
    """Exit code 2, and no connection."""
    result = rig("listen", URL, "t", *args)

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert server.dialled is None


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (ConnectFailed("h", 80, "refused"), 1),
        (AuthenticationRefused("ws://h/socket", 403), 4),
        (JoinRefused("t", {"reason": "unauthorized"}), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_is_a_sentence(rig, server, refusal, code):
    """The server's reason, and what to check."""
    server.refusal = refusal

    result = rig("listen", URL, "t")

    assert (result.exit_code, result.stderr) == (code, f"Error: {refusal}\n")


def test_ctrl_c_leaves_and_ends_with_130(rig, server):
    """The connection is closed properly."""
    server.events = [event(), KeyboardInterrupt()]

    result = rig("listen", URL, "t")

    assert result.exit_code == 130
    assert len(result.stdout.splitlines()) == 1


def test_a_broken_pipe_ends_quietly(server, monkeypatch, capfd):
    """`rig listen … | head -1` is not a fault."""
    reader, writer = os.pipe()
    os.close(reader)
    server.events = [event()]
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as ended:
            main(["listen", URL, "t"])
        monkeypatch.undo()

    assert ended.value.code == 0
    assert capfd.readouterr().err == ""
    assert server.closed
