"""`rig.phoenix.presence`: phoenix.js's own cases, the recorded conversations, and a server that is a model."""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rig.errors import RemoteProtocolError
from rig.phoenix.presence import PresenceJoined, PresenceLeft, PresenceList, sync_diff, sync_state

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def someone(*refs, **more):
    """Return a presence with these metas."""
    return {"metas": [{"phx_ref": ref} for ref in refs], **more}


def diff(joins=None, leaves=None):
    """Return a diff's payload."""
    return {"joins": joins or {}, "leaves": leaves or {}}


@pytest.fixture
def presences():
    """A list that is synced in the life "1", with one key of two metas and one of one."""
    made = PresenceList()
    made.receive("presence_state", {"u1": someone("1", "2"), "u2": someone("3")}, "1")
    return made


# The list.


def test_first_list():
    """The first list is all joins, in its order."""
    state, changes = sync_state({}, {"u1": someone("1"), "u2": someone("2", name="b")})

    assert state == {"u1": someone("1"), "u2": someone("2", name="b")}
    assert changes == [PresenceJoined("u1", None, someone("1")), PresenceJoined("u2", None, someone("2", name="b"))]


def test_a_later_list_tells_who_joined_and_who_left():
    """Who is in the new list and not in the old one joined, and the reverse; the one who left has no metas any more."""
    state, changes = sync_state({"u1": someone("1"), "u2": someone("2")}, {"u2": someone("2"), "u3": someone("3")})

    assert state == {"u2": someone("2"), "u3": someone("3")}
    assert changes == [PresenceJoined("u3", None, someone("3")), PresenceLeft("u1", someone(), someone("1"))]


def test_a_later_list_tells_of_new_metas_only():
    """Of a key that stays, only metas that are new joined, and only those that are missing left."""
    state, changes = sync_state({"u1": someone("1", "2")}, {"u1": someone("3", "2")})

    assert state == {"u1": someone("2", "3")}
    assert changes == [
        PresenceJoined("u1", someone("1", "2"), someone("3")),
        PresenceLeft("u1", someone("2", "3"), someone("1")),
    ]


def test_the_same_list_changes_nothing():
    """A server that repeats its list tells nobody anything."""
    assert sync_state({"u1": someone("1")}, {"u1": someone("1")}) == ({"u1": someone("1")}, [])


def test_an_empty_list_is_a_list():
    """A key without metas is kept as the server says it, and goes when the server's list no longer has it."""
    state, _ = sync_state({}, {"u1": someone()})
    assert state == {"u1": someone()}
    assert sync_state(state, state) == (state, [])

    assert sync_state(state, {}) == ({}, [PresenceLeft("u1", someone(), someone())])


# Diffs.


def test_diff_on_nobody():
    """A diff's joins are the first presences."""
    state, changes = sync_diff({}, {"u1": someone("1")}, {})

    assert state == {"u1": someone("1")}
    assert changes == [PresenceJoined("u1", None, someone("1"))]


def test_new_metas_stand_after_those_that_stay():
    """A second connection of a key is appended."""
    state, changes = sync_diff({"u1": someone("1")}, {"u1": someone("2")}, {})

    assert state == {"u1": someone("1", "2")}
    assert changes == [PresenceJoined("u1", someone("1"), someone("2"))]


def test_the_last_meta_takes_its_key_along():
    """A key without metas is gone; another key's join in the same diff is told first."""
    state, changes = sync_diff({"u1": someone("1"), "u2": someone("2")}, {"u1": someone("3")}, {"u2": someone("2")})

    assert state == {"u1": someone("1", "3")}
    assert [type(change) for change in changes] == [PresenceJoined, PresenceLeft]


def test_a_partial_leave_keeps_the_key():
    """Where other metas are left the key stays."""
    state, changes = sync_diff({"u1": someone("1", "2", name="a")}, {}, {"u1": someone("1")})

    assert state == {"u1": someone("2", name="a")}
    assert changes == [PresenceLeft("u1", someone("2", name="a"), someone("1"))]


