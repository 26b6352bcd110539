"""
`keyring:NAME`: what `rig login NAME` has stored.

What must stay true: a keyring that waits for its user, who may be asleep, stops neither the loop nor the end of the process.
"""

import asyncio
import threading

from rig.auth.stores import KEYRING, FileStore, KeyringStore, keyring_store
from rig.auth.token import Token
from rig.errors import TokenMissing, TokenUnavailable


class KeyringProvider:
    """
    The keyring, else the file that stands in for it.

    Attributes:
        where: The place in which the last token was found.
    """

    def __init__(self, name: str, *, timeout: float) -> None:
        """
        Name the token.

        Args:
            name: As given to `rig login`.
            timeout: Seconds that the keyring may take.
        """
        self._name, self._timeout = name, timeout
        self._asking = False
        self.name = f"keyring:{name}"
        self.where: str | None = None

    async def fetch(self) -> Token:
        """
        Ask the keyring, and where it has none, read the file.

        Raises:
            TokenMissing: If neither has it.
            TokenUnavailable: If the keyring fails or takes too long and there is no file.
        """
        if self._asking:
            raise TokenUnavailable(self.name, "the keyring has not answered the last question yet: see if it asks for a password")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[Token, str]] = loop.create_future()
        # A thread of its own: those of the loop's executor are waited for at the end, and this one may never come back.
        threading.Thread(target=self._ask, args=(loop, answer), name="rig-keyring", daemon=True).start()
        self._asking = True
        try:
            async with asyncio.timeout(self._timeout):
                token, self.where = await answer
                return token
        except TimeoutError:
            reason = f"no answer within {self._timeout:g} s: see if it asks for a password, or raise --auth-timeout"
            raise TokenUnavailable(self.name, reason) from None

    def _ask(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[tuple[Token, str]]") -> None:
        found, error = None, None
        try:
            found = read(self._name)
        except Exception as exc:
            error = exc

        def settle() -> None:
            self._asking = False
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            elif found is not None:
                answer.set_result(found)

        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop is closed: nobody waits any longer
            self._asking = False


def read(name: str) -> tuple[Token, str]:
    """
    Return the token that `rig login` stored under a name, and where it was found. Blocks.

    Raises:
        TokenMissing: If neither the keyring nor the file has it.
        TokenUnavailable: If the keyring fails and there is no file, or the file cannot be read.
    """
    store = keyring_store()
    found = _in_keyring(store, name) if isinstance(store, KeyringStore) else None
    if isinstance(found, Token):
        return found, KEYRING
    files = FileStore()
    try:
        return files.read(name), str(files.path(name))
    except TokenMissing:
        if found is not None:
            raise found from None
        raise TokenMissing(f"keyring:{name}", f"{store}; there is no file either: run rig login {name}") from None


def _in_keyring(store: KeyringStore, name: str) -> Token | TokenUnavailable:
    try:
        return store.read(name)
    except TokenUnavailable as exc:
        return exc
