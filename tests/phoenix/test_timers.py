"""`rig.phoenix.timers`."""

import math

from hypothesis import given
from hypothesis import strategies as st

from rig.phoenix.timers import Timers


def test_earliest_first():
    """Timers come up in the order of their times, whatever the order in which they were set."""
    timers = Timers()
    timers.set("b", 2.0)
    timers.set("a", 1.0)
    timers.set("c", 3.0)

    assert timers.deadline == 1.0
    assert timers.due(2.0) == ["a", "b"]
    assert timers.deadline == 3.0
    assert len(timers) == 1


def test_not_due_before_its_time():
    """A timer is due at its time, and not a moment earlier."""
    timers = Timers()
    timers.set("a", 1.0)

    assert timers.due(math.nextafter(1.0, 0.0)) == []
    assert timers.due(1.0) == ["a"]
    assert timers.due(1.0) == []


def test_setting_again_replaces():
    """A key has one time: the one set last, be it earlier, later or the same."""
    timers = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)
    assert timers.deadline == 5.0
    timers.set("a", 3.0)
    timers.set("a", 3.0)

    assert timers.due(2.0) == []
    assert timers.due(9.0) == ["a"]
    assert timers.due(9.0) == []


def test_a_cancelled_timer_never_comes_up():
    """A cancelled timer is gone, and cancelling what is not set is fine."""
    timers = Timers()
    timers.set("a", 1.0)
    timers.cancel("a")
    timers.cancel("never set")

    assert "a" not in timers
    assert timers.deadline == math.inf
    assert timers.due(9.0) == []


def test_one_time_in_the_order_of_setting():
    """Of timers with the same time the one set first comes first, even after the heap was rebuilt."""
    timers = Timers()
    for i in range(500):
        timers.set(i % 100, 7.0)

    assert timers.due(7.0) == [i % 100 for i in range(400, 500)]


def test_cancelled_timers_do_not_pile_up():
    """A hundred thousand pushes that were answered leave no heap behind."""
    timers = Timers()
    timers.set("stays", 1e9)
    for i in range(10_000):
        timers.set(i, 1e6)
        timers.cancel(i)
        timers.set("same key and time", 1e6)

    assert len(timers._heap) < 200


@given(st.lists(st.tuples(st.sampled_from(["set", "cancel", "due"]), st.integers(0, 5), st.integers(0, 20))))
def test_behaves_as_a_dict_of_times(operations):
    """Any sequence of operations gives what a dictionary from key to time would give."""
    timers, model = Timers(), {}
    for operation, key, when in operations:
        match operation:
            case "set":
                timers.set(key, float(when))
                model[key] = float(when)
            case "cancel":
                timers.cancel(key)
                model.pop(key, None)
            case _:
                due = timers.due(float(when))
                assert [model[k] for k in due] == sorted(model[k] for k in due)
                assert set(due) == {k for k, at in model.items() if at <= when}
                model = {k: at for k, at in model.items() if at > when}
        assert len(timers) == len(model)
        assert timers.deadline == min(model.values(), default=math.inf)