def test_an_update_replaces_its_meta():
    """An update is a leave and a join in one diff: the key never goes, and its join sees what was there before."""
    old, new = {"phx_ref": "1", "age": 1}, {"phx_ref": "2", "phx_ref_prev": "1", "age": 2}
    state, changes = sync_diff({"u1": {"metas": [old]}}, {"u1": {"metas": [new]}}, {"u1": {"metas": [old]}})

    assert state == {"u1": {"metas": [new]}}
    assert changes == [
        PresenceJoined("u1", {"metas": [old]}, {"metas": [new]}),
        PresenceLeft("u1", {"metas": [new]}, {"metas": [old]}),
    ]


def test_a_diff_that_repeats_what_the_list_said_is_not_told():
    """After a join the own diff often comes beside the list that has it: nobody joins twice, and nobody unknown leaves."""
    state = {"u1": someone("1", "2")}

    assert sync_diff(state, {"u1": someone("2")}, {"u1": someone("9"), "u2": someone("3")}) == (state, [])
    assert sync_diff(state, {"u1": someone("2", "3")}, {}) == (
        {"u1": someone("1", "2", "3")},
        [PresenceJoined("u1", someone("1", "2"), someone("3"))],
    )


@pytest.mark.parametrize("key", ["__proto__", "constructor", "__class__", "", "metas", "phx_ref"])
def test_any_key_is_a_plain_key(key):
    """Names that mean something to a language mean nothing here."""
    state, _ = sync_state({}, json.loads(json.dumps({key: someone("1")})))
    assert state == {key: someone("1")}

    assert sync_diff(state, {}, {key: someone("1")})[0] == {}


# Over the lives of a channel.


def test_list_and_diffs(presences):
    """The list comes first, then diffs change it."""
    changes = presences.receive("presence_diff", diff({"u3": someone("4")}, {"u2": someone("3")}), "1")

    assert presences.state == {"u1": someone("1", "2"), "u3": someone("4")}
    assert changes == [PresenceJoined("u3", None, someone("4")), PresenceLeft("u2", someone(), someone("3"))]


def test_diffs_before_the_list_wait_for_it():
    """A diff that overtakes the list is applied after it, and what it changed is told after what the list changed."""
    presences = PresenceList()
    assert presences.receive("presence_diff", diff({}, {"u1": someone("1")}), "1") is None
    assert presences.receive("presence_diff", diff({"u3": someone("3")}), "1") is None
    assert presences.state == {}
    assert not presences.synced("1")

    changes = presences.receive("presence_state", {"u1": someone("1"), "u2": someone("2")}, "1")

    assert presences.state == {"u2": someone("2"), "u3": someone("3")}
    assert [(type(change), change.key) for change in changes] == [
        (PresenceJoined, "u1"),
        (PresenceJoined, "u2"),
        (PresenceLeft, "u1"),
        (PresenceJoined, "u3"),
    ]
    assert presences.synced("1")


def test_after_a_rejoin_diffs_wait_for_the_new_list(presences):
    """Until the new life's list is there the old one stands; then the difference is told, then the diffs."""
    assert presences.receive("presence_diff", diff({"u3": someone("4")}), "2") is None
    assert presences.state == {"u1": someone("1", "2"), "u2": someone("3")}
    assert not presences.synced("2")

    changes = presences.receive("presence_state", {"u2": someone("3")}, "2")

    assert presences.state == {"u2": someone("3"), "u3": someone("4")}
    assert changes == [PresenceLeft("u1", someone(), someone("1", "2")), PresenceJoined("u3", None, someone("4"))]
    assert presences.synced("2")


def test_diffs_of_a_life_without_a_list_are_forgotten():
    """A life that ended before its list came leaves no ghost behind."""
    presences = PresenceList()
    presences.receive("presence_diff", diff({"ghost": someone("1")}), "1")
    presences.receive("presence_state", {}, "2")
    assert presences.state == {}

    presences.receive("presence_diff", diff({"ghost": someone("1")}), "3")
    presences.receive("presence_diff", diff({"u1": someone("2")}), "4")
    presences.receive("presence_state", {}, "4")

    assert presences.state == {"u1": someone("2")}


def test_diffs_are_applied_once(presences):
    """What waited is gone with the list that it waited for."""
    presences.receive("presence_diff", diff({"u3": someone("4")}), "2")
    presences.receive("presence_state", {}, "2")

    assert presences.receive("presence_state", {}, "2") == [PresenceLeft("u3", someone(), someone("4"))]
    assert presences.state == {}


