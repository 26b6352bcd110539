"""The socket in the state directory: for its owner alone, and whatever the path."""

import os
import socket
import stat
from pathlib import Path

import pytest

from rig.admin import address as address_module
from rig.admin.address import address, answers, listen, socket_path


@pytest.fixture
def deep(tmp_path):
    """A directory whose path is too long for the address of a socket."""
    directory = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 5)
    directory.mkdir(parents=True)
    assert len(os.fsencode(directory)) > 107
    return directory


def test_only_its_owner_can_connect(tmp_path):
    """Its mode is 0600 whatever the umask."""
    before = os.umask(0)
    try:
        listener = listen(tmp_path)
    finally:
        os.umask(before)
    with listener:
        mode = socket_path(tmp_path).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600


def test_there_is_no_moment_in_which_others_can(tmp_path, monkeypatch):
    """The file is made with this mode, and not given it later."""
    modes = []
    monkeypatch.setattr(Path, "chmod", lambda path, mode: modes.append(stat.S_IMODE(path.stat().st_mode)))
    with listen(tmp_path):
        assert modes == [0o600]


def test_a_socket_that_was_left_over_is_replaced(tmp_path):
    """A killed run does not keep the next one from being reached."""
    listen(tmp_path).close()
    assert socket_path(tmp_path).exists()
    assert not answers(tmp_path)

    with listen(tmp_path):
        assert answers(tmp_path)


def test_a_path_that_is_too_long_for_an_address_is_no_obstacle(deep):
    """The state directory may be anywhere."""
    with listen(deep):
        assert socket_path(deep).is_socket()
        assert answers(deep)
        with address(deep) as name:
            assert len(name) < 107
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    assert not answers(deep)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_where_a_system_has_no_short_name_for_it_the_error_says_so(deep, monkeypatch, tmp_path):
    """The run goes on without."""
    monkeypatch.setattr(address_module, "_BY_DESCRIPTOR", tmp_path / "nowhere")
    with pytest.raises(OSError, match="more than 107 bytes"):
        listen(deep)
    assert not answers(deep)


def test_a_directory_that_is_not_there_holds_no_socket(tmp_path):
    """Neither to listen on nor to ask."""
    with pytest.raises(OSError, match="No such file"):
        listen(tmp_path / "nowhere")
    assert not answers(tmp_path / "nowhere")


def test_a_file_that_is_no_socket_answers_nothing(tmp_path):
    """Somebody may have put it there."""
    socket_path(tmp_path).write_text("hello")
    assert not answers(tmp_path)
    with listen(tmp_path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(socket_path(tmp_path)))
