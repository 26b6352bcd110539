"""Which state directory a run has, and that it is this run's alone."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.config import Settings
from rig.store import StateDirectory


def named(settings: Settings, app: str) -> StateDirectory | None:
    """
    Return the state directory that a run would have, None if that is a temporary one.

    Args:
        settings: As the user set them.
        app: The application's name.

    Raises:
        Nothing.
    """
    if settings.state_dir is not None:
        return StateDirectory(Path(settings.state_dir).absolute())
    return StateDirectory.of_app(app) if settings.url else None


@contextmanager
def claimed(settings: Settings, app: str) -> Iterator[StateDirectory]:
    """
    Hold the state directory of a run.

    It is the one that the settings name, or that of the application. A run against the bundled mock server, which forgets
    everything at its end, has one that is deleted then, unless a kill keeps it from that.

    Args:
        settings: As the user set them.
        app: The application's name.

    Raises:
        StateDirectoryUnusable: If it cannot be made or written to, or another run has it.
    """
    directory = named(settings, app)
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="rig-", ignore_cleanup_errors=True) as folder:
            yield StateDirectory(Path(folder))
        return
    directory.create()
    lock = directory.lock()
    try:
        yield directory
    finally:
        lock.release()
