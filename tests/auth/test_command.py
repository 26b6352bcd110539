"""Tokens from programs."""

import asyncio
import os
import shlex
import signal
import sys
import threading

import pytest

from rig.auth.command import CommandProvider
from rig.errors import TokenUnavailable

PATIENCE = 8.0


def shell(script, *, timeout=PATIENCE):
    return CommandProvider(shlex.join(["sh", "-c", script]), timeout=timeout)


async def refusal(provider):
    with pytest.raises(TokenUnavailable) as refused:
        await provider.fetch()
    assert "hunter2" not in f"{refused.value} {refused.value!r} {refused.value.__context__!r}"
    return str(refused.value)


def test_the_token_is_what_the_program_prints(run):
    """Text or JSON."""

    async def main():
        assert (await shell("echo hunter2").fetch()).value == "hunter2"
        token = await shell("""echo '{"token": "hunter2", "expires_at": 1700000000}'""").fetch()
        assert (token.value, token.expires_at) == ("hunter2", 1_700_000_000)

    run(main)


def test_the_program_is_run_anew_each_time(run, tmp_path):
    """What it says is the state of the moment."""

    async def main():
        count = shell(f"echo x >> {tmp_path}/runs; wc -l < {tmp_path}/runs")
        assert [(await count.fetch()).value, (await count.fetch()).value] == ["1", "2"]

    run(main)


def test_no_shell_sees_the_command(run, tmp_path):
    """Quotes work as in a shell, and nothing else does."""

    async def main():
        command = CommandProvider("printf '%s|' $HOME 'two words' ; > x", timeout=PATIENCE)
        assert (await command.fetch()).value == "$HOME|two words|;|>|x|"

    run(main)


def test_the_program_has_no_terminal_and_no_input_to_wait_for(run):
    """A program that asks for a password fails, instead of hanging for ever."""

    async def main():
        assert (await shell("cat; echo token").fetch()).value == "token"

    run(main)


def test_a_program_that_fails_says_why_with_its_last_line(run):
    """Exit code and the end of stderr are enough to find the fault."""

    async def main():
        message = await refusal(shell("echo first >&2; printf 'not \\033[1msigned in\\n\\n' >&2; exit 3"))
        assert message == "no token from command:sh: it ended with exit code 3: not ?[1msigned in"
        assert await refusal(shell("exit 3")) == "no token from command:sh: it ended with exit code 3"
        assert "it ended with signal 9" in await refusal(shell("kill -9 $$"))

    run(main)


def test_what_a_failing_program_printed_is_not_shown(run):
    """Not even if it says it twice, as under `set -x`."""

    async def main():
        message = await refusal(shell("echo hunter2-hunter2; echo 'cannot store hunter2-hunter2 anywhere' >&2; exit 1"))
        assert message.endswith("exit code 1: cannot store *** anywhere")

    run(main)


def test_a_long_complaint_is_cut(run):
    """A message is a sentence, not a page."""

    async def main():
        message = await refusal(
            CommandProvider(shlex.join([sys.executable, "-c", "raise SystemExit('x' * 100000)"]), timeout=PATIENCE)
        )
        assert len(message) < 400
        assert message.endswith("x…")

    run(main)


def test_a_program_that_is_not_there_is_named(run):
    """By its first word only."""

    async def main():
        message = await refusal(CommandProvider("no-such-program --password hunter2", timeout=PATIENCE))
        assert (
            message
            == "no token from command:no-such-program: it cannot be started (No such file or directory): check its name and PATH"
        )

    run(main)


def test_a_program_that_prints_without_end_does_not_fill_the_memory(run):
    """Its output is read, counted and thrown away."""

    async def main():
        assert "it printed more than 256 KiB" in await refusal(shell("head -c 5000000 /dev/zero | tr '\\0' x"))

    run(main)


def test_a_complaint_larger_than_a_pipe_does_not_block_the_program(run):
    """Both streams are read at the same time."""

    async def main():
        assert (await shell("head -c 1000000 /dev/zero >&2; echo token").fetch()).value == "token"

    run(main)


def test_a_program_that_takes_too_long_is_given_up(run):
    """Whoever waits for the token learns of it in time."""

    async def main():
        message = await refusal(shell("echo hunter2; exec sleep 600", timeout=0.05))
        assert message == "no token from command:sh: no answer within 0.05 s: raise --auth-timeout, or see why"

    run(main)


def test_a_program_that_cannot_be_killed_is_not_waited_for(run, monkeypatch):
    """It runs as another user, for example."""
    groups = []

    def refuse(group, number):
        groups.append(group)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("rig.auth.command.os.killpg", refuse)
    monkeypatch.setattr("rig.auth.command._DYING", 0.05)

    async def main():
        provider = shell("exec sleep 5", timeout=0.05)
        assert "no answer within" in await refusal(provider)

    run(main)
    monkeypatch.undo()
    os.killpg(groups[0], signal.SIGKILL)
    for thread in [thread for thread in threading.enumerate() if thread.name == "rig-command"]:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize("leaving", ["wait", "exit 0"])
def test_what_the_program_has_started_ends_with_it(run, tmp_path, leaving):
    """The whole process group is killed, even if its first process has left already and only its child holds the pipes."""
    held = tmp_path / "held"
    os.mkfifo(held)

    async def main():
        asking = asyncio.create_task(shell(f"exec 3>{held}; echo started >&3; sleep 20 & {leaving}").fetch())
        descriptor = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
        assert await _next(descriptor) == b"started\n"

        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        # The pipe ends when nobody is left who has it open.
        assert await _next(descriptor) == b""
        os.close(descriptor)

    run(main)


def test_what_the_program_leaves_behind_in_peace_is_not_killed(run, tmp_path):
    """An agent that it starts, with pipes of its own, may go on."""
    held = tmp_path / "held"
    os.mkfifo(held)

    async def main():
        provider = shell(f"(read line < {held}; echo $line > {tmp_path}/told) >/dev/null 2>&1 & echo token")
        assert (await provider.fetch()).value == "token"

        await asyncio.to_thread(held.write_text, "alive\n")
        async with asyncio.timeout(5):
            while not (tmp_path / "told").exists() or not (tmp_path / "told").read_text():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.003)
        assert (tmp_path / "told").read_text() == "alive\n"

    run(main)


async def _next(pipe: int) -> bytes:
    """Wait for what comes next out of a pipe, or for its end; a pipe that nobody has opened yet is no pipe that has ended."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe, readable.set)
    try:
        async with asyncio.timeout(5):
            await readable.wait()
            return os.read(pipe, 100)
    finally:
        loop.remove_reader(pipe)
