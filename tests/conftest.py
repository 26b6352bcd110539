"""What tests of several packages need."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop


@pytest.fixture
def run() -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Give a function that runs a coroutine function on the loop that rig's processes use, for at most ten seconds."""

    def run(main: Callable[[], Awaitable[None]]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(10):
                await main()

        uvloop.run(limited())

    return run


class Vault:
    """
    What is in the keyring of these tests, which is in memory; no test talks to that of the system.

    Attributes:
        passwords: By (service, name).
        failure: What every call raises, if anything.
        before_answer: Called in the thread that asks, before it is answered.
    """

    def __init__(self) -> None:
        self.passwords: dict[tuple[str, str], str] = {}
        self.failure: Exception | None = None
        self.before_answer: Callable[[], object] = lambda: None

    def usable(self, yes: bool) -> None:
        """Put the keyring there, or the backend of a system that has none."""
        import keyring
        from keyring.backend import KeyringBackend
        from keyring.backends import fail

        vault = self

        class InMemory(KeyringBackend):
            priority = 1

            def get_password(self, service: str, username: str) -> str | None:
                vault.answer()
                return vault.passwords.get((service, username))

            def set_password(self, service: str, username: str, password: str) -> None:
                vault.answer()
                vault.passwords[service, username] = password

            def delete_password(self, service: str, username: str) -> None:
                vault.answer()
                del vault.passwords[service, username]

        keyring.set_keyring(InMemory() if yes else fail.Keyring())

    def answer(self) -> None:
        """Do what a backend does before it answers: wait for its user, or fail."""
        self.before_answer()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Vault]:
    """Give a keyring in memory, and a state directory of the test's own."""
    import keyring.core

    before = keyring.core._keyring_backend
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    vault = Vault()
    vault.usable(True)
    yield vault
    keyring.core._keyring_backend = before


@pytest.fixture
def jwt() -> Callable[..., str]:
    """Give a function that makes a JWT with these claims; nobody here checks its signature."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return lambda **claims: f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"
