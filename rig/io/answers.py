"""What is told of the connection: where it may lead, where the topics stand, what a hand-over has come to."""

import asyncio
import time

from rig.control import Endpoints, EndpointState, Rotated, Topics
from rig.io.handover import HandedOver
from rig.io.uplink import Uplink


def endpoints(connection: Uplink) -> Endpoints:
    """Return how each endpoint has been, and which one the connection is at."""
    now = time.time()
    return Endpoints(
        [
            EndpointState(health.url, here, health.failures, health.reason, now + health.rest if health.rest else None)
            for health, here in connection.endpoints()
        ]
    )


def topics(request: int, connection: Uplink) -> Topics:
    """Return where each topic stands, in the protocol's words."""
    return Topics(request, {topic: state.name.lower() for topic, state in connection.topics().items()})


def rotated(request: int, result: "asyncio.Future[HandedOver]") -> Rotated:
    """Return what a hand-over that is over has come to."""
    error = result.exception()
    if error is not None:
        return Rotated(request, "", 0, 0.0, str(error))
    done = result.result()
    return Rotated(request, done.endpoint, done.topics, done.seconds, "")
