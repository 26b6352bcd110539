"""
`file:PATH`: a token that something else keeps up to date, such as a mounted secret of Kubernetes.

What must stay true: it is read anew each time, because no time stamp tells two quick changes apart, and reading is cheap.
"""

import os
import stat
from pathlib import Path

import structlog

from rig.auth.token import Token
from rig.errors import TokenMissing, TokenUnavailable

_LARGEST_BYTES = 64 * 1024
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH

log = structlog.get_logger()


class FileProvider:
    """A file with the token and nothing else but blanks."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()
        self._warned = False
        self.name = f"file:{path}"

    def read(self) -> Token:
        """
        Return the token that is in the file now.

        Raises:
            TokenMissing: If there is no such file.
            TokenUnavailable: If it cannot be read, is empty or too large, or is no plain file.
        """
        try:
            # A pipe would make `open` wait for its writer, and the whole process with it.
            file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise TokenMissing(self.name, "there is no such file: write the token there, or check the name") from None
        except OSError as exc:
            raise self._unavailable(exc) from None
        try:
            return self._read(file)
        except OSError as exc:
            raise self._unavailable(exc) from None
        finally:
            os.close(file)

    async def fetch(self) -> Token:
        """Return what `read` does."""
        return self.read()

    def _read(self, file: int) -> Token:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise TokenUnavailable(self.name, "it is no plain file: a pipe or a folder cannot be read again and again")
        if about.st_mode & _OTHERS_READ and not self._warned:
            self._warned = True
            log.warning("others can read the token: chmod 600 it", provider=self.name, mode=f"{stat.S_IMODE(about.st_mode):04o}")
        content = os.read(file, _LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            raise TokenUnavailable(self.name, f"it is larger than {_LARGEST_BYTES // 1024} KiB: that is no token")
        text = content.decode("utf-8-sig", errors="surrogateescape")
        return Token.read(text, provider=self.name)

    def _unavailable(self, exc: OSError) -> TokenUnavailable:
        return TokenUnavailable(self.name, f"it cannot be read ({exc.strerror}): check the name and the permissions")
