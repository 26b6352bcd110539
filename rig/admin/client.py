"""The client side of the admin API: finds the run that is meant, and asks it."""

from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from rig.admin.address import address, answers, socket_path
from rig.errors import NoRun
from rig.store import directory as directories

_ANSWERED_WITHIN = 300.0
"""Seconds: a hand-over of many topics takes its time."""


def find(state_dir: str | None) -> Path:
    """
    Return the state directory of a run that answers.

    Args:
        state_dir: Where it is; None looks for the only one among those of this user that named none.

    Raises:
        NoRun: If none answers, or more than one.
    """
    if state_dir is not None:
        directory = Path(state_dir).absolute()
        if not answers(directory):
            raise NoRun(f"no run answers at {socket_path(directory)}: start rig run with --state-dir {state_dir}, or name another")
        return directory
    root = directories.root()
    found = sorted(path for path in root.iterdir() if answers(path)) if root.is_dir() else []
    if not found:
        raise NoRun(f"no run answers under {root}: start rig run, or name its state directory with --state-dir")
    if len(found) > 1:
        raise NoRun(f"{len(found)} runs answer: name one with --state-dir {' or --state-dir '.join(map(str, found))}")
    return found[0]


async def ask(directory: Path, method: str, path: str) -> tuple[int, Any]:
    """
    Send a request to a run, and return status and answer.

    Raises:
        NoRun: If it does not answer, or ends meanwhile.
    """
    timeout = aiohttp.ClientTimeout(total=_ANSWERED_WITHIN)
    try:
        with address(directory) as name:
            connector = aiohttp.UnixConnector(path=name)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request(method, f"http://rig{path}") as response,
            ):
                return response.status, msgspec.json.decode(await response.read())
    except (OSError, aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as exc:
        raise NoRun(f"the run at {socket_path(directory)} did not answer ({exc!r}): see its log") from exc
