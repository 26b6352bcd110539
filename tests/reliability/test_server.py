"""What servers and networks do to a connection, under load."""

import pytest

from tests.reliability.proof import Proof, promised, scale
from tests.stage import until

pytestmark = pytest.mark.soak

ROUNDS = int(scale(4, 10))


def test_connection_cut(play):
    """A network that cuts connections costs nothing where topics resume by cursor."""

    async def test(stage):
        proof = Proof(stage, "network cut")
        rig = await proof.run()
        proof.traffic.start()
        while proof.rounds < ROUNDS:
            await proof.pause(0.1, 1.0)
            await proof.until_joined(rig)
            stage.server.close_where(0)
            proof.rounds += 1
        await proof.settle()
        await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=1200)


def test_server_closes(play):
    """Whatever the code with which a server closes, rig comes back, and nothing is lost."""

    async def test(stage):
        proof = Proof(stage, "server closes: 1000, 1001, 1011, 1012, 4000")
        rig = await proof.run()
        proof.traffic.start()
        for code in (1000, 1001, 1011, 1012, 4000) * (ROUNDS // 4):
            await proof.pause(0.1, 0.5)
            await proof.until_joined(rig)
            stage.server.close_where(code)
            proof.rounds += 1
        await proof.settle()
        await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=1200)


def test_server_drains(play):
    """A server that shuts down sends its clients away; they come back and miss nothing."""

    async def test(stage):
        proof = Proof(stage, "server drains")
        rig = await proof.run()
        proof.traffic.start()
        while proof.rounds < ROUNDS:
            await proof.pause(0.1, 1.0)
            await proof.until_joined(rig)
            stage.server.drain(None)
            proof.rounds += 1
        await proof.settle()
        await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=1200)


def test_server_crashes(play):
    """A server that is killed and started again finds rig at its door, and nothing that it kept is missed."""

    async def test(stage):
        proof = Proof(stage, "server crashes and restarts")
        rig = await proof.run()
        proof.traffic.start()
        while proof.rounds < ROUNDS:
            await proof.pause(0.1, 1.0)
            await proof.until_joined(rig)
            await stage.server.crash()
            await proof.pause(0.0, 0.5)
            await stage.server.start()
            proof.rounds += 1
        await proof.settle()
        await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=1200)


def test_half_open(play):
    """A peer that is silent without closing is found by its heartbeats; what it kept back comes with the next connection."""

    async def test(stage):
        proof = Proof(stage, "half-open link")
        rig = await proof.run("--heartbeat-interval", "1", "--heartbeat-timeout", "0.5")
        proof.traffic.start()
        while proof.rounds < ROUNDS // 2:
            await proof.pause(0.1, 1.0)
            await proof.until_joined(rig)
            first = stage.client
            stage.server.freeze()
            await rig.hear("connection lost", times=proof.rounds + 1, cause="heartbeat_lost")
            stage.server.thaw()
            proof.rounds += 1
            await until(lambda first=first: any(client["client"] != first for client in stage.server.clients))
        await proof.settle()
        await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=1200)
