"""
Pins: which certificate or key a server must have, whoever signed it.

A pin is checked as the last step of the TLS handshake. Nothing of ours has left by then, the token least of all.

Known limit: the bytes of a key are those that `cryptography` writes. For a key of the rare kind RSASSA-PSS they are not those of
the certificate, so that the hash by openssl does not fit; the pin that `PinMismatch` shows does.

Source: curl `--pinnedpubkey`; RFC 7469 section 2.4 (SPKI fingerprint).
"""

import base64
import binascii
import hashlib
import re
import ssl
from collections.abc import Set
from typing import Literal, NamedTuple

from rig.errors import ConfigError

_OF_KEY = "sha256//"
_HEX = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}")


class Pin(NamedTuple):
    """The SHA-256 of a certificate's public key, or of the whole certificate."""

    of: Literal["key", "certificate"]
    digest: bytes

    def __str__(self) -> str:
        """Write it as the user may type it."""
        return f"{_OF_KEY}{base64.b64encode(self.digest).decode('ascii')}" if self.of == "key" else self.digest.hex(":")


class PinFault(ssl.SSLCertVerificationError):
    """
    The handshake's way to say that no pin fits: loops and libraries take it as any other refused certificate.

    Attributes:
        pin: The one that would fit.
    """

    def __init__(self, pin: str) -> None:
        super().__init__(1, "the certificate is not the pinned one")
        self.verify_message = self.reason = "the certificate is not the pinned one"
        self.pin = pin


def parse_pin(text: str) -> Pin:
    """
    Read a pin.

    Args:
        text: `sha256//` and the base64 of the hash of the public key, as curl takes it; or the hash of the certificate in hex,
            with or without colons, as openssl and browsers show it.

    Raises:
        ConfigError: If it is neither.
    """
    if _HEX.fullmatch(text):
        return Pin("certificate", bytes.fromhex(text.replace(":", "")))
    if text.startswith(_OF_KEY):
        try:
            digest = base64.b64decode(text.removeprefix(_OF_KEY), validate=True)
        except (binascii.Error, ValueError):
            digest = b""
        if len(digest) == hashlib.sha256().digest_size:
            return Pin("key", digest)
    raise ConfigError(
        f"{text!r} is not a pin: write sha256// and the base64 of the SHA-256 of the server's public key (44 characters), "
        "or the SHA-256 of its certificate in hex (64 digits, colons between them or not)"
    )


def pinned_object(pins: Set[Pin]) -> type[ssl.SSLObject]:
    """
    Make the class for `SSLContext.sslobject_class` whose handshakes fail where the peer has none of these pins.

    Raises:
        Nothing. What it makes raises `PinFault` from `do_handshake`.
    """
    # Imported where pins are used: it takes as long as half of Python's start.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    def pin_of_key(certificate: bytes) -> Pin:
        key = x509.load_der_x509_certificate(certificate).public_key()
        return Pin("key", hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest())

    wants_key = any(pin.of == "key" for pin in pins)

    def check(certificate: bytes) -> None:
        whole = Pin("certificate", hashlib.sha256(certificate).digest())
        if whole in pins:
            return
        if not wants_key:
            raise PinFault(str(whole))
        try:
            key = pin_of_key(certificate)
        except Exception as exc:  # a kind of key that the library does not know: loops expect nothing but errors of TLS
            raise PinFault(str(whole)) from exc
        if key not in pins:
            raise PinFault(str(key))

    class PinnedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            check(self.getpeercert(binary_form=True) or b"")

    return PinnedObject
