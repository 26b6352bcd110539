"""`rig bench`."""

import pytest


@pytest.fixture
def benched(replace_module):
    """The arguments of the benchmark."""
    calls = []
    replace_module("rig.benchmark", main=lambda *args: calls.append(args) or 0)
    return calls


def test_it_measures_with_sensible_numbers(rig, benched):
    """Nothing has to be given."""
    assert rig("bench").exit_code == 0
    assert benched == [(1_000_000, (1, 2), (1000, 10_000), False)]


def test_numbers_can_be_chosen(rig, benched):
    """Lists have commas."""
    rig("bench", "--events", "500", "--workers", "4", "--rates", "10, 20,30", "--json")

    assert benched == [(500, (4,), (10, 20, 30), True)]


@pytest.mark.parametrize("args", [("--workers", "x"), ("--workers", "0"), ("--rates", ""), ("--rates", "1,,2"), ("--events", "0")])
def test_wrong_numbers_are_refused(rig, benched, args):
    """Before anything is measured."""
    assert rig("bench", *args).exit_code == 2
    assert benched == []
