"""Which state directory a run has, and that it is this run's alone."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rig.config import Settings
from rig.store import StateDirectory


@contextmanager
def claimed(settings: Settings, app: str) -> Iterator[StateDirectory]:
    """
    Hold the state directory of a run.

    It is the one that the settings name, or that of the application. A run against the bundled mock server, which forgets
    everything at its end, has one that is deleted then.

    Args:
        settings: As the user set them.
        app: The application's name.

    Raises:
        StateDirectoryUnusable: If it cannot be made or written to, or another run has it.
    """
    if settings.state_dir is None and settings.url is None:
        with tempfile.TemporaryDirectory(prefix="rig-", ignore_cleanup_errors=True) as folder:
            yield StateDirectory(Path(folder))
        return
    directory = StateDirectory.of_app(app) if settings.state_dir is None else StateDirectory(Path(settings.state_dir).absolute())
    directory.create()
    lock = directory.lock()
    try:
        yield directory
    finally:
        lock.release()
