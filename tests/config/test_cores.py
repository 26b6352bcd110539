"""The processors that this process may use."""

import os

import pytest

from rig.config import usable_cores


def test_usable_cores_never_exceed_the_affinity():
    """A process that is pinned to some cores counts only those."""
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 4), ("200000 100000", 2), ("50000 100000", 1), ("garbage", 4)])
def test_the_quota_of_a_container_limits_the_cores(monkeypatch, quota, cores):
    """In a container with two processors on a large machine, `auto` does not start dozens of workers."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr("pathlib.Path.read_text", lambda path, encoding: quota)

    assert usable_cores() == cores
