"""Which certificate or key a server must have, and that nothing leaves before that is known."""

import ssl

import aiohttp
import pytest

from rig.errors import PinMismatch, TlsFailed
from rig.transport import Endpoint
from rig.transport.handshake import handshake_failed
from rig.transport.pins import Pin, parse_pin
from tests.transport.tls_server import fail_with, reach_with, serving

WRONG_KEY = "sha256//" + "A" * 43 + "="
WRONG_CERTIFICATE = "00" * 32


def in_hex(fingerprint):
    return fingerprint.replace(":", "")


@pytest.mark.parametrize("write", [str, in_hex, str.lower, lambda text: in_hex(text).lower()])
def test_a_fingerprint_is_read_with_colons_or_without_in_any_case(certificates, write):
    """However openssl or a browser shows it."""
    assert parse_pin(write(certificates.fingerprint())) == parse_pin(certificates.fingerprint())


@pytest.mark.parametrize("of", ["key", "certificate"])
def test_a_pin_is_written_as_it_is_read(of):
    """What an error shows can be given to `--pin`."""
    pin = Pin(of, bytes(range(32)))

    assert parse_pin(str(pin)) == pin


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("of", ["key", "certificate"])
def test_a_server_with_the_pin_is_accepted_and_any_other_is_not(certificates, run_on_both, version, of):
    """The pin in the error is the one that fits; the request has not left by then."""
    right, wrong = (
        (certificates.pin_of_key(), WRONG_KEY) if of == "key" else (certificates.fingerprint().lower(), WRONG_CERTIFICATE)
    )

    def context():
        made = certificates.server_context()
        made.minimum_version = made.maximum_version = version
        return made

    async def test():
        await reach_with(context(), ca_file=certificates.ca_pem, pins=(right,))
        error = await fail_with(context(), expected=PinMismatch, ca_file=certificates.ca_pem, pins=(wrong,))
        assert error.pin == right
        assert str(error).startswith("the certificate of localhost is not the pinned one")
        assert f"--pin {right}" in str(error)

    run_on_both(test)


def test_one_pin_of_several_is_enough(certificates, run_on_both):
    """The next certificate can be pinned before it is in use."""

    async def test():
        pins = (WRONG_KEY, WRONG_CERTIFICATE, certificates.fingerprint())
        await reach_with(certificates.server_context(), ca_file=certificates.ca_pem, pins=pins)
        await fail_with(certificates.server_context(), expected=PinMismatch, ca_file=certificates.ca_pem, pins=pins[:2])

    run_on_both(test)


def test_a_pin_does_not_replace_the_authority(certificates, run_on_both):
    """The certificate must be trusted as well."""

    async def test():
        await fail_with(certificates.server_context(), expected=TlsFailed, pins=(certificates.pin_of_key(),))

    run_on_both(test)


def test_with_insecure_the_pin_alone_decides(certificates, run_on_both):
    """A self-signed certificate for another name is accepted if it is pinned, and no other is."""
    certificates.issue_authority("self-signed")
    context = certificates.server_context("self-signed")

    async def test():
        await reach_with(context, insecure=True, pins=(certificates.pin_of_key("self-signed"),))
        await reach_with(context, insecure=True, pins=(certificates.fingerprint("self-signed"),))
        await fail_with(certificates.server_context(), expected=PinMismatch, insecure=True, pins=(certificates.pin_of_key("ca"),))

    run_on_both(test)


def test_a_renewed_certificate_with_the_same_key_keeps_its_pin(certificates, run_on_both):
    """That is what the pin of a key is for."""
    certificates.renew("again", of="server")

    async def test():
        settings = {"ca_file": certificates.ca_pem}
        await reach_with(certificates.server_context("again"), pins=(certificates.pin_of_key("server"),), **settings)
        await fail_with(
            certificates.server_context("again"), expected=PinMismatch, pins=(certificates.fingerprint("server"),), **settings
        )

    run_on_both(test)


def test_a_key_of_a_kind_that_hashes_otherwise_is_refused_with_the_pin_that_fits(certificates, run_on_both):
    """RSASSA-PSS: openssl's hash does not fit, the one in the error does."""
    key = ("-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-days", "1", "-nodes")
    certificates.issue("pss", "DNS:localhost", key=key)
    context = certificates.server_context("pss")

    async def test():
        error = await fail_with(context, expected=PinMismatch, ca_file=certificates.ca_pem, pins=(WRONG_KEY,))
        await reach_with(context, ca_file=certificates.ca_pem, pins=(error.pin,))

    run_on_both(test)


def test_aiohttp_gets_the_same_pins(certificates, run_on_both):
    """Another client of the context accepts and refuses the same, and its error can be told as ours."""

    async def test():
        async def answer(reader, writer):
            requests.append(await reader.read(1000))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            writer.close()

        async def get(pin):
            endpoint = Endpoint(url, ca_file=certificates.ca_pem, pins=(pin,))
            try:
                async with session.get(url, ssl=endpoint.ssl_context()) as response:
                    return response.status
            except aiohttp.ClientConnectorCertificateError as exc:
                return handshake_failed(endpoint, exc.certificate_error)

        requests = []
        async with serving(answer, certificates.server_context()) as port, aiohttp.ClientSession() as session:
            url = f"https://localhost:{port}/socket"
            error = await get(WRONG_KEY)
            assert isinstance(error, PinMismatch)
            assert error.pin == certificates.pin_of_key()
            assert await get(error.pin) == 204
        assert [request.split()[0] for request in requests if request] == [b"GET"]

    run_on_both(test)
