"""
Who we are: tokens, where they come from, and when to ask for the next one.

`provider` makes what `--auth` names, a `TokenSource` gives out its tokens; how a token travels is the matter of
`rig.transport.Endpoint.with_token`, and when it is asked for that of `rig.dialling`.
"""

from rig.auth.provider import GetToken, Provider, provider
from rig.auth.source import TokenSource
from rig.auth.token import Token

__all__ = ["GetToken", "Provider", "Token", "TokenSource", "provider"]
