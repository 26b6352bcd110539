"""
Folders that only their owner can enter: for tokens, and for what a run keeps.

Source: XDG Base Directory Specification, "Referencing this specification" (0700).
"""

import errno
import os
import stat
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
