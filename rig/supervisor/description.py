"""What the user's application consists of, found out in a short-lived child: the supervisor never imports it."""

import msgspec

from rig.config import Settings
from rig.control import Described, DescribeSpec, Failed
from rig.errors import AppError
from rig.supervisor.child import spawn
from rig.worker.describe import Description


async def describe(settings: Settings) -> Description:
    """
    Return the application's handlers and topics.

    Raises:
        AppError: If it cannot be imported, or does not fit.
    """
    process, control = await spawn("rig.worker", ())
    control.send(DescribeSpec(settings))
    answer = await control.receive()
    code = await process.wait()
    control.close()
    match answer:
        case Described(description=description):
            return msgspec.json.decode(description, type=Description)
        case Failed(reason=reason):
            raise AppError(reason)
        case _:
            raise AppError(f"importing {settings.target} ended its process with exit code {code}: see what it printed above")
