"""Which names say that what they name is a secret."""

import pytest

from rig.masking import names_a_secret


@pytest.mark.parametrize(
    "name",
    ["token", "user_token", "X-Api-Key", "apikey", "api_key", "Authorization", "Set-Cookie", "PASSWORD", "passwd", "client-secret",
     "aws_credentials", "jwt"],
)  # fmt: skip
def test_a_name_that_says_so_names_a_secret(name: str) -> None:
    """Wherever in the name, and however it is written."""
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["topic", "vsn", "user", "key", "auth_mode", "room_id", "pass"])
def test_other_names_name_none(name: str) -> None:
    """What helps to find a fault stays readable."""
    assert not names_a_secret(name)
