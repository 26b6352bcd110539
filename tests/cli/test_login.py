"""`rig login`."""

import os
import pty
import stat
import subprocess
import sys

import pytest


def test_a_token_from_stdin_is_stored_in_the_keyring(rig, vault):
    """For scripts; the sentence says how to use it, and does not show it."""
    result = rig("login", "--token", "-", stdin="hunter2\n")

    assert result.exit_code == 0
    assert vault.passwords == {("rig", "default"): "hunter2"}
    assert result.stdout == "Stored in the keyring. Use it with --auth keyring:default\n"


def test_without_a_keyring_it_is_a_file_of_its_owner_only(rig, vault, tmp_path):
    """The user is told that it is one, and why."""
    vault.usable(False)

    result = rig("login", "staging", "--token", "-", stdin="hunter2")
    file = tmp_path / "state" / "rig" / "tokens" / "staging.token"

    assert result.exit_code == 0
    assert file.read_text() == "hunter2"
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    assert f"Stored in {file}. Use it with --auth keyring:staging" in result.stdout
    assert "no keyring that can be used" in result.stderr


def test_a_token_is_kept_in_one_place(rig, vault, tmp_path):
    """The file of an earlier login goes when the keyring takes the new token."""
    vault.usable(False)
    rig("login", "--token", "-", stdin="first")
    vault.usable(True)

    rig("login", "--token", "-", stdin="second")

    assert os.listdir(tmp_path / "state" / "rig" / "tokens") == []


def test_a_keyring_that_refuses_is_told_and_no_file_takes_its_place(rig, vault, tmp_path):
    """Whoever has a keyring did not ask for a file."""
    vault.failure = RuntimeError("locked")

    result = rig("login", "--token", "-", stdin="hunter2")

    assert result.exit_code == 1
    assert result.stderr == "Error: the keyring did not do it (locked): make it usable and try again\n"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("arguments", [("--token", "hunter2"), ("--token=hunter2",)])
def test_a_token_on_the_command_line_is_refused_without_being_shown(rig, vault, arguments):
    """Others can read it there."""
    result = rig("login", *arguments)

    assert result.exit_code == 2
    assert "can be read by others; write --token -" in result.stderr
    assert "hunter2" not in result.output
    assert vault.passwords == {}


def test_a_token_in_the_place_of_the_name_is_refused_without_being_shown(rig, vault, jwt):
    """It is an easy mistake."""
    for name in (jwt(sub="alice"), "hunter2" * 20, " "):
        result = rig("login", name, "--token", "-", stdin="x")
        assert result.exit_code == 2
        assert "that is no name" in result.stderr
        assert name.strip() == "" or name not in result.output
    assert vault.passwords == {}


@pytest.mark.parametrize(("typed", "sentence"), [("", "is empty"), ("hunter2\nhunter2", "line break")])
def test_what_is_no_token_is_not_stored(rig, vault, typed, sentence):
    """The last one stays."""
    result = rig("login", "--token", "-", stdin=typed)

    assert result.exit_code == 4
    assert sentence in result.stderr
    assert "hunter2" not in result.output
    assert vault.passwords == {}


def test_an_expired_token_is_not_stored(rig, vault, jwt):
    """It is noticed now, and not at the first connect."""
    result = rig("login", "--token", "-", stdin=jwt(exp=1))

    assert (result.exit_code, vault.passwords) == (4, {})
    assert "has expired: get a new one" in result.stderr


def test_without_a_terminal_it_does_not_wait_for_an_answer(rig, vault):
    """A job that calls it by mistake ends."""
    result = rig("login", stdin="hunter2")

    assert result.exit_code == 2
    assert "write --token -" in result.stderr


def test_at_a_terminal_the_token_is_asked_for_and_not_shown(tmp_path):
    """Whoever looks over the shoulder, or scrolls back, sees nothing."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    process = subprocess.Popen(
        [sys.executable, "-m", "rig", "login"], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
    )
    os.close(theirs)
    seen = b""
    while b"Token: " not in seen:
        seen += os.read(ours, 1000)
    os.write(ours, b"hunter2\n")
    try:
        while chunk := os.read(ours, 1000):
            seen += chunk
    except OSError:  # Linux: the terminal is gone
        pass
    os.close(ours)

    assert process.wait(timeout=10) == 0, seen
    assert b"hunter2" not in seen
    assert (tmp_path / "rig" / "tokens" / "default.token").read_text() == "hunter2"
