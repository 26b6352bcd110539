"""What the tests of TLS, proxies and redirects share: certificates, made by the openssl command, and the loops."""

import asyncio
import base64
import hashlib
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import uvloop

from tests import running

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "1", "-nodes"]


@dataclass(frozen=True)
class Certificates:
    """An authority, a server certificate for localhost, a client certificate, and what a test asks for."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        """Return the name of a file, like `ca_pem`."""
        return str(self.folder / name.replace("_", "."))

    def server_context(self, name: str = "server", *, ask_client: bool = False) -> ssl.SSLContext:
        """Build what a server with this certificate uses."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        if ask_client:
            context.load_verify_locations(self.ca_pem)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def issue_authority(self, name: str) -> str:
        """Make an authority, and return its file."""
        self._openssl("req", "-x509", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", "/CN=test authority",
                      "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
        return str(self.folder / f"{name}.pem")

    def issue(self, name: str, alternative: str, *, authority: str = "ca", key: Sequence[str] = _KEY) -> None:
        """Make a certificate for alternative names like `DNS:localhost`."""
        self._openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}",
                      "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-addext", f"subjectAltName={alternative}",
                      "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip

    def renew(self, name: str, *, of: str) -> None:
        """Make another certificate with the key of `of`."""
        shutil.copy(self.folder / f"{of}.key", self.folder / f"{name}.key")
        self._openssl("req", "-x509", "-key", f"{of}.key", "-days", "2", "-out", f"{name}.pem", "-subj", f"/CN={name}",
                      "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost",
                      "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip

    def pin_of_key(self, name: str = "server") -> str:
        """Pin a key in the way of curl's manual."""
        key = self._openssl("x509", "-in", f"{name}.pem", "-pubkey", "-noout")
        der = self._openssl("pkey", "-pubin", "-outform", "der", stdin=key)
        return f"sha256//{base64.b64encode(hashlib.sha256(der).digest()).decode()}"

    def fingerprint(self, name: str = "server") -> str:
        """Return what openssl shows as the fingerprint of a certificate."""
        return self._openssl("x509", "-in", f"{name}.pem", "-noout", "-fingerprint", "-sha256").decode().strip().partition("=")[2]

    def _openssl(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        return subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, input=stdin).stdout


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make an authority and two certificates that it has signed."""
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.issue_authority("ca")
    made.issue("server", "DNS:localhost")
    made.issue("client", "DNS:client")
    made._openssl("ec", "-in", "client.key", "-aes128", "-passout", "pass:secret", "-out", "encrypted.key")
    return made


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run_on_both(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Give what runs an async test: once on uvloop, once on asyncio's own loop."""
    return partial(running.run, loop=request.param)
