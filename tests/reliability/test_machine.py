"""What a machine does to a process: a full disk, a clock that jumps."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from tests.reliability.proof import Proof, promised, scale
from tests.stage import until

pytestmark = pytest.mark.soak


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    """Mount a file system in memory that is soon full; that needs the rights to do so."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_disk_full(play):
    """A full disk refuses durable pushes, loudly; live events go on, and when there is room again everything is stored and sent."""

    async def test(stage):
        with small_disk(stage.state, "8m"):
            proof = Proof(stage, "disk full")
            rig = await proof.run()
            proof.traffic.start()
            balloon = stage.state / "balloon"
            while proof.rounds < scale(2, 10):
                await proof.pause(0.2, 0.5)
                with contextlib.suppress(OSError), balloon.open("wb", buffering=0) as file:
                    while file.write(b"x" * 4096):
                        pass
                stage.server.faults.change({"refuse_joins": "ledger:*"})  # so that the outbox outgrows what its file has already
                for number in range(8):
                    stage.server.kill_channels(f"ledger:{number}")
                refused, lives = len(stage.ledger.all("refused")), len(stage.ledger.all("live"))
                await until(lambda refused=refused: len(stage.ledger.all("refused")) > refused)
                stage.server.publish("room:live", "live", {"i": proof.rounds})
                await until(lambda lives=lives: len(stage.ledger.all("live")) > lives)
                stage.server.faults.change({"refuse_joins": False})
                balloon.unlink()
                proof.rounds += 1
                sent = proof.traffic.total
                await until(lambda sent=sent: stage.server.received.topic("ledger:0").unique * 8 > sent - 800, within=60)
            await proof.settle()
            await rig.drain()
            assert not promised(proof.account())

    play(test, seconds=300)


def test_clock_jumps(play):
    """Wall-clock time that jumps by hours, forwards and back, ends no connection and loses nothing."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed")

    async def test(stage):
        proof = Proof(stage, "clock jumps", rate=100)  # libfaketime makes each look at a clock dear
        stamp = stage.folder / "clock"
        stamp.write_text("+0")
        rig = await proof.run(
            LD_PRELOAD=str(found[0]),
            FAKETIME_TIMESTAMP_FILE=str(stamp),
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            FAKETIME_CACHE_DURATION="1",
        )
        first = stage.client
        proof.traffic.start()
        for jump in ("+3600", "-3600", "+86400", "+0"):
            stamp.write_text(jump)
            await proof.pause(1.5, scale(2, 5))
            proof.rounds += 1
        await proof.settle()
        assert stage.client == first
        await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=300)
