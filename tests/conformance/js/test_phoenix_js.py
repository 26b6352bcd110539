"""Phoenix's own JavaScript client against the mock server: what works with a real Phoenix works here."""

import socket
from typing import Any

import pytest

CLOSED = {"source": "transport", "reason": "connection_closed"}
ONLINE = {"online_at": 1_700_000_000}
BYTES = "000102fffec3a9"
VERSIONS = ("1.7.24", "1.8.12")

serializers = pytest.mark.parametrize("vsn", ["2.0.0", "1.0.0"])
versions = pytest.mark.parametrize("phoenix", VERSIONS)
# Each of either once: that every release speaks both is what the recordings in `test_golden_server.py` show.
serializers_and_versions = pytest.mark.parametrize(("phoenix", "vsn"), list(zip(VERSIONS, ("1.0.0", "2.0.0"), strict=True)))


def joined(topic: str, **params: Any) -> dict[str, Any]:
    return {"joined": topic, "params": params}


# joins


@serializers_and_versions
def test_joins_are_answered(play: Any, phoenix: str, vsn: str) -> None:
    """Accepted with a response or without, refused, crashed, and for a topic that nobody serves."""
    assert play("join_outcomes", phoenix=phoenix, vsn=vsn)["result"] == {
        "room:lobby": ["ok", joined("room:lobby", since=41)],
        "exact": ["ok", joined("exact", since=41)],
        "room:bare": ["ok", {}],
        "room:forbidden": ["error", {"reason": "unauthorized"}],
        "room:crash_on_join": ["error", {"reason": "join crashed"}],
        "nowhere": ["error", {"reason": "unmatched topic"}],
    }


def test_join_params_reach_the_server_at_each_join(play: Any) -> None:
    """A function is asked again when the client joins again."""
    assert play("join_params_are_made_anew")["result"] == [joined("room:a", count=1), joined("room:a", count=2)]


def test_a_slow_join_holds_up_the_whole_socket(play: Any) -> None:
    """Another topic's join and a heartbeat wait behind it."""
    assert play("slow_join_blocks_the_socket")["result"] == ["room:slow", "room:quick", "heartbeat"]


def test_a_join_that_times_out_is_tried_again(play: Any) -> None:
    """The replies to the first attempt come late, under a join_ref that the client no longer knows, and change nothing."""
    result = play("join_times_out_and_is_retried")["result"]
    assert result == {"echo": ["ok", {"n": 1}], "outdated": 2, "joins": 1, "timeouts": 1, "state": "joined"}


def test_a_refused_join_is_tried_again(play: Any) -> None:
    """The client joins once the server lets it, and what was pushed before is sent then."""
    result = play("refused_join_is_retried")["result"]
    assert result["refused"] == [{"reason": "refused by the mock server"}] * 2
    assert result["joined"] == joined("room:closed")
    assert result["early"] == ["ok", {"early": True}]


@serializers
def test_channels_share_a_socket(play: Any, vsn: str) -> None:
    """Each has its own replies, events, crash and leave."""
    result = play("several_channels", vsn=vsn)["result"]
    assert result["echoes"] == [["ok", {"topic": topic}] for topic in ("room:a", "room:b", "room:c", "exact")]
    assert result["news"] == [[], [{"n": "1"}], [], []]
    assert result["errors"] == [0, 0, 1, 0]
    assert result["left"] == ["room:a", "room:b", "exact"]


@versions
def test_a_second_channel_for_a_topic_replaces_the_first(play: Any, phoenix: str) -> None:
    """The first is closed and hears nothing more; the second is not disturbed by its end."""
    result = play("duplicate_topic", phoenix=phoenix)["result"]
    assert result == {"echo": ["ok", {"n": 2}], "states": ["closed", "joined"], "news": [[], [{"n": "1"}]]}


@serializers
def test_a_topic_can_be_left_and_joined_again(play: Any, vsn: str) -> None:
    """In between, and on the old channel, no event arrives."""
    assert play("leave_and_rejoin", vsn=vsn)["result"] == {
        "left": ["ok", {}],
        "response": [joined("room:again", again=True)],
        "states": ["closed", "joined"],
        "old": [],
        "fresh": [{"n": "2"}],
    }


