"""Folders and files that only their owner can read."""

import os
import stat
from pathlib import Path

import pytest

from rig.private import keep_newest, make_private


def test_a_folder_is_closed_to_others_with_those_above_it(tmp_path: Path) -> None:
    """Whatever the umask, and one that stood open is closed."""
    old = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b")
    finally:
        os.umask(old)
    (tmp_path / "open").mkdir(mode=0o755)
    make_private(tmp_path / "open")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "open")] == [0o700] * 3


def test_a_link_is_no_folder_of_ours(tmp_path: Path) -> None:
    """Somebody may have put it there for us to fill."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match="link"):
        make_private(tmp_path / "link")


def test_the_newest_files_of_a_kind_are_kept(tmp_path: Path) -> None:
    """In the order in which they were written, private, and others are left alone."""
    other = keep_newest(tmp_path, "x.txt", "other", count=1)
    written = [keep_newest(tmp_path, "io.json", str(number), count=3) for number in range(5)]
    assert sorted(tmp_path.glob("*.json")) == written[2:]
    assert [path.read_text() for path in written[2:]] == ["2", "3", "4"]
    assert other.read_text() == "other"
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_half_a_file_is_none(tmp_path: Path) -> None:
    """What cannot be written leaves nothing behind."""
    with pytest.raises(UnicodeEncodeError):
        keep_newest(tmp_path, "io.json", "\udcff", count=3)
    assert list(tmp_path.iterdir()) == []
