"""
The Elixir server of the conformance tests names the same things as the mock server, as far as that can be read off its text.

It needs Elixir and hex.pm to run, so nothing here shows that it works.
"""

import ast
import re
from pathlib import Path

import pytest

from mock_server import MockServer
from mock_server.reference import ROUTES, PresenceRoom, Room
from mock_server.reference_http import reference_routes

HERE = Path(__file__).parent
SOURCE = (HERE.parent / "phoenix_app" / "server.exs").read_text()
MODULES = dict(re.findall(r"^defmodule Reference\.(\w+) do\n(.*?)^end$", SOURCE, re.MULTILINE | re.DOTALL))
ODD_ROOMS = {"forbidden", "crash_on_join", "bare", "auth", "slow", "after_join", "stop_soon"}


def names(pattern: str, text: str) -> set[str]:
    return set(re.findall(pattern, text))


def literals() -> set[str]:
    """Return every string in the conformance tests beside this file, f-strings excepted."""
    trees = [ast.parse(path.read_text()) for path in HERE.glob("test_*.py") if path != Path(__file__)]
    constants = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


@pytest.mark.parametrize(("module", "room"), [("RoomChannel", Room), ("PresenceChannel", PresenceRoom)])
def test_each_event_has_a_clause(module: str, room: type[Room | PresenceRoom]) -> None:
    """Those of the mock server, and no others."""
    assert names(r'def handle_in\("(\w+)"', MODULES[module]) == set(room.handlers)


def test_each_event_is_pushed_by_a_conformance_test() -> None:
    """What no test pushes might as well not be there."""
    assert {*Room.handlers, *PresenceRoom.handlers} <= literals()


def test_each_topic_has_a_channel() -> None:
    """The same patterns, in the same order, to the channel of the same kind."""
    channels = {Room: "RoomChannel", PresenceRoom: "PresenceChannel"}
    routes = re.findall(r'channel "([^"]+)", Reference\.(\w+)', MODULES["UserSocket"])
    assert routes == [(pattern, channels[channel]) for pattern, channel in ROUTES]


def test_each_odd_room_has_a_clause() -> None:
    """The rooms that behave in their own way when joined, each of which a test joins."""
    assert names(r'def join\("room:(\w+)"', MODULES["RoomChannel"]) == ODD_ROOMS
    assert {f"room:{room}" for room in ODD_ROOMS} <= literals()


def test_each_route_of_the_http_side_is_there() -> None:
    """With as many segments as the mock server's."""
    paths = {re.sub(r"\{[^}]*\}", ":", route.path) for route in reference_routes(MockServer())}
    assert {re.sub(r":\w+", ":", path) for path in names(r'get "([^"]+)" do', MODULES["Http"])} == paths


def test_each_token_of_connect_is_handled() -> None:
    """Refused, refused with a reason, crashed."""
    tokens = names(r'def connect\(%\{"token" => "(\w+)"\}', MODULES["UserSocket"])
    assert tokens == {"bad", "reason", "raise"}
    assert tokens <= literals()


def test_each_mount_is_there() -> None:
    """Those of the contract; the one that the tests connect to takes tokens and long-poll."""
    mounts = dict(re.findall(r'socket "(/\w+)", Reference\.UserSocket,?(.*?)(?=\n\n|\n  socket )', MODULES["Endpoint"], re.DOTALL))
    assert set(mounts) == {"/socket", "/default", "/short", "/limit", "/origin", "/err"}
    assert all(option in mounts["/socket"] for option in ("auth_token: true", "max_frame_size: 8_000_000", "window_ms: 2_000"))
    assert "timeout: 3_000" in mounts["/short"]
    assert "max_frame_size: 65_536" in mounts["/limit"]
    assert all(origin in mounts["/origin"] for origin in ("//good.example", "http://port.example:8080", "//*.wild.example"))
    assert "error_handler" in mounts["/err"]


def test_modules_are_told_apart() -> None:
    """Each check reads one module of the file; one that is not found would be checked against nothing."""
    assert set(MODULES) == names(r"defmodule Reference\.(\w+)", SOURCE)
    assert len(re.findall(r"^\s*(?:def|defp|defmodule|get|match|if|for|case|fn)\b.*\bdo$", SOURCE, re.MULTILINE)) == len(
        re.findall(r"^\s*end$", SOURCE, re.MULTILINE)
    )