def test_the_101st_join_is_refused(play: Any) -> None:
    """One socket may join a hundred topics."""
    results = play("joins_at_the_limit")["result"]
    assert [status for status, _ in results[:100]] == ["ok"] * 100
    assert results[100] == ["error", {"reason": "too many channels joined"}]


# pushes


@serializers_and_versions
def test_pushes_are_answered(play: Any, phoenix: str, vsn: str) -> None:
    """Every status and response comes back as the application gave it; no reply is a time-out."""
    payload = {"body": "hé ☃ 𝄞", "nested": [1, 2.5, None, {"deep": True}]}
    assert play("replies", phoenix=phoenix, vsn=vsn)["result"] == {
        "echo": ["ok", payload],
        "fail": ["error", payload],
        "ok_only": ["ok", {}],
        "error_only": ["error", {}],
        "custom_status": ["retry_later", payload],
        "push_then_reply": ["ok", payload],
        "late_reply": ["ok", {"ms": 50}],
        "noreply": ["timeout", {}],
    }


def test_a_reply_after_the_time_out_changes_nothing(play: Any) -> None:
    """The push has failed; the next one gets its own reply."""
    result = play("a_late_reply_is_ignored", time_scale=1.0)["result"]
    assert result == {"seen": ["timeout"], "late": {"response": {"ms": 300}, "status": "ok"}, "echo": ["ok", {"n": 1}]}


@serializers
def test_pushes_wait_for_connection_and_join(play: Any, vsn: str) -> None:
    """What is pushed before `connect` is sent, in order, behind the join."""
    assert play("pushes_before_the_connection", vsn=vsn)["result"] == [["ok", {"n": n}] for n in (1, 2, 3)]


@serializers
def test_replies_keep_the_order_of_the_pushes(play: Any, vsn: str) -> None:
    """Two hundred at once."""
    assert play("many_pushes_keep_their_order", vsn=vsn)["result"] == list(range(200))


@serializers
def test_what_a_handler_pushes_comes_before_its_reply(play: Any, vsn: str) -> None:
    """One event or three hundred, none lost."""
    assert play("push_arrives_before_its_reply", vsn=vsn)["result"] == [["pushed", {"z": 1}], ["ok", {"z": 1}]]
    ticks = play("server_pushes_come_before_the_reply", vsn=vsn)["result"]
    assert ticks == [*([i, 40] for i in range(1, 301)), {"n": 300}]


# the ends of channels


@serializers_and_versions
def test_a_crashed_channel_is_joined_again(play: Any, phoenix: str, vsn: str) -> None:
    """Whatever crashed it; the push that did it is never answered, and what is pushed meanwhile is sent after the join."""
    result = play("crashes", phoenix=phoenix, vsn=vsn)["result"]
    error = {"reason": "channel_crash"} if phoenix == "1.8.12" else {}
    for event in ("crash", "exit", "kill", "stop_abnormal", "no_such_event"):
        assert result["outcomes"].pop(event) == {"error": error, "push": ["timeout", {}], "buffered": ["ok", {"after": event}]}
    assert result == {"outcomes": {}, "joins": 6, "errors": 5, "connections": 1}


@versions
def test_a_channel_killed_on_the_server_is_joined_again(play: Any, phoenix: str) -> None:
    """Without any push that could be to blame."""
    result = play("killed_from_outside", phoenix=phoenix)["result"]
    error = {"reason": "channel_crash"} if phoenix == "1.8.12" else {}
    assert result == {"answered": "killed 1", "error": error, "echo": ["ok", {"n": 1}]}


@serializers_and_versions
def test_a_stopped_channel_stays_closed(play: Any, phoenix: str, vsn: str) -> None:
    """A stop is told as `phx_close`, on which the client does not join again; a reply that comes with it arrives."""
    result = play("stops", phoenix=phoenix, vsn=vsn)["result"]
    closed = {"state": "closed", "joins": 1, "errors": 0, "closes": [{}]}
    assert result["outcomes"] == {
        "stop": {**closed, "push": ["timeout", {}]},
        "stop_shutdown": {**closed, "push": ["timeout", {}]},
        "stop_reply": {**closed, "push": ["ok", {"bye": 1}]},
        "stop_soon": {**closed, "push": None},
    }
    assert (result["left"], result["channels"]) == ([], 0)


