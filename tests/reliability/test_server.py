"""What servers and networks do to a connection, under load."""

import itertools

import pytest

from tests.reliability.proof import Proof, promised, scale
from tests.stage import until

pytestmark = pytest.mark.soak

ROUNDS = int(scale(4, 10))
"""The more ends in a row, the longer the pause after each."""
CODES = (1000, 1001, 1011, 1012, 4000)


def endure(play, name, harm, *options, rounds=ROUNDS):
    """Do a harm again and again while traffic flows, and insist that nothing is lost, repeated or out of order."""

    async def test(stage):
        proof = Proof(stage, name)
        rig = await proof.run(*options)
        proof.traffic.start()
        while proof.rounds < rounds:
            await proof.pause(0.1, 1.0)
            await proof.until_joined(rig)
            await harm(proof, rig)
            proof.rounds += 1
        await proof.settle()
        await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=1200)


def test_connection_cut(play):
    """A network that cuts connections costs nothing where topics resume by cursor."""

    async def cut(proof, rig):
        proof.stage.server.close_where(0)

    endure(play, "network cut", cut)


def test_server_closes(play):
    """Whatever the code with which a server closes, rig comes back, and nothing is lost."""
    codes = itertools.cycle(CODES)

    async def close(proof, rig):
        proof.stage.server.close_where(next(codes))

    endure(play, f"server closes: {', '.join(map(str, CODES))}", close, rounds=max(ROUNDS, len(CODES)))


def test_server_drains(play):
    """A server that shuts down sends its clients away; they come back and miss nothing."""

    async def drain(proof, rig):
        proof.stage.server.drain(None)

    endure(play, "server drains", drain)


def test_server_crashes(play):
    """A server that is killed and started again finds rig at its door, and nothing that it kept is missed."""

    async def crash(proof, rig):
        await proof.stage.server.crash()
        await proof.pause(0.0, 0.5)
        await proof.stage.server.start()

    endure(play, "server crashes and restarts", crash)


def test_half_open(play):
    """A peer that is silent without closing is found by its heartbeats; what it kept back comes with the next connection."""

    async def freeze(proof, rig):
        server, first = proof.stage.server, proof.stage.client
        server.freeze()
        await rig.hear("connection lost", times=proof.rounds + 1, cause="heartbeat_lost")
        server.thaw()
        await until(lambda: any(client["client"] != first for client in server.clients))

    endure(play, "half-open link", freeze, "--heartbeat-interval", "1", "--heartbeat-timeout", "0.5", rounds=ROUNDS // 2)
