"""Whom we trust: authorities, names, and files that are renewed while we run."""

import json
import os
import shutil
import socket
import ssl

import pytest

from mock_server.server import MockServer
from rig.errors import ConfigError
from rig.transport import Endpoint, dial
from tests.transport.proxy_server import ProxyServer
from tests.transport.raw_server import Owner, RawServer
from tests.transport.tls_server import fail_with, greet, reach, reach_with


def test_tls_is_verified_and_modern_by_default():
    """Nobody has to ask for safety."""
    context = Endpoint("wss://example.com/socket").ssl_context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_insecure_accepts_any_certificate():
    """The user can take the risk."""
    context = Endpoint("wss://example.com/socket", insecure=True).ssl_context()

    assert context.verify_mode is ssl.CERT_NONE
    assert not context.check_hostname


def test_the_tls_settings_are_built_once(certificates):
    """Reconnecting does not read the files again."""
    endpoint = Endpoint("wss://a.example/socket", ca_file=certificates.ca_pem)
    same_files = Endpoint("wss://b.example/socket", ca_file=certificates.ca_pem)

    assert endpoint.ssl_context() is same_files.ssl_context()
    assert endpoint.ssl_context() is not Endpoint("wss://a.example/socket").ssl_context()


@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
def test_a_missing_tls_file_is_named(tmp_path, setting):
    """The sentence names the file and what is the matter with it."""
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match=r"missing\.pem cannot be read \(No such file"):
        Endpoint("wss://example.com/socket", **{setting: missing}).ssl_context()