# rooms


@serializers_and_versions
def test_broadcasts_reach_everybody(play: Any, phoenix: str, vsn: str) -> None:
    """The sender too, except for `broadcast_from`; those made over HTTP as well."""
    result = play("broadcasts", phoenix=phoenix, vsn=vsn)["result"]
    assert result == {"reply": ["ok", {}], "alice": [1, 2, "4", 5], "bob": [1, 2, 3, "4", 5]}


@serializers
def test_events_of_after_join_follow_its_reply(play: Any, vsn: str) -> None:
    """First the reply, then the broadcast, then the push."""
    topic = {"topic": "room:after_join"}
    assert play("after_join", vsn=vsn)["result"] == [["ok"], ["user_entered", topic, None], ["joined", topic, None]]


@versions
def test_binary_frames_go_both_ways(play: Any, phoenix: str) -> None:
    """Pushes, replies of either status, server pushes and broadcasts of ArrayBuffers, empty and long ones too."""
    assert play("binary", phoenix=phoenix)["result"] == {
        "echo": ["ok", BYTES],
        "fail": ["error", BYTES],
        "empty": 0,
        "long": [70_000, 1],
        "fromText": "000102",
        "kind": "ArrayBuffer",
        "alice": [BYTES, BYTES],
        "bob": [BYTES],
    }


@serializers
def test_presence_follows_joins_updates_and_leaves(play: Any, vsn: str) -> None:
    """The client's own Presence class keeps the right list, also of a user with two connections."""
    result = play("presence_of_two", vsn=vsn)["result"]
    away = {"status": "away"}
    assert result["lists"] == {
        "both": [{"alice": [ONLINE], "bob": [ONLINE]}] * 2,
        "updated": {"alice": [ONLINE], "bob": [away]},
        "second": {"alice": [ONLINE, ONLINE], "bob": [away]},
        "alone": {"alice": [ONLINE]},
        "nobody": {},
    }
    assert result["update"] == [["join", "bob", [ONLINE], [away]], ["leave", "bob", [away], [ONLINE]]]
    assert result["second"] == ["join", "alice", [ONLINE], [ONLINE]]
    assert result["left"] == ["leave", "bob", [], [away]]
    assert result["gone"] == ["leave", "alice", [ONLINE], [ONLINE]]
    assert result["last"] == ["leave", "alice", [], [ONLINE]]
    assert (result["updated"], result["untracked"]) == (["ok", {}], ["ok", {}])


def test_presence_survives_a_reconnect(play: Any) -> None:
    """The others see a leave and a join; the list of who came back is synchronised anew."""
    result = play("presence_after_a_reconnect")["result"]
    assert result["told"] == [["leave", "bob", [], [ONLINE]], ["join", "bob", None, [ONLINE]]]
    assert result["lists"] == [{"alice": [ONLINE], "bob": [ONLINE]}] * 2


# connections


def came_back(code: int) -> dict[str, Any]:
    return {"code": code, "error": [CLOSED], "offline": ["ok", {"offline": True}], "connections": 2}


@serializers
def test_a_killed_transport_is_replaced(play: Any, vsn: str) -> None:
    """The client reconnects, joins again, and sends what was pushed meanwhile."""
    assert play("transport_killed", vsn=vsn)["result"] == came_back(1006)


@pytest.mark.parametrize(("code", "seen"), [(0, 1006), (1000, 1000), (1001, 1001), (1011, 1011), (1012, 1012), (4000, 4000)])
def test_a_kicked_client_comes_back(play: Any, code: int, seen: int) -> None:
    """Whatever the close code that the control API is told to use; 0 drops TCP."""
    assert play("kicked", code=code)["result"] == came_back(seen)


