"""Tokens that `rig login` has stored."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from rig.auth import Token
from rig.auth.keyring import KeyringProvider
from rig.auth.stores import FileStore
from rig.errors import TokenMissing, TokenUnavailable
from tests.running import until

PATIENCE = 8.0


@pytest.fixture
def asked(vault):
    """A provider whose keyring has not been told anything yet."""
    return KeyringProvider("staging", timeout=PATIENCE)


def test_the_token_comes_from_the_keyring(run, vault, asked):
    """Under the name that it was stored with, asked anew each time."""

    async def main():
        vault.passwords["rig", "staging"] = "first"
        assert (await asked.fetch()).value == "first"
        vault.passwords["rig", "staging"] = "second"
        assert (await asked.fetch()).value == "second"
        assert asked.where == "the keyring"

    run(main)


def test_a_file_stands_in_where_there_is_no_keyring(run, vault, asked):
    """A server has none."""

    async def main():
        vault.usable(False)
        path = FileStore().write("staging", Token("hunter2"))

        assert (await asked.fetch()).value == "hunter2"
        assert asked.where == str(path)

    run(main)


def test_the_file_is_found_though_there_is_a_keyring_by_now(run, vault, asked):
    """Whoever logged in before the package was installed stays logged in."""

    async def main():
        FileStore().write("staging", Token("hunter2"))
        assert (await asked.fetch()).value == "hunter2"
        vault.failure = RuntimeError("locked")
        assert (await asked.fetch()).value == "hunter2"

    run(main)


def test_without_a_login_the_sentence_says_what_to_run(run, vault, asked):
    """With a keyring and without one."""

    async def main():
        with pytest.raises(TokenMissing, match="the keyring has none: run rig login staging"):
            await asked.fetch()
        vault.usable(False)
        with pytest.raises(TokenMissing, match="no keyring that can be used; there is no file either: run rig login staging"):
            await asked.fetch()

    run(main)


def test_a_locked_keyring_does_not_mean_that_nobody_is_signed_in(run, vault, asked):
    """The last token may go on until it expires."""

    async def main():
        vault.failure = RuntimeError("locked")
        with pytest.raises(TokenUnavailable, match="the keyring failed") as refused:
            await asked.fetch()
        assert not isinstance(refused.value, TokenMissing)

    run(main)


def test_an_answer_ends_its_question_at_once(run, vault, asked, monkeypatch):
    """Though the thread that has asked may take a moment longer to end."""
    may_end = threading.Event()

    class Lingering(threading.Thread):
        def run(self):
            super().run()
            may_end.wait(PATIENCE)

    monkeypatch.setattr("rig.auth.keyring.threading", SimpleNamespace(Thread=Lingering))
    vault.passwords["rig", "staging"] = "hunter2"

    async def main():
        assert (await asked.fetch()).value == "hunter2"
        assert (await asked.fetch()).value == "hunter2"
        may_end.set()

    run(main)


def test_a_keyring_that_waits_for_its_user_does_not_stop_the_loop(run, vault):
    """It is given up in time, is not asked again meanwhile, and may answer late."""
    unlocked = threading.Event()
    vault.before_answer = unlocked.wait
    vault.passwords["rig", "staging"] = "hunter2"

    async def main():
        provider = KeyringProvider("staging", timeout=0.05)
        with pytest.raises(TokenUnavailable, match="no answer within"):
            await provider.fetch()
        with pytest.raises(TokenUnavailable, match="has not answered the last question yet"):
            await provider.fetch()

        unlocked.set()
        await until(lambda: not provider._asking)
        assert (await KeyringProvider("staging", timeout=PATIENCE).fetch()).value == "hunter2"

    run(main)


def test_a_keyring_that_waits_does_not_keep_the_process_from_ending(tmp_path):
    """Ctrl-C works while a password dialogue is open."""
    code = """
import asyncio, threading, keyring
from keyring.backend import KeyringBackend
from rig.auth import provider

class Waiting(KeyringBackend):
    priority = 1
    def get_password(self, service, username): threading.Event().wait()
    def set_password(self, service, username, password): ...
    def delete_password(self, service, username): ...

keyring.set_keyring(Waiting())
try:
    asyncio.run(provider("keyring:x", timeout=0.05).fetch())
except Exception as exc:
    print(exc)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)

    assert "no answer within 0.05 s" in ended.stdout
    assert ended.stderr == ""
