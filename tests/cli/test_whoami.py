"""`rig whoami`."""

import json
import time

import pytest


def test_it_shows_where_from_whose_and_until_when(rig, vault, jwt):
    """Everything but the token."""
    token = jwt(sub="alice", exp=int(time.time()) + 3600)
    vault.passwords["rig", "default"] = token

    result = rig("whoami")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["from   keyring:default (the keyring)", "whose  alice"]
    assert lines[2].startswith("until  20")
    assert lines[2].endswith((" UTC (3600 s left)", " UTC (3599 s left)", " UTC (3598 s left)"))
    assert token not in result.output
    assert token.split(".")[1] not in result.output


def test_a_token_that_says_nothing_is_shown_as_such(rig, vault):
    """An opaque token has neither owner nor end."""
    vault.passwords["rig", "staging"] = "hunter2-hunter2"

    result = rig("whoami", "staging")

    assert result.exit_code == 0
    assert result.stdout == (
        "from   keyring:staging (the keyring)\nwhose  unknown: it does not say\nuntil  unknown: it does not say\n"
    )


def test_an_expired_token_ends_with_4(rig, vault, jwt):
    """As a connection with it would."""
    vault.passwords["rig", "default"] = jwt(sub="alice", exp=1_700_000_000)

    result = rig("whoami")

    assert result.exit_code == 4
    assert "until  2023-11-14 22:13:20 UTC (expired)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Error: no token from keyring:default: the keyring has none: run rig login default"),
        (("staging",), "Error: no token from keyring:staging: the keyring has none: run rig login staging"),
        (("--auth", "env:APP_TOKEN"), "Error: no token from env:APP_TOKEN: APP_TOKEN is not set"),
        (("--auth", "command:false --hunter2"), "Error: no token from command:false: it ended with exit code 1"),
    ],
)
def test_without_a_token_it_ends_with_1(rig, vault, arguments, sentence):
    """And says what to do."""
    result = rig("whoami", *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(sentence)
    assert "hunter2" not in result.stderr


def test_it_looks_at_the_provider_that_is_configured(rig, vault, tmp_path, monkeypatch):
    """The variable of an env file is the one that `rig run` would send."""
    (tmp_path / "env").write_text("WHOAMI_TEST_TOKEN=hunter2-hunter2\nRIG_AUTH=env:WHOAMI_TEST_TOKEN\n")
    monkeypatch.setenv("WHOAMI_TEST_TOKEN", "to be undone")
    monkeypatch.delenv("WHOAMI_TEST_TOKEN")

    result = rig("whoami", "--env-file", "env")

    assert result.exit_code == 0
    assert result.stdout.startswith("from   env:WHOAMI_TEST_TOKEN\n")
    assert "hunter2" not in result.output


def test_a_name_counts_more_than_what_is_configured(rig, vault, monkeypatch):
    """It was typed just now."""
    monkeypatch.setenv("RIG_AUTH", "env:NOT_SET")
    vault.passwords["rig", "staging"] = "hunter2-hunter2"

    assert rig("whoami", "staging").stdout.startswith("from   keyring:staging ")


def test_a_claim_cannot_steer_the_terminal(rig, vault, jwt):
    """It is text of somebody else."""
    vault.passwords["rig", "default"] = jwt(sub="\x1b[2Jalice")

    assert "whose  ?[2Jalice\n" in rig("whoami").stdout


def test_an_end_beyond_all_calendars_is_shown(rig, vault, jwt):
    """A strange token is no traceback."""
    vault.passwords["rig", "default"] = jwt(exp=1e18)

    result = rig("whoami")

    assert result.exit_code == 0
    assert "until  1e+18 s after 1970" in result.stdout


def test_a_script_gets_json(rig, vault, jwt):
    """The same, and the end as seconds since 1970; the exit code stays."""
    vault.passwords["rig", "default"] = token = jwt(sub="\x1b[2Jalice", exp=1_700_000_000)
    vault.passwords["rig", "opaque"] = "hunter2-hunter2"
    about = {"where": "the keyring", "from": "keyring:default"}

    known, unknown = rig("whoami", "--json"), rig("whoami", "opaque", "--json")

    assert json.loads(known.stdout) == {**about, "subject": "?[2Jalice", "expires_at": 1_700_000_000, "expired": True}
    nothing_said = {"subject": None, "expires_at": None, "expired": False}
    assert json.loads(unknown.stdout) == {**about, "from": "keyring:opaque", **nothing_said}
    assert (known.exit_code, unknown.exit_code) == (4, 0)
    assert token not in known.output
    assert "hunter2" not in unknown.output


def test_without_a_token_there_is_no_json(rig, vault):
    """The sentence goes to stderr, and the exit code tells."""
    result = rig("whoami", "--json")

    assert (result.exit_code, result.stdout) == (1, "")
