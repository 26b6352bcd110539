"""The parent process of `rig run`."""

import uvloop

from rig import log as rig_log
from rig.config import Settings
from rig.supervisor.description import describe as _describe
from rig.supervisor.state import named as _named
from rig.supervisor.supervisor import Supervisor
from rig.worker.describe import Description

__all__ = ["Description", "Supervisor", "describe", "run", "state_directory"]


def run(settings: Settings) -> int:
    """
    Run the worker until a signal ends it, and return the exit code.

    Raises:
        RigError: If it cannot start; its `exit_code` is what to exit with.
    """
    rig_log.configure(settings.log_level, settings.log_format, process="rig")

    async def main() -> int:
        return await Supervisor(settings).run()

    return uvloop.run(main())


def describe(settings: Settings) -> Description:
    """
    Return what the application consists of, imported in a child process.

    Raises:
        AppError: If it cannot be imported, or does not fit.
    """
    return uvloop.run(_describe(settings))


def state_directory(settings: Settings, app: str) -> str:
    """
    Name the state directory that a run would have, in words if it is a temporary one.

    Args:
        settings: As the user set them.
        app: The application's name.

    Raises:
        Nothing.
    """
    directory = _named(settings, app)
    return "a temporary one, deleted at the end" if directory is None else str(directory.path)
