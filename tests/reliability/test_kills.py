"""`kill -9` of each process, at random moments, under load."""

import os
import signal

import pytest

from tests.reliability.proof import Proof, promised, scale

pytestmark = pytest.mark.soak

KILLS_A_RUN = 5
"""Rounds before rig is started anew: the more deaths in a row, the longer the pause after each."""
LANES = 16
ROUNDS = int(scale(5, 50))


def test_workers_killed(play):
    """A killed worker's successor goes on where it was: at most the events in hand are handled again, nothing is lost."""

    async def test(stage):
        proof = Proof(stage, "kill -9 of a worker")
        while proof.rounds < ROUNDS:
            rig = await proof.run(PROOF_WORK="0.0005")
            proof.traffic.start()
            for _ in range(KILLS_A_RUN):
                await proof.pause(0.3, 1.0)
                proof.kill(proof.random.choice(rig.pids("rig.worker")))
            await proof.settle()
            await rig.drain()
        assert not promised(proof.account(), repeated=LANES * proof.rounds)

    play(test, seconds=1200)


def test_io_process_killed(play):
    """What is in the rings is handled, what was on its way is sent again from the cursor on, and no event comes twice."""

    async def test(stage):
        proof = Proof(stage, "kill -9 of the io process")
        while proof.rounds < ROUNDS:
            rig = await proof.run()
            proof.traffic.start()
            for _ in range(KILLS_A_RUN):
                await proof.pause(0.2, 1.0)
                await proof.until_joined(rig)
                proof.kill(rig.pids("rig.io")[0])
            await proof.settle()
            await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=1200)


def test_everything_killed(play):
    """After the loss of all processes the next run goes on at the cursors: what was in the rings comes again, nothing is lost."""

    async def test(stage):
        proof = Proof(stage, "kill -9 of the supervisor, and with it of all")
        rig = await proof.run()
        proof.traffic.start()
        while proof.rounds < ROUNDS:
            await proof.pause(0.2, 2.5)
            proof.kill(rig.process.pid)
            await rig.end()
            await stage.until_gone()
            rig = await proof.run()
        await proof.settle()
        await rig.drain()
        assert not promised(proof.account(), repeated=1000 * proof.rounds)

    play(test, seconds=1200)


def test_any_process_killed(play):
    """Whichever process dies, and in whatever order: nothing is lost, nothing comes out of order."""

    async def test(stage):
        proof = Proof(stage, "kill -9 of any process")
        while proof.rounds < ROUNDS:
            rig = await proof.run("--io-processes", "2", PROOF_WORK="0.0005")
            proof.traffic.start()
            for _ in range(KILLS_A_RUN):
                await proof.pause(0.2, 1.0)
                proof.kill(proof.random.choice([*rig.pids("rig.worker"), *rig.pids("rig.io")]))
            await proof.pause(0.1, 0.5)
            if proof.random.random() < 0.5:
                proof.kill(rig.process.pid)
                await rig.end()
                await stage.until_gone()
                rig = await proof.run("--io-processes", "2")
            await proof.settle()
            await rig.drain()
        assert not promised(proof.account(), repeated=1000 * proof.rounds)

    play(test, seconds=1200)


def test_a_worker_that_is_stopped(play):
    """A worker under SIGSTOP delays its own topics and nobody else's; afterwards everything is handled, with one connection."""

    async def test(stage):
        proof = Proof(stage, "SIGSTOP of a worker")
        rig = await proof.run("--ring-bytes", "64KiB", "--pause-limit", "1")
        first = stage.client
        proof.traffic.start()
        [pid] = rig.pids("rig.worker")[:1]
        os.kill(pid, signal.SIGSTOP)
        proof.rounds = 1
        try:
            await proof.pause(scale(5, 60), scale(6, 61))
        finally:
            os.kill(pid, signal.SIGCONT)
        await proof.settle()
        assert stage.client == first
        await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=300)
