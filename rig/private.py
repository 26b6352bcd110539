"""
Folders that only their owner can enter, and files in them: for tokens, and for what a run keeps.

Source: XDG Base Directory Specification, "Referencing this specification" (0700).
"""

import contextlib
import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path


def make_private(folder: Path) -> None:
    """
    Have a folder that only we can enter, and make those above it that are missing as private.

    One that is a link or belongs to somebody else was put there for us to fill: it is refused.

    Raises:
        OSError: If it cannot be made, or is not ours.
    """
    for missing in [above for above in reversed(folder.parents) if not above.exists()]:
        missing.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        about = os.fstat(opened)
        if about.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "its folder belongs to another user")
        if stat.S_IMODE(about.st_mode) != 0o700:
            os.fchmod(opened, 0o700)
    finally:
        os.close(opened)


def keep_newest(folder: Path, name: str, text: str, *, count: int) -> Path:
    """
    Write a private file of this moment into a private folder, and delete the oldest of its kind that are too many.

    Args:
        folder: Made if it is missing.
        name: How it ends, as `io.json`; before it stands the time, so that names sort as the files came.
        text: What it holds; it is there in full or not at all.
        count: How many files with the same ending are kept.

    Raises:
        OSError: If it cannot be written.
    """
    make_private(folder)
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z-{name}"
    part = path.with_suffix(".part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    for old in sorted(folder.glob(f"*{path.suffix}"))[:-count]:
        with contextlib.suppress(OSError):  # another process of the run deletes, too
            old.unlink()
    return path
