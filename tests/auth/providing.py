"""Providers of tokens that do as a test says."""

from rig.auth import Token


class Provider:
    """Gives out tokens one after the other, the last one for ever; an exception among them is raised, None is no token."""

    name = "the test"

    def __init__(self, *tokens):
        self.tokens, self.asked = list(tokens), 0

    async def fetch(self):
        self.asked += 1
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(token, Exception):
            raise token
        return None if token is None else Token(token)
