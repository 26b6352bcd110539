"""What the tests of the mock server share: the byte-level client, and the control API."""

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.conformance.fixtures import dial, run
from tests.conformance.raw_client import client_frame

__all__ = ["dial", "frame_bytes", "post", "run"]


@pytest.fixture
def frame_bytes() -> Callable[..., bytes]:
    """Build client frames."""
    return client_frame


@pytest.fixture
def post() -> Callable[..., Awaitable[Any]]:
    """Call the control API: POST with a body, GET without."""

    async def call(url: str, body: Any = None) -> Any:
        async with aiohttp.ClientSession() as session:
            if body is None:
                async with session.get(url) as response:
                    return await response.json()
            async with session.post(url, json=body) as response:
                return await response.json()

    return call
