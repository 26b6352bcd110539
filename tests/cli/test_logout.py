"""`rig logout`."""

import pytest

from rig.auth import Token
from rig.auth.stores import FileStore


def test_the_token_is_deleted_wherever_it_is(rig, vault):
    """From the keyring and from the file; others stay."""
    vault.passwords = {("rig", "default"): "hunter2", ("rig", "other"): "x"}
    path = FileStore().write("default", Token("hunter2"))

    result = rig("logout")

    assert result.exit_code == 0
    assert result.stdout == f"Deleted from {path} and the keyring\n"
    assert vault.passwords == {("rig", "other"): "x"}
    assert not path.exists()


@pytest.mark.parametrize("usable", [True, False])
def test_without_a_token_it_ends_with_1(rig, vault, usable):
    """Nothing was deleted, and the user should know."""
    vault.usable(usable)

    result = rig("logout", "staging")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: there is no token staging: rig whoami staging shows where it was looked for\n"


def test_the_file_is_deleted_though_the_keyring_fails(rig, vault):
    """And the failure is told: the keyring may still have one."""
    path = FileStore().write("default", Token("hunter2"))
    vault.failure = RuntimeError("locked")

    result = rig("logout")

    assert result.exit_code == 1
    assert "the keyring did not do it (locked)" in result.stderr
    assert not path.exists()
