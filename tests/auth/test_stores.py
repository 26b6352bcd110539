"""Where `rig login` keeps tokens."""

import os
import stat

import keyring
import pytest
from keyring.backends import fail, null

from rig.auth import Token
from rig.auth.stores import FileStore, KeyringStore, keyring_store
from rig.errors import TokenMissing, TokenNotStored, TokenUnavailable

TOKEN = Token("hunter2")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def files(tmp_path):
    return FileStore(tmp_path / "a" / "tokens")


@pytest.fixture(params=["keyring", "files"])
def store(request, vault, files):
    """Both stores in turn."""
    return keyring_store() if request.param == "keyring" else files


def test_what_is_stored_is_found(store):
    """Under its name, and the last one counts."""
    store.write("a", Token("first"))
    store.write("a", TOKEN)
    store.write("b", Token("other"))

    assert store.read("a") == TOKEN
    assert store.read("b").value == "other"


def test_what_is_deleted_is_gone(store):
    """And deleting says whether there was something."""
    store.write("a", TOKEN)

    assert store.delete("a")
    assert not store.delete("a")
    with pytest.raises(TokenMissing):
        store.read("a")


def test_only_the_owner_can_read_the_file(files):
    """0600 in a folder with 0700, whatever the umask, and though the folder was there with other rights."""
    before = os.umask(0)
    try:
        path = files.write("a", TOKEN)
        assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o600, 0o700, 0o700)

        path.parent.chmod(0o755)
        path.chmod(0o644)
        files.write("a", TOKEN)
        assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    finally:
        os.umask(before)


def test_a_folder_of_somebody_else_is_not_filled(files, monkeypatch):
    """Whoever has put it there could read what is in it, or take it away."""
    path = files.write("a", Token("first"))
    monkeypatch.setattr("rig.auth.stores.os.geteuid", lambda: os.getuid() + 1)

    with pytest.raises(TokenNotStored, match="its folder belongs to another user"):
        files.write("a", TOKEN)
    assert path.read_text() == "first"


def test_a_link_in_the_place_of_the_folder_is_not_followed(files, tmp_path):
    """The token would be elsewhere, and that place would be closed to everybody else."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tokens").symlink_to(elsewhere)

    with pytest.raises(TokenNotStored, match="did not do it"):
        files.write("a", TOKEN)
    assert (os.listdir(elsewhere), mode(elsewhere)) == ([], 0o755)


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(files, tmp_path):
    """What it points to stays as it is, when a token is stored and when it is deleted."""
    path = files.write("a", Token("first"))
    other = tmp_path / "other"
    other.write_text("mine")
    path.unlink()
    path.symlink_to(other)

    files.write("a", TOKEN)
    assert (path.is_symlink(), other.read_text(), files.read("a")) == (False, "mine", TOKEN)

    path.unlink()
    path.symlink_to(other)
    assert files.delete("a")
    assert other.read_text() == "mine"


def test_a_file_is_replaced_in_one_step(files, monkeypatch):
    """A full disk leaves the old token, and no half of the new one."""
    path = files.write("a", Token("first"))

    def fail_to_sync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rig.auth.stores.os.fsync", fail_to_sync)
    with pytest.raises(TokenNotStored, match=r"a\.token did not do it \(No space left on device\)") as refused:
        files.write("a", TOKEN)

    assert "hunter2" not in str(refused.value)
    assert files.read("a").value == "first"
    assert os.listdir(path.parent) == ["a.token"]


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "..", "a/b", "ä b"])
def test_no_name_leads_out_of_the_folder(files, name):
    """A name is a name, not a path."""
    path = files.write(name, TOKEN)

    assert path.parent == files.path("x").parent
    assert os.listdir(path.parent) == [path.name]
    assert files.read(name) == TOKEN


def test_files_are_in_the_state_directory(vault, tmp_path):
    """Where the platform wants such things."""
    assert FileStore().path("a") == tmp_path / "state" / "rig" / "tokens" / "a.token"


@pytest.mark.parametrize("backend", [fail.Keyring, null.Keyring])
def test_a_backend_that_keeps_nothing_counts_as_none(vault, backend):
    """A token in the null backend would be lost without a word."""
    keyring.set_keyring(backend())

    assert keyring_store() == "this system has no keyring that can be used"


def test_a_backend_that_cannot_be_loaded_counts_as_none(vault, monkeypatch):
    """Somebody has named one that is not installed."""

    def missing():
        raise ModuleNotFoundError("No module named 'keyrings'")

    monkeypatch.setattr(keyring, "get_keyring", missing)

    assert keyring_store() == "the keyring cannot be used (No module named 'keyrings')"


def test_without_the_package_there_is_no_keyring(vault, monkeypatch):
    """The sentence says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)

    assert "pip install 'rig-channels[keyring]'" in keyring_store()


def test_a_keyring_that_fails_is_told_without_the_token(vault):
    """Whatever a backend raises is a sentence, and may repeat what it was given."""
    store = keyring_store()
    assert isinstance(store, KeyringStore)
    vault.failure = RuntimeError("locked\x1b: hunter2")

    with pytest.raises(TokenNotStored) as refused:
        store.write("a", TOKEN)
    assert str(refused.value) == "the keyring did not do it (locked : ***): make it usable and try again"
    vault.failure = RuntimeError("locked")
    with pytest.raises(TokenNotStored, match="locked"):
        store.delete("a")
    with pytest.raises(TokenUnavailable, match=r"no token from keyring:a: the keyring failed \(locked\)") as unread:
        store.read("a")
    assert not isinstance(unread.value, TokenMissing)