@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
def test_a_tls_file_with_other_contents_is_named(tmp_path, setting):
    """A file that holds no certificate is not taken for one."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("hello")
    with pytest.raises(ConfigError, match=r"wrong\.pem .* PEM form"):
        Endpoint("wss://example.com/socket", **{setting: str(wrong)}).ssl_context()


def test_an_encrypted_key_is_refused_instead_of_asking_for_its_password(certificates):
    """A service has no terminal to ask at."""
    endpoint = Endpoint("wss://example.com/socket", cert_file=certificates.client_pem, key_file=certificates.encrypted_key)
    with pytest.raises(ConfigError, match="encrypted"):
        endpoint.ssl_context()


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_replaced_authority_counts_from_the_next_connection_on(certificates, tmp_path, run_on_both, keep_times):
    """A renewed file needs no restart, even if it was copied with its old times."""
    authority = tmp_path / "ca.pem"
    other = certificates.issue_authority("other")
    certificates.issue("renewed", "DNS:localhost", authority="other")

    async def test():
        shutil.copy(certificates.ca_pem, authority)
        before = os.stat(authority)
        await reach_with(certificates.server_context(), ca_file=str(authority))
        await fail_with(certificates.server_context("renewed"), ca_file=str(authority))

        shutil.copy(other, authority)
        if keep_times:
            os.utime(authority, ns=(before.st_atime_ns, before.st_mtime_ns))
        await reach_with(certificates.server_context("renewed"), ca_file=str(authority))
        await fail_with(certificates.server_context(), ca_file=str(authority))

    run_on_both(test)


def test_a_replaced_client_certificate_is_shown_from_the_next_connection_on(certificates, tmp_path, run_on_both):
    """The server learns of the renewal."""
    pair = tmp_path / "pair.pem"
    certificates.issue("renewed-client", "DNS:renewed-client")

    async def test():
        async def behaviour(peer):
            await greet(peer)
            shown.append(peer.writer.get_extra_info("peercert")["subjectAltName"][0][1])

        shown = []
        async with RawServer(behaviour, certificates.server_context(ask_client=True)) as server:
            for name in ("client", "renewed-client"):
                pair.write_text("".join((certificates.folder / f"{name}.{end}").read_text() for end in ("pem", "key")))
                await reach(server.endpoint(ca_file=certificates.ca_pem, cert_file=str(pair)))
        assert shown == ["client", "renewed-client"]

    run_on_both(test)


def test_a_replaced_file_that_cannot_be_used_is_named(certificates, tmp_path):
    """What was fine before is not taken for fine now."""
    authority = tmp_path / "ca.pem"
    shutil.copy(certificates.ca_pem, authority)
    endpoint = Endpoint("wss://localhost/socket", ca_file=str(authority))
    assert endpoint.ssl_context() is endpoint.ssl_context()

    authority.write_text("half a certificate")
    with pytest.raises(ConfigError, match=r"ca\.pem holds no certificate"):
        endpoint.ssl_context()
    authority.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        endpoint.ssl_context()


def test_the_system_store_is_trusted_unless_an_authority_is_named(certificates, tmp_path, monkeypatch, run_on_both):
    """Without `--ca` the certificates of the system count, renewed ones too; with it, only those named."""
    store, other = tmp_path / "store.pem", certificates.issue_authority("named")
    monkeypatch.setenv("SSL_CERT_FILE", str(store))

    async def test():
        shutil.copy(other, store)
        await fail_with(certificates.server_context())
        shutil.copy(certificates.ca_pem, store)
        await reach_with(certificates.server_context())
        await fail_with(certificates.server_context(), ca_file=other)

    run_on_both(test)


def test_an_address_must_be_in_the_certificate_as_an_address(certificates, run_on_both):
    """A name that looks like the address is not enough."""
    certificates.issue("address", "IP:127.0.0.1,IP:::1")
    certificates.issue("spelled", "DNS:127.0.0.1")

    async def test():
        await reach_with(certificates.server_context("address"), "127.0.0.1", ca_file=certificates.ca_pem)
        await fail_with(certificates.server_context("spelled"), "127.0.0.1", ca_file=certificates.ca_pem)
        await fail_with(certificates.server_context("address"), "localhost", ca_file=certificates.ca_pem)

    run_on_both(test)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_an_ipv6_address_is_checked_without_its_brackets(certificates, run_on_both):
    """The certificate holds the address, not the way in which a URL writes it."""
    certificates.issue("address6", "IP:::1")

    async def test():
        async with RawServer(greet, certificates.server_context("address6"), host="::1") as server:
            await reach(Endpoint(f"wss://[::1]:{server.port}/socket", ca_file=certificates.ca_pem))

    run_on_both(test)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("Phoenix.Example", "phoenix.example"),
        ("phoenix.example.", "phoenix.example"),
        ("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "xn--bcher-kva.example"),
        ("127.0.0.1", None),
    ],
)
def test_the_server_is_told_the_name_and_its_certificate_must_hold_it(certificates, run_on_both, typed, told):
    """In lower case, in the form of the DNS, without the dot at the end; an address is not told."""
    certificates.issue("named", "DNS:phoenix.example,DNS:xn--bcher-kva.example,IP:127.0.0.1")

    async def test():
        names = []
        context = certificates.server_context("named")
        context.sni_callback = lambda tls, name, _: names.append(name)
        async with RawServer(greet, context) as server, ProxyServer("http") as proxy:
            endpoint = Endpoint(f"wss://{typed}:{server.port}/socket", ca_file=certificates.ca_pem, proxy=proxy.url())
            await reach(endpoint)
        assert names == [told]

    run_on_both(test)


def test_a_name_is_not_that_of_its_neighbour(certificates, run_on_both):
    """A certificate for one host is none for another, nor for one further down."""
    certificates.issue("wild", "DNS:*.example,DNS:localhost.example")

    async def test():
        for host in ("localhost", "127.0.0.1"):
            await fail_with(certificates.server_context("wild"), host, ca_file=certificates.ca_pem)

    run_on_both(test)


def test_phoenix_is_spoken_through_tls_and_a_proxy_end_to_end(certificates, run_on_both):
    """A heartbeat gets its reply, with authority, pin and proxy at once."""

    async def test():
        owner = Owner()
        async with MockServer(ssl_context=certificates.server_context()) as server, ProxyServer("socks5") as proxy:
            endpoint = Endpoint(
                f"wss://localhost:{server.port}/socket",
                ca_file=certificates.ca_pem,
                pins=(certificates.pin_of_key(),),
                proxy=proxy.url(),
            )
            transport = await dial(endpoint, owner)
            transport.send([b'[null,"1","phoenix","heartbeat",{}]'])
            await owner.wait_until(lambda: owner.texts)
            transport.close()
            await owner.wait_closed()
            assert proxy.asked == [("localhost", server.port)]
        _, ref, topic, event, payload = json.loads(owner.texts[0])
        assert (ref, topic, event, payload["status"]) == ("1", "phoenix", "phx_reply", "ok")

    run_on_both(test)
