"""
Where a redirect leads, and whether it is followed.

The server names the whole URL: nothing of ours is added to its path and query. What must stay true:

- What was TLS stays TLS.
- A secret goes to no other host or port than the user has named, though the server asks for it.
- It ends: after five redirects, or where one leads back.

Source: RFC 9110 sections 10.2.2 and 15.4; RFC 6455 section 4.1 (a client may follow); curl `--location` (what crosses hosts).
"""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urldefrag, urljoin, urlsplit

from rig.errors import ConfigError, RedirectRefused
from rig.transport.endpoint import Endpoint
from rig.transport.handshake import Redirect

MAX_REDIRECTS = 5


def follow(trail: Sequence[Endpoint], redirect: Redirect) -> Endpoint:
    """
    Return the endpoint that a redirect leads to.

    Args:
        trail: The endpoints so far, the redirected one last.
        redirect: Its answer.

    Raises:
        RedirectRefused: If the place is none, would get a secret or give up TLS, was there before, or is the sixth.
    """
    here = trail[-1]
    there = _target(here, redirect)

    def refuse(reason: str) -> RedirectRefused:
        return RedirectRefused(here.display, redirect.status, there.display, reason)

    if here.secure and not there.secure:
        raise refuse("it would give up TLS")
    same_server = (here.host, here.port) == (there.host, there.port)
    if not same_server and (secrets := here.secrets()):
        raise refuse(f"it would carry {' and '.join(secrets)} to {there.host}:{there.port}; name that URL yourself if you trust it")
    if any(there.websocket_url() == before.websocket_url() for before in trail):
        raise refuse("it leads in a circle")
    if len(trail) > MAX_REDIRECTS:
        raise refuse(f"these would be more than {MAX_REDIRECTS} redirects in a row")
    return replace(here, url=_with_credentials(there.url, here) if same_server else there.url, params={}, verbatim=True)


def _target(here: Endpoint, redirect: Redirect) -> Endpoint:
    """Read the Location, into an endpoint that holds nothing of ours yet."""
    try:
        url = urlsplit(urldefrag(urljoin(here.websocket_url(), redirect.location)).url)
        netloc = url.netloc.rpartition("@")[2]  # user and password are the user's to give, not the server's
        return Endpoint(url._replace(netloc=netloc).geturl(), verbatim=True, secret_names=here.secret_names)
    except (ConfigError, ValueError):
        # What cannot be read cannot be masked: neither it is shown, nor the error that may repeat it.
        raise RedirectRefused(here.display, redirect.status, "another place", "its Location is not the URL of a socket") from None


def _with_credentials(url: str, here: Endpoint) -> str:
    """Keep user and password of the URL for the same server."""
    userinfo, at, _ = urlsplit(here.url).netloc.rpartition("@")
    parts = urlsplit(url)
    return parts._replace(netloc=f"{userinfo}{at}{parts.netloc}").geturl()
