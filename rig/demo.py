"""
The application that `rig run` runs when none is named: the Max platform's applications, networks and variables.

It shows the shape of an application: typed payloads, an ordering key, a push back, and what is worth a log line.
"""

import logging

import msgspec

import rig

app = rig.App("max-demo")
log = logging.getLogger("demo")


class Deployed(msgspec.Struct):
    """A new version of an application runs."""

    id: int
    app: str
    version: str


class Scaled(msgspec.Struct):
    """An application has a new number of instances."""

    id: int
    app: str
    instances: int


class HealthChanged(msgspec.Struct):
    """An application is healthy, or is not."""

    id: int
    app: str
    status: str


class LinkChanged(msgspec.Struct):
    """A link of a network went up or down."""

    id: int
    network: str
    link: str
    up: bool
    latency_ms: float | None


class VariableChanged(msgspec.Struct):
    """A variable has a new value."""

    id: int
    name: str
    value: msgspec.Raw


@app.on("applications:*", "deployed", key="payload.app")
async def deployed(event: rig.Event[Deployed]) -> None:
    """Acknowledge every deployment."""
    payload = event.payload
    await event.push("ack", {"id": payload.id})
    log.info("%s runs version %s", payload.app, payload.version)


@app.on("applications:*", "scaled", key="payload.app")
async def scaled(event: rig.Event[Scaled]) -> None:
    """Note the new size."""
    log.debug("%s has %d instances", event.payload.app, event.payload.instances)


@app.on("applications:*", "health_changed", key="payload.app")
async def health_changed(event: rig.Event[HealthChanged]) -> None:
    """Note what became unwell."""
    if event.payload.status == "unhealthy":
        log.warning("%s is %s", event.payload.app, event.payload.status)


@app.on("networks:*", "link_changed", key="payload.link")
async def link_changed(event: rig.Event[LinkChanged]) -> None:
    """Note links that went down."""
    if not event.payload.up:
        log.warning("link %s of %s is down", event.payload.link, event.payload.network)


@app.on("variables:*", "changed", key="payload.name")
def changed(event: rig.Event[VariableChanged]) -> None:
    """Note the new value; a plain function runs in a thread."""
    log.debug("%s = %s", event.payload.name, bytes(event.payload.value).decode())
