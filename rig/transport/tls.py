"""
What TLS asks of the other side: the settings that come of `--ca`, `--cert`, `--key`, `--insecure` and `--pin`.

What must stay true:

- Whoever connects with the context gets the same checks: `asyncio`, uvloop, picows and aiohttp all call `do_handshake` of the
  object that the context makes, and send nothing of their own before it returns.
- A file that was replaced counts from the next connection on, and one that was not is not read again.

Source: RFC 8446; RFC 9525 (whose name the certificate must hold); curl `--pinnedpubkey`.
"""

import os
import ssl
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, NoReturn

from rig.errors import ConfigError
from rig.transport.pins import Pin, pinned_object


class _File(NamedTuple):
    """A file, and what changes when it is written or replaced."""

    path: str
    device: int = 0
    inode: int = 0
    changed_ns: int = 0
    size_bytes: int = 0


def tls_context(
    *, ca_file: str | None, cert_file: str | None, key_file: str | None, insecure: bool, pins: frozenset[Pin] = frozenset()
) -> ssl.SSLContext:
    """
    Return the settings of a client. The same arguments share one context until a file is replaced.

    Args:
        ca_file: Certificates to trust instead of the system's (PEM).
        cert_file: Our own certificate, with its chain (PEM).
        key_file: Its private key, not encrypted, if it is not in `cert_file` (PEM).
        insecure: Check neither who signed the certificate nor for which name; pins are checked all the same.
        pins: The server must have one of these; none asks for nothing.

    Raises:
        ConfigError: If a file is missing, unreadable or not what it should be.
    """
    system_store = ssl.get_default_verify_paths().cafile
    return _build(_stamp(ca_file), _stamp(cert_file), _stamp(key_file), _stamp(system_store), insecure, pins)


@lru_cache(maxsize=16)
def _build(
    ca: _File | None, cert: _File | None, key: _File | None, system_store: _File | None, insecure: bool, pins: frozenset[Pin]
) -> ssl.SSLContext:
    for option, file in (("--ca", ca), ("--cert", cert), ("--key", key)):
        if file:
            _check_readable(option, file.path)
    try:
        context = ssl.create_default_context(cafile=ca.path if ca else None)
    except (ssl.SSLError, OSError) as exc:
        if ca is None:
            raise
        raise ConfigError(f"--ca {ca.path} holds no certificate in PEM form: name a file that does") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        _load_own_certificate(context, cert.path, key.path if key else None)
    if pins:
        context.sslobject_class = pinned_object(pins)
    return context


def _stamp(file: str | None) -> _File | None:
    if not file:
        return None
    try:
        status = os.stat(file)
    except OSError:
        return _File(file)  # the attempt to read it says what is the matter
    return _File(file, status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size)


def _load_own_certificate(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    def refuse_password() -> NoReturn:
        # Without this, OpenSSL would ask at the terminal, and a service has none.
        raise ConfigError(f"the key in {key_file or cert_file} is encrypted: store it without a password")

    try:
        context.load_cert_chain(cert_file, key_file, refuse_password)
    except (ssl.SSLError, OSError) as exc:
        where = f"{cert_file} and {key_file}" if key_file else cert_file
        raise ConfigError(f"{where} do not hold a certificate and its key in PEM form: check --cert and --key") from exc


def _check_readable(option: str, file: str) -> None:
    try:
        with Path(file).open("rb"):
            pass
    except OSError as exc:
        raise ConfigError(f"{option} {file} cannot be read ({exc.strerror}): check the name and the permissions") from exc
