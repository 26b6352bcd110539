"""Which run is meant."""

import pytest

from rig.admin.address import listen
from rig.admin.client import find
from rig.errors import NoRun
from rig.store import directory as directories


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The place of state directories that were not named."""
    folder = tmp_path / "apps"
    monkeypatch.setattr(directories, "root", lambda: folder)
    return folder


def test_the_one_that_is_named(tmp_path):
    """If it answers."""
    with listen(tmp_path):
        assert find(str(tmp_path)) == tmp_path
    with pytest.raises(NoRun, match=r"no run answers at .*admin\.sock: start rig run with --state-dir"):
        find(str(tmp_path))


def test_the_only_one_that_runs(root):
    """One that has ended is not meant, whatever it has left behind."""
    for name in ("shop", "max"):
        (root / name).mkdir(parents=True)
    listen(root / "max").close()
    with listen(root / "shop"):
        assert find(None) == root / "shop"


def test_none_at_all(root):
    """Neither without the folder nor with an empty one."""
    for _ in range(2):
        with pytest.raises(NoRun, match=r"no run answers under .*apps: start rig run"):
            find(None)
        root.mkdir(exist_ok=True)


def test_of_several_one_must_be_named(root):
    """The error lists them."""
    for name in ("shop", "max"):
        (root / name).mkdir(parents=True)
    with listen(root / "shop"), listen(root / "max"), pytest.raises(NoRun) as raised:
        find(None)
    assert f"--state-dir {root / 'max'} or --state-dir {root / 'shop'}" in str(raised.value)
