"""`rig bench` that is interrupted: whenever and however that is, nothing of it runs on."""

import signal

import psutil
import pytest

INTERRUPTED = 130
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def has(stage, *words):
    """Return whether a process of this test was started with all these words."""
    try:
        return any(set(words) <= set(process.cmdline()) for process in stage.processes())
    except psutil.NoSuchProcess:
        return False


MOMENTS = {
    "the server starts": lambda stage: has(stage, "mock_server"),
    "rig run starts": lambda stage: has(stage, "rig.benchmark.run"),
    "it joins": lambda stage: has(stage, "rig.io"),
    "it settles": lambda stage: list(stage.folder.glob("tmp/rig-bench-*/board-*")),
    "it is measured": lambda stage: [path for path in stage.folder.glob("tmp/rig-bench-*/board-*") if any(path.read_bytes())],
}


OFTEN = ("rig run starts", "it settles")
"""Moments that are tried every time, the others only with those tests that may take long."""
CASES = [
    pytest.param(
        moment,
        number,
        id=f"{moment}-{number.name}",
        marks=() if moment in OFTEN and number != signal.SIGTERM else pytest.mark.slow,
    )
    for moment in MOMENTS
    for number in SIGNALS
]


@pytest.mark.parametrize(("moment", "number"), CASES)
def test_whenever_it_is_interrupted_nothing_is_left(play, until, moment, number):
    """Its server and the run that it measures end with it, and so does their directory, unless a kill kept it from that."""

    async def test(stage):
        (stage.folder / "tmp").mkdir()
        arguments = ("bench", "--workers", "1", "--rates", "1000", "--events", "50000000")
        bench = await stage.rig(*arguments, TMPDIR=str(stage.folder / "tmp"))
        await until(lambda: MOMENTS[moment](stage))
        bench.signal(number)
        code = await bench.end(within=10)
        await stage.until_gone()

        assert code == (-number if number == signal.SIGKILL else INTERRUPTED)
        assert not any("Traceback" in line for line in bench.err), bench.err
        assert number == signal.SIGKILL or list((stage.folder / "tmp").iterdir()) == []

    play(test)
