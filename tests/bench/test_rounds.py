"""What is made of the rounds, and what the goals say of it."""

from bench.contenders import contenders
from bench.goals import goals
from bench.rounds import Measured, Round, summarise
from rig.benchmark.measure import STEP, Latency, Quantiles
from rig.benchmark.tally import Loss

NOTHING = Loss(lost=0, duplicated=0, reordered=0)


def rounds(*rates, lost=0):
    """Make a round for each rate."""
    return [Round(1000, 1000 / rate, rate, lost, 0, 0, {"client": 1_000_000 / rate}, {}) for rate in rates]


def contender(key):
    """Find one of the real ones."""
    return next(one for one in contenders() if one.key == key)


def standings(**by_key):
    """Sum up some contenders."""
    table = {key.replace("_", "-"): value for key, value in by_key.items()}
    return {key: summarise(contender(key), table) for key in table}


def measured(throughput=(), latency=()):
    """Make a run."""
    return Measured(list(throughput), list(latency), [], Quantiles(1.0, 2.0, 3.0), {})


def test_ratios_are_taken_within_a_round():
    """A slow moment of the machine slows both sides of a ratio, not one."""
    found = standings(rig_1=rounds(600, 300, 500), websockets=rounds(100, 50, 250))

    assert found["websockets"].rig_is_faster_by == {"rig-1": 6.0}
    assert (found["rig-1"].rate, found["websockets"].rate) == (500, 100)
    assert found["rig-1"].rig_is_faster_by == {}


def test_losses_of_all_rounds_add_up():
    """One bad round is enough to be known as lossy."""
    found = standings(rig_1=rounds(600, 300, lost=2), websockets=rounds(100, 50))

    assert found["rig-1"].lost == 4
    assert not measured(found.values()).lossless
    assert measured([found["websockets"]]).lossless


def test_a_run_with_a_lossy_latency_is_not_lossless():
    """Nothing that is lost is left out of the verdict."""
    lossy = Latency(1, 1000, 1.0, 1000, Quantiles(0.1, 0.2, 0.3), Loss(1, 0, 0), {}, {}, {})

    assert not measured(latency=[lossy]).lossless


def test_goals_compare_what_was_measured():
    """A goal is met or not, by its own figure."""
    found = standings(rig_1=rounds(599_999), rig_2=rounds(700_000), websockets=rounds(100_000))
    quick = Latency(1, 1000, 1.0, 1000, Quantiles(0.2, 2.1, 3.0), NOTHING, {"io": 9.9}, {"io": 51.0}, {"io": 20.0})

    verdicts = {goal.what: goal.met for goal in goals(measured(found.values(), [quick]))}

    assert verdicts == {
        "rig, 1 worker: events/s": False,
        "rig, 2 workers: events/s": True,
        "rig, 1 worker, beside websockets + json": True,
        "latency at 1,000/s, workers: 1: p50, p99": False,
        "io process at 1,000/s: CPU": True,
        "io process: RSS": False,
        "connect and first join": True,
    }


def test_rounds_are_whole_steps():
    """A flood of rig ends where its last event is posted, however short it is asked to be."""
    assert {contender("rig-1").events(share) % STEP for share in (1.0, 0.2, 0.0)} == {0}
    assert contender("rig-1").events(0.0) == STEP
