"""
Where `rig login` keeps a token: the keyring of the system, or a file of our own where there is none that can be used.

What must stay true: the file is never there with other rights than 0600, in a folder with 0700, and never half written; no
message has a token in it.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rig.auth.file import FileProvider
from rig.auth.token import Token
from rig.errors import TokenMissing, TokenNotStored, TokenUnavailable
from rig.private import make_private

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE = "rig"
"""What the keyring files our tokens under."""
KEYRING = "the keyring"


class KeyringStore:
    """The system's keyring, by way of the package `keyring`."""

    def __init__(self, backend: "KeyringBackend") -> None:
        self._backend = backend
        self.where = KEYRING

    def read(self, name: str) -> Token:
        """
        Return a token. Blocks, for as long as the keyring asks its user for a password.

        Raises:
            TokenMissing: If the keyring has none of that name.
            TokenUnavailable: If it does not answer, or is locked.
        """
        label = f"keyring:{name}"
        try:
            text = self._backend.get_password(SERVICE, name)
        except Exception as exc:  # each backend has errors of its own
            raise TokenUnavailable(label, f"the keyring failed ({_said(exc)}): unlock it, or see why") from None
        if text is None:
            raise TokenMissing(label, f"the keyring has none: run rig login {name}")
        return Token.read(text, provider=label)

    def write(self, name: str, token: Token) -> None:
        """
        Store a token in the place of the one of that name.

        Raises:
            TokenNotStored: If the keyring refuses.
        """
        try:
            self._backend.set_password(SERVICE, name, token.value)
        except Exception as exc:
            raise TokenNotStored(self.where, _said(exc).replace(token.value, "***")) from None

    def delete(self, name: str) -> bool:
        """
        Delete a token, and say if there was one.

        Raises:
            TokenNotStored: If the keyring refuses.
        """
        try:
            if self._backend.get_password(SERVICE, name) is None:
                return False
            self._backend.delete_password(SERVICE, name)
        except Exception as exc:
            raise TokenNotStored(self.where, _said(exc)) from None
        return True


class FileStore:
    """One file a token, which only its owner can read."""

    def __init__(self, folder: Path | None = None) -> None:
        """
        Name the folder; it is made when the first token is stored.

        Args:
            folder: Instead of `tokens` in the platform's state directory.
        """
        self._folder = folder or _state_folder()

    def path(self, name: str) -> Path:
        """Return the file of a token. What is in the name cannot lead out of the folder."""
        return self._folder / f"{quote(name, safe='')}.token"

    def read(self, name: str) -> Token:
        """
        Return a token.

        Raises:
            TokenMissing: If there is none of that name.
            TokenUnavailable: If the file cannot be read.
        """
        return FileProvider(self.path(name)).read()

    def write(self, name: str, token: Token) -> Path:
        """
        Store a token in the place of the one of that name, and return its file.

        Raises:
            TokenNotStored: If the file cannot be written.
        """
        path = self.path(name)
        try:
            make_private(self._folder)
            _replace(path, token.value.encode())
        except OSError as exc:
            raise TokenNotStored(str(path), exc.strerror or type(exc).__name__) from None
        return path

    def delete(self, name: str) -> bool:
        """
        Delete a token, and say if there was one.

        Raises:
            TokenNotStored: If the file cannot be deleted.
        """
        path = self.path(name)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise TokenNotStored(str(path), exc.strerror or type(exc).__name__) from None
        return True


def keyring_store() -> KeyringStore | str:
    """
    Return the keyring's store, or say why it cannot be used. A backend that fails or forgets everything counts as none.

    Raises:
        Nothing.
    """
    try:
        import keyring
        from keyring.backends import fail, null
    except ImportError:
        return "the package keyring is not installed: pip install 'rig-channels[keyring]'"
    try:
        backend = keyring.get_keyring()
        usable = not isinstance(backend, fail.Keyring | null.Keyring) and backend.priority > 0
    except Exception as exc:  # a configured backend that cannot be imported, or a system without its service
        return f"the keyring cannot be used ({_said(exc)})"
    return KeyringStore(backend) if usable else "this system has no keyring that can be used"


def _said(exc: Exception) -> str:
    text = "".join(char if char.isprintable() else " " for char in str(exc))
    return text or type(exc).__name__


def _state_folder() -> Path:
    import platformdirs

    return platformdirs.user_state_path("rig") / "tokens"


def _replace(path: Path, content: bytes) -> None:
    file, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".new")  # made with 0600
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
