"""
The applications that can be mounted on top of the reference application, by name.

A scenario is one file with a class like `Scenario`, and one line in `SCENARIOS`.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from mock_server.channel import Channel
from mock_server.hub import Hub
from mock_server.max_platform import MaxPlatform


class Scenario(Protocol):
    """What the server asks of a scenario; it is made with the hub and the rate of live updates per second."""

    routes: ClassVar[Sequence[tuple[str, type[Channel]]]]

    def __init__(self, hub: Hub, rate: float) -> None: ...

    def start(self) -> None:
        """Begin the live updates."""

    async def stop(self) -> None:
        """End them."""


class Reference:
    """Nothing but the reference application."""

    routes: ClassVar[Sequence[tuple[str, type[Channel]]]] = ()

    def __init__(self, hub: Hub, rate: float) -> None:
        pass

    def start(self) -> None:
        """Do nothing: it has no live updates."""

    async def stop(self) -> None:
        """Do nothing: it has no live updates."""


SCENARIOS: dict[str, type[Scenario]] = {"reference": Reference, "max": MaxPlatform}


class UnknownScenario(ValueError):
    """There is no scenario of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no scenario {name!r}; there are {', '.join(sorted(SCENARIOS))}")


def load_scenario(name: str) -> type[Scenario]:
    """
    Return the scenario of that name.

    Raises:
        UnknownScenario: If there is none.
    """
    try:
        return SCENARIOS[name]
    except KeyError:
        raise UnknownScenario(name) from None
