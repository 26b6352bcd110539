"""
Which names say that what they name is a secret, and what stands for it where people read.

One list for all that is shown: where a name is missing here, a token is in a log for ever.
"""

import re

MASK = "***"
SECRET_NAMES = "token|secret|passw(?:or)?d|passphrase|authorization|cookie|credential|api[-_]?key|jwt"  # noqa: S105
"""A regular expression without groups, for use inside another; upper and lower case are the same."""

_SECRET_NAME = re.compile(SECRET_NAMES, re.IGNORECASE)


def names_a_secret(name: str) -> bool:
    """
    Return True if a field, param or header of this name holds a secret: the name, or a part of it, says so.

    Raises:
        Nothing.
    """
    return _SECRET_NAME.search(name) is not None