def test_not_synced_without_a_life(presences):
    """A channel that has no life is never up to date."""
    assert not PresenceList().synced(None)
    assert not presences.synced(None)


def test_list_by_default_and_by_choice(presences):
    """The presences, or what a function makes of each key and presence."""
    assert presences.list() == [someone("1", "2"), someone("3")]
    assert presences.list(lambda key, presence: (key, len(presence["metas"]))) == [("u1", 2), ("u2", 1)]


def test_events_of_other_names():
    """A server may call the two events as it likes."""
    presences = PresenceList(state_event="the_state", diff_event="the_diff")

    assert [presences.follows(event) for event in ("the_state", "the_diff", "presence_state")] == [True, True, False]
    presences.receive("the_state", {"u1": someone("1")}, "1")
    presences.receive("the_diff", diff({"u2": someone("2")}), "1")
    assert presences.state == {"u1": someone("1"), "u2": someone("2")}


@pytest.mark.parametrize(
    "payload",
    [None, [], 1, b"\0", {}, {"joins": {}}, {"joins": {}, "leaves": []}, {"joins": {"u": 1}, "leaves": {}}],
)
def test_a_diff_that_does_not_fit_loses_nothing(presences, payload):
    """The peer's mistake is told, and the list is what it was, also for the diffs that follow."""
    before = copy.deepcopy(presences.state)

    with pytest.raises(RemoteProtocolError):
        presences.receive("presence_diff", payload, "1")
    assert presences.state == before
    assert presences.receive("presence_diff", diff({}, {"u2": someone("3")}), "1")


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [someone("1")],
        {"u": None},
        {"u": {}},
        {"u": {"metas": {}}},
        {"u": {"metas": [1]}},
        {"u": {"metas": [{}]}},
        {"u": {"metas": [{"phx_ref": []}]}},
        {"good": someone("1"), "u": {"metas": None}},
    ],
)
def test_a_list_that_does_not_fit_loses_nothing(presences, payload):
    """Half a list is none: who is there stays, and so does what waits for the list of this life."""
    before = copy.deepcopy(presences.state)
    presences.receive("presence_diff", diff({"u4": someone("9")}), "2")

    with pytest.raises(RemoteProtocolError):
        presences.receive("presence_state", payload, "2")
    assert presences.state == before
    presences.receive("presence_state", {}, "2")
    assert presences.state == {"u4": someone("9")}


ONLINE = {"online_at": 1700000000}
AT_THE_END = {
    "presence": {"A": {}, "B": {"alice": [ONLINE, ONLINE], "bob": [{"status": "away"}]}, "C": {"alice": [ONLINE, ONLINE]}},
    "js": {"ws1": {"u": [{"st": 1}]}},
}
"""Whom each recorded client saw when it heard last, without refs: alice is there twice, bob was updated and left."""


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*presence.json")), ids=lambda path: path.stem)
def test_recorded_presences(path):
    """After each recorded conversation every client's list is what the server's application had come to."""
    lists = {}
    for frame in json.loads(path.read_text())["frames"]:
        if (frame["dir"], frame["opcode"]) != ("recv", "text"):
            continue
        message = json.loads(frame["data"])
        event, payload = message[3:] if isinstance(message, list) else (message["event"], message["payload"])
        presences = lists.setdefault(frame["conn"], PresenceList())
        if presences.follows(event):
            presences.receive(event, payload, "1")

    def without_refs(key, presence):
        return key, [{name: meta[name] for name in meta if not name.startswith("phx_ref")} for meta in presence["metas"]]

    expected = AT_THE_END["js" if path.stem.startswith("js-") else "presence"]
    assert {conn: dict(presences.list(without_refs)) for conn, presences in lists.items()} == expected


# A server that is a model.

KEYS = st.sampled_from(["a", "b", "__proto__"])


