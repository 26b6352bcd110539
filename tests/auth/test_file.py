"""Tokens in files."""

import asyncio
import os

import pytest
from structlog.testing import capture_logs

from rig.auth.file import FileProvider
from rig.errors import TokenMissing, TokenUnavailable


@pytest.fixture
def file(tmp_path):
    """A file with a token, readable by its owner only."""
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("hunter2\n")
    return file


def fetch(provider):
    return asyncio.run(provider.fetch())


def test_a_file_holds_the_token_and_blanks(file):
    """An editor ends it with a line break."""
    assert fetch(FileProvider(file)).value == "hunter2"


def test_a_home_directory_may_be_written_with_a_tilde(file, monkeypatch):
    """No shell expands it behind `file:`."""
    monkeypatch.setenv("HOME", str(file.parent))

    assert fetch(FileProvider("~/token")).value == "hunter2"


def test_a_file_written_by_windows_is_read(file):
    """It begins with a byte order mark."""
    file.write_bytes(b"\xef\xbb\xbfhunter2\r\n")

    assert fetch(FileProvider(file)).value == "hunter2"


def test_a_file_that_is_rewritten_is_read_again(file):
    """Even at once, with the same size and in the same place."""
    provider = FileProvider(file)
    for number in range(50):
        file.write_text(f"token-{number:02}\n")
        assert fetch(provider).value == f"token-{number:02}"


def test_a_file_that_is_replaced_is_read_again(file):
    """Kubernetes turns a symlink."""
    link = file.with_name("link")
    link.symlink_to(file)
    provider = FileProvider(link)
    assert fetch(provider).value == "hunter2"

    other = file.with_name("other")
    other.touch(0o600)
    other.write_text("second")
    new = file.with_name("new")
    new.symlink_to(other)
    new.replace(link)

    assert fetch(provider).value == "second"


def test_a_file_that_is_gone_means_that_nobody_is_signed_in(file):
    """The token that was in it is not good any more."""
    provider = FileProvider(file)
    fetch(provider)
    file.unlink()

    with pytest.raises(TokenMissing, match="there is no such file"):
        fetch(provider)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"hunter2\nhunter2", b"\xffhunter2", b"hunter2" * 10_000], ids=lambda content: content[:9]
)
def test_a_file_without_a_token_is_refused_without_being_shown(file, content):
    """Empty, several lines, no text, or far too large; the file may be right in a moment."""
    file.write_bytes(content)

    with pytest.raises(TokenUnavailable) as refused:
        fetch(FileProvider(file))

    assert not isinstance(refused.value, TokenMissing)
    assert str(refused.value).startswith(f"no token from file:{file}: ")
    assert "hunter2" not in str(refused.value)


def test_a_file_that_may_not_be_read_is_named(file, monkeypatch):
    """The sentence says what the system said."""

    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("rig.auth.file.os.open", refuse)

    with pytest.raises(TokenUnavailable, match=r"token: it cannot be read \(Permission denied\): check"):
        fetch(FileProvider(file))


def test_a_folder_is_no_token(tmp_path):
    """Nor is anything else that is no file."""
    with pytest.raises(TokenUnavailable, match="it is no plain file"):
        fetch(FileProvider(tmp_path))


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    """A pipe gives its token once, and whoever opens it waits for its writer."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(TokenUnavailable, match="it is no plain file"):
        fetch(FileProvider(tmp_path / "pipe"))


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)])
def test_a_file_that_others_can_read_is_warned_about_once(file, mode, warnings):
    """Once is enough to be told."""
    file.chmod(mode)
    provider = FileProvider(file)

    with capture_logs() as logs:
        fetch(provider)
        fetch(provider)

    assert [(entry["log_level"], entry["mode"]) for entry in logs] == [("warning", f"0{mode:o}")] * warnings
    assert "hunter2" not in str(logs)


def test_no_descriptor_is_left_open(file, tmp_path):
    """A process that reads it for years does not run out of them."""
    before = len(os.listdir("/proc/self/fd"))
    provider, folder = FileProvider(file), FileProvider(tmp_path)
    for _ in range(10):
        fetch(provider)
        with pytest.raises(TokenUnavailable):
            fetch(folder)

    assert len(os.listdir("/proc/self/fd")) == before