@pytest.mark.parametrize(("phoenix", "code"), [("1.7.24", 1000), ("1.8.12", 1001)])
def test_a_disconnected_client_comes_back(play: Any, phoenix: str, code: int) -> None:
    """`disconnect` closes with the code of the version."""
    assert play("disconnected", phoenix=phoenix)["result"] == came_back(code)


@versions
def test_a_drained_client_comes_back(play: Any, phoenix: str) -> None:
    """A draining server closes with 1012."""
    assert play("drained", phoenix=phoenix)["result"] == came_back(1012)


def test_a_disconnect_of_somebody_else_does_nothing(play: Any) -> None:
    """Only the sockets with the id are closed."""
    assert play("another_users_disconnect_is_not_ours")["result"] == {"echo": ["ok", {"n": 1}], "closes": []}


def test_every_channel_comes_back_after_a_cut(play: Any) -> None:
    """Each topic is joined a second time, with its own params."""
    outcome = play("all_channels_come_back")
    assert outcome["result"] == [["joined", 2, [CLOSED]]] * 3


def test_a_refused_client_tries_until_it_is_let_in(play: Any) -> None:
    """HTTP 503 in place of the upgrade, as often as the server wants."""
    result = play("refused_until_let_in")["result"]
    assert result["refused"] == ["Unexpected server response: 503"] * 3
    assert (result["joins"], result["connections"]) == (1, 1)


@versions
def test_a_client_with_a_wrong_token_tries_the_next(play: Any, phoenix: str) -> None:
    """A refused `connect` is HTTP 403, a crashed one 500; the params are made anew for each attempt."""
    result = play("wrong_tokens_are_retried", phoenix=phoenix)["result"]
    assert result["errors"] == [f"Unexpected server response: {status}" for status in (403, 403, 500)]
    assert result["response"]["connect_params"] == {"token": "good", "vsn": "2.0.0"}


def test_a_mount_with_its_own_errors_answers_429(play: Any) -> None:
    """Phoenix's `error_handler`."""
    assert play("wrong_tokens_are_retried", mount="err")["result"]["errors"][1] == "Unexpected server response: 429"


def test_a_closed_port_is_tried_again(play: Any) -> None:
    """Connection refused, three times over."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/socket"
        result = play("nobody_listens", url=url)["result"]
    assert result == {"errors": ["ECONNREFUSED"] * 3, "state": "closed"}


def test_an_auth_token_is_read_and_its_protocol_echoed(play: Any) -> None:
    """A token from a function is new in each connection; the server selects `phoenix` and never repeats the token."""
    outcome = play("tokens_are_made_anew")
    assert outcome["result"] == ["secret/tok+en 1", "secret/tok+en 2"]
    assert [frame["protocol"] for frame in outcome["frames"] if frame["opcode"] == "http"] == ["phoenix", "phoenix"]


@serializers
def test_heartbeats_are_answered(play: Any, vsn: str) -> None:
    """Each one, and the client keeps its connection."""
    result = play("heartbeats_are_answered", vsn=vsn)["result"]
    assert result["answers"] == [[None, {"response": {}, "status": "ok"}]] * 4
    assert (result["rtt"] < 1000, result["connections"]) == (True, 1)


def test_a_server_that_is_silent_to_heartbeats_is_left(play: Any) -> None:
    """The client gives the connection up, and joins over another."""
    result = play("a_silent_server_is_left")["result"]
    assert result == {"error": {"source": "transport", "reason": "heartbeat_timeout"}, "echo": ["ok", {"n": 1}], "back": True}


@versions
def test_an_unknown_vsn_is_refused(play: Any, phoenix: str) -> None:
    """Only what `~> 2.0.0` and `~> 1.0.0` allow."""
    refused = "Unexpected server response: 403"
    assert play("unknown_vsn_is_refused", phoenix=phoenix)["result"] == {
        "2.0.5": "open",
        "2.1.0": refused,
        "3.0.0": refused,
        "2": refused,
    }


@versions
def test_v2_frames_on_a_v1_socket_end_it(play: Any, phoenix: str) -> None:
    """The client's `vsn` option does not change what it writes: the server cannot decode it."""
    assert play("v2_frames_on_a_v1_socket", phoenix=phoenix)["result"] == 1011