class PresenceMachine(RuleBasedStateMachine):
    """A server that tracks metas, and a client that loses its connection: diffs and list reach it in any order that can be."""

    def __init__(self):
        super().__init__()
        self.tracked, self.refs, self.lives = {}, 0, 1
        self.presences, self.told = PresenceList(), {}
        self.on_the_way, self.list_due = [], True

    def new_meta(self, **more):
        self.refs += 1
        return {"phx_ref": str(self.refs), **more}

    def say(self, joins, leaves):
        grouped = diff()
        for side, metas in (("joins", joins), ("leaves", leaves)):
            for key, meta in metas:
                grouped[side].setdefault(key, {"metas": []})["metas"].append(meta)
        self.on_the_way.append(("presence_diff", json.dumps(grouped)))

    @rule(keys=st.lists(KEYS, min_size=1, max_size=3))
    def track(self, keys):
        metas = [(key, self.new_meta()) for key in keys]
        for key, meta in metas:
            self.tracked.setdefault(key, []).append(meta)
        self.say(metas, [])

    @precondition(lambda self: self.tracked)
    @rule(data=st.data(), update=st.booleans())
    def update_or_untrack(self, data, update):
        key = data.draw(st.sampled_from(sorted(self.tracked)))
        old = self.tracked[key].pop(data.draw(st.integers(0, len(self.tracked[key]) - 1)))
        new = [self.new_meta(phx_ref_prev=old["phx_ref"])] if update else []
        self.tracked[key] += new
        if not self.tracked[key]:
            del self.tracked[key]
        self.say([(key, meta) for meta in new], [(key, old)])

    @precondition(lambda self: self.list_due)
    @rule(data=st.data())
    def send_the_list(self, data):
        """The channel's process sends the list, diffs come from elsewhere: it may overtake some of those before it."""
        self.list_due = False
        state = json.dumps({key: {"metas": metas} for key, metas in self.tracked.items()})
        self.on_the_way.insert(data.draw(st.integers(0, len(self.on_the_way))), ("presence_state", state))

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data())
    def receive(self, data):
        for _ in range(data.draw(st.integers(1, len(self.on_the_way)))):
            event, text = self.on_the_way.pop(0)
            payload = json.loads(text)
            self.tell(self.presences.receive(event, payload, str(self.lives)))
            assert payload == json.loads(text)

    @rule()
    def rejoin(self):
        self.lives += 1
        self.on_the_way, self.list_due = [], True

    def tell(self, changes):
        """An owner that only listens to changes knows the whole list."""
        for change in changes or []:
            known = self.told.setdefault(change.key, set())
            match change:
                case PresenceJoined(key, current, new):
                    assert {m["phx_ref"] for m in current["metas"]} == known if current else not known
                    joined = {m["phx_ref"] for m in new["metas"]}
                    assert joined
                    assert not joined & known
                    known |= joined
                case PresenceLeft(key, current, left):
                    gone = {m["phx_ref"] for m in left["metas"]}
                    assert gone
                    assert gone <= known
                    known -= gone
                    assert {m["phx_ref"] for m in current["metas"]} == known
            if not known:
                del self.told[key]

    @invariant()
    def what_is_told_is_the_list(self):
        assert refs(self.presences.state) == self.told

    @invariant()
    def once_everything_has_arrived_the_list_is_the_servers(self):
        if not self.list_due and not self.on_the_way:
            assert refs(self.presences.state) == refs({key: {"metas": metas} for key, metas in self.tracked.items()})


def refs(presences):
    """Return the refs of each key."""
    return {key: {meta["phx_ref"] for meta in presence["metas"]} for key, presence in presences.items()}


TestPresenceMachine = PresenceMachine.TestCase


@given(
    st.recursive(
        st.none() | st.text(max_size=3),
        lambda p: (
            st.lists(p, max_size=3) | st.dictionaries(st.sampled_from(["joins", "leaves", "u", "metas", "phx_ref"]), p, max_size=3)
        ),
        max_leaves=12,
    ),
    st.booleans(),
)
def test_any_json_is_taken_or_rejected(payload, is_state):
    """Whatever a server sends under these names: it fits, or it is rejected and nothing has changed."""
    presences = PresenceList()
    presences.receive("presence_state", {"u": someone("1")}, "1")
    before, sent = copy.deepcopy(presences.state), copy.deepcopy(payload)
    try:
        presences.receive("presence_state" if is_state else "presence_diff", payload, "1")
    except RemoteProtocolError:
        assert presences.state == before
    assert payload == sent
