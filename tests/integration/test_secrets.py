"""What other users of the machine can see of a running worker: the command lines of its processes."""

from pathlib import Path

SECRET = "distinctive-hunter2"


def command_lines(stage):
    """Return what `ps` shows of every process of the test, by module."""
    return [Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for process in stage.processes()]


def test_no_command_line_has_a_secret_of_the_settings(play):
    """Settings reach the processes over a socket; tokens are asked for where they are used. Nor does the log have them."""

    async def test(stage):
        token = stage.folder / "token"
        token.touch(0o600)
        token.write_text(SECRET)
        (stage.folder / "rig.toml").write_text(
            f'auth = "file:{token}"\n[param]\ntoken = "{SECRET}-param"\n[header]\nX-Key = "{SECRET}-header"\n'
        )
        rig = await stage.run_worker("--config", str(stage.folder / "rig.toml"), "--log-level", "debug", topics=2)
        shown = command_lines(stage)
        await rig.drain()

        assert len(shown) >= 4, shown
        assert sum(" -m rig.io " in line for line in shown) == 1, shown
        assert SECRET not in "\n".join(shown)
        assert SECRET not in "\n".join([*rig.out, *rig.err])

    play(test)


def test_the_bundled_server_is_not_told_secrets_either(play):
    """It runs as a program of its own."""

    async def test(stage):
        (stage.folder / "rig.toml").write_text(f'[param]\ntoken = "{SECRET}"\n')
        rig = await stage.rig("run", "--workers", "1", "--log-format", "json")
        await rig.hear("connected")
        shown = command_lines(stage)
        await rig.drain()

        assert sum("mock_server" in line for line in shown) >= 1, shown
        assert SECRET not in "\n".join([*shown, *rig.out, *rig.err])

    play(test)
