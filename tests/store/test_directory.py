"""The state directory: private, and one run's alone."""

import os
import stat
from pathlib import Path

import pytest

from rig.errors import StateDirectoryBusy, StateDirectoryUnusable
from rig.store import StateDirectory


def test_it_is_ours_alone(tmp_path: Path) -> None:
    """Nobody else can look into the state directory, whatever the umask."""
    directory = StateDirectory(tmp_path / "deep" / "state")
    old = os.umask(0)
    try:
        directory.create()
        lock = directory.lock()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory.path / "lock").stat().st_mode) == 0o600
    lock.release()


def test_a_second_run_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    """Two runs on one directory would send everything twice: the second hears who was first."""
    directory = StateDirectory(tmp_path)
    directory.create()
    lock = directory.lock()
    with pytest.raises(StateDirectoryBusy, match=rf"process {os.getpid()}\).*--state-dir"):
        directory.lock()
    lock.release()
    directory.lock().release()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Where a file stands in the way, the sentence says so and what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(StateDirectoryUnusable, match=r"file/state.*--state-dir") as caught:
        StateDirectory(tmp_path / "file" / "state").create()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("name", "folder"), [("max", "max"), ("my app/../x", "my-app-..-x"), ("..", "app"), ("", "app")])
def test_the_name_of_an_application_names_its_folder(
    name: str, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without --state-dir each application has a folder of its own, below the platform's, whatever it is called."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert StateDirectory.of_app(name).path == tmp_path / "rig" / "apps" / folder
