"""`rig topics`: what is asked of a run, and what is printed of its answer."""

import json

import pytest

from rig.errors import NoRun

MOVED = {"name": "io-0", "endpoint": "ws://a/socket", "topics": 3, "seconds": 0.123, "failure": ""}
STAYED = {"name": "io-1", "endpoint": "", "topics": 0, "seconds": 0.0, "failure": "it was not handed over: no"}


class FakeAdmin:
    """A run that answers as the test says."""

    def __init__(self, directory):
        self.directory, self.asked, self.found = directory, [], []
        self.answer = (200, {})

    def find(self, state_dir):
        self.found.append(state_dir)
        if self.directory is None:
            raise NoRun("no run answers: start one")
        return self.directory

    async def ask(self, directory, method, path):
        self.asked.append((directory, method, path))
        return self.answer


@pytest.fixture
def admin(replace_module, tmp_path):
    fake = FakeAdmin(tmp_path)
    replace_module("rig.admin.client", find=fake.find, ask=fake.ask)
    return fake


def test_topics_are_listed_one_a_line(rig, admin, tmp_path):
    """Topic, state and io process, with tabs between, for cut and awk."""
    admin.answer = (
        200,
        {"topics": [{"topic": "a:1", "state": "joined", "io": "io"}, {"topic": "b", "state": "errored", "io": "io"}]},
    )
    result = rig("topics", "list")

    assert result.exit_code == 0
    assert result.stdout == "a:1\tjoined\tio\nb\terrored\tio\n"
    assert admin.asked == [(tmp_path, "GET", "/topics")]
    assert admin.found == [None]


def test_json_is_what_the_run_said(rig, admin):
    """For programs."""
    for command, answer in (("list", {"topics": []}), ("rotate", {"io": [MOVED]})):
        admin.answer = (200, answer)
        result = rig("topics", command, "--json")
        assert (result.exit_code, json.loads(result.stdout)) == (0, answer)


@pytest.mark.parametrize(
    ("args", "environ"),
    [(("--state-dir", "/var/lib/shop"), {}), ((), {"RIG_STATE_DIR": "/var/lib/shop"}), ((), {"STATE_DIRECTORY": "/var/lib/shop"})],
)
def test_the_run_is_named_as_for_rig_run(rig, admin, monkeypatch, args, environ):
    """The same flag and variables lead to the same directory."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    admin.answer = (200, {"topics": []})
    assert rig("topics", "list", *args).exit_code == 0
    assert admin.found == ["/var/lib/shop"]


def test_a_rotation_says_where_the_topics_are_now(rig, admin, tmp_path):
    """And how long it took."""
    admin.answer = (200, {"io": [MOVED]})
    result = rig("topics", "rotate")

    assert result.exit_code == 0
    assert result.stdout == "io-0: 3 topics are at ws://a/socket now (0.12 s)\n"
    assert admin.asked == [(tmp_path, "POST", "/rotate")]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_connection_that_stayed_is_a_failure(rig, admin, form):
    """Said on stderr, with what kept it."""
    admin.answer = (409, {"io": [MOVED, STAYED]})
    result = rig("topics", "rotate", *form)

    assert result.exit_code == 1
    assert result.stderr == "Error: io-1: it was not handed over: no\n"


def test_without_a_run_there_is_a_sentence(rig, admin):
    """And no traceback."""
    admin.directory = None
    result = rig("topics", "list")
    assert (result.exit_code, result.stderr) == (1, "Error: no run answers: start one\n")


def test_an_answer_that_is_an_error_is_passed_on(rig, admin):
    """The run may be of another version."""
    admin.answer = (404, {"error": "GET /topics: Not Found"})
    result = rig("topics", "list")
    assert result.exit_code == 1
    assert "GET /topics: Not Found" in result.stderr
