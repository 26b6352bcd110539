"""More than the workers can do."""

import pytest

from tests.reliability.proof import Proof, promised, scale

pytestmark = pytest.mark.soak


def test_twice_as_much_as_the_workers_can_do(play):
    """Twice the capacity for a minute: what does not fit the rings waits on disk; order holds, nothing is lost, no reconnect."""

    async def test(stage):
        proof = Proof(stage, "twice the capacity", rate=2500)
        rig = await proof.run("--ring-bytes", "64KiB", "--pause-limit", "1", PROOF_WORK="0.005")
        first = stage.client
        proof.traffic.start()
        proof.rounds = 1
        await proof.pause(scale(5, 60), scale(6, 60))
        await proof.settle(within=300)
        assert stage.client == first
        await rig.drain()
        assert not promised(proof.account())

    play(test, seconds=600)
