"""
The state directory: what a run keeps, and the lock that only one run can hold.

    lock            held by the supervisor while it lives; names its process
    rig.db          outbox, dead letters, cursors
    spill.db        events that the workers were too slow for
    flight/         what happened before a connection was lost
    stalls/         where a worker stood that handled nothing

What must stay true: the folder is 0700, and every file in it 0600.
"""

import contextlib
import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from rig.errors import ConfigError, StateDirectoryBusy, StateDirectoryUnusable
from rig.private import make_private

_UNFIT = re.compile(r"[^\w.-]+")


class Lock:
    """Held until `release`, or until the process is gone, however it ends."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Let another run have the directory."""
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """A folder, and what lies where in it."""

    path: Path

    @classmethod
    def of_app(cls, name: str) -> "StateDirectory":
        """Return the directory of an application that was given none: the platform's place for state, and its name there."""
        return cls(root() / (_UNFIT.sub("-", name).strip(".-") or "app"))

    @classmethod
    def find(cls, named: str | None) -> "StateDirectory":
        """
        Return the directory that is meant where no application is known: the one named, else the only one there is.

        Args:
            named: What `--state-dir` says.

        Raises:
            ConfigError: If there is none, or several and none is named, or nothing is stored in the one that is named.
        """
        if named is not None:
            found = [cls(Path(named).absolute())]
        else:
            found = [cls(path) for path in sorted(root().glob("*")) if cls(path).database.is_file()]
        if not found:
            raise ConfigError(f"there is no state directory in {root()}: name one with --state-dir")
        if len(found) > 1:
            listed = ", ".join(str(directory.path) for directory in found)
            raise ConfigError(f"there are several state directories: name one with --state-dir, of {listed}")
        if not found[0].database.is_file():
            raise ConfigError(
                f"{found[0].path} is not the state directory of a run: start rig run with it once, or name another with --state-dir"
            )
        return found[0]

    @property
    def database(self) -> Path:
        """Outbox, dead letters and cursors."""
        return self.path / "rig.db"

    @property
    def has_database(self) -> bool:
        """True if there is something where the database belongs."""
        return self.database.exists()

    @property
    def spill(self) -> Path:
        """Events that the workers were too slow for."""
        return self.path / "spill.db"

    @property
    def flights(self) -> Path:
        """The dumps of the flight recorder."""
        return self.path / "flight"

    @property
    def stalls(self) -> Path:
        """The reports of workers that handled nothing."""
        return self.path / "stalls"

    def create(self) -> None:
        """
        Have it, for us alone.

        Raises:
            StateDirectoryUnusable: If it cannot be made, or belongs to somebody else.
        """
        try:
            make_private(self.path.resolve())
        except OSError as exc:
            raise StateDirectoryUnusable(str(self.path), exc.strerror or str(exc)) from exc

    def lock(self) -> Lock:
        """
        Take it for one run.

        Raises:
            StateDirectoryBusy: If another run has it.
            StateDirectoryUnusable: If it cannot be written to.
        """
        try:
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise StateDirectoryUnusable(str(self.path), exc.strerror or str(exc)) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise StateDirectoryBusy(str(self.path), holder) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only its owner's number is not there to be read
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        return Lock(fd)


def root() -> Path:
    """
    Return the folder of all directories that were not named by `--state-dir`.

    Source: XDG Base Directory Specification, XDG_STATE_HOME, by way of platformdirs.
    """
    import platformdirs

    return platformdirs.user_state_path("rig") / "apps"
