"""The declaration of the options."""

import msgspec
import pytest

from rig.config import Settings, options
from rig.config.load import load


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (4, 3), (64, 63)])
def test_auto_leaves_one_core_to_the_io_process(cores, workers):
    """`auto` is one worker less than there are cores, and at least one."""
    assert Settings().resolve_workers(cores) == workers


@pytest.mark.parametrize(("cores", "io_processes", "workers"), [(8, 2, 6), (4, 4, 1), (2, 64, 1)])
def test_auto_leaves_a_core_to_each_io_process(cores, io_processes, workers):
    """There is always one worker."""
    assert Settings(io_processes=io_processes).resolve_workers(cores) == workers


def test_a_number_of_workers_is_taken_as_it_is():
    """Whoever asks for more workers than cores gets them."""
    assert Settings(workers=7).resolve_workers(2) == 7


def test_every_default_satisfies_its_own_limits():
    """The defaults would be accepted if somebody wrote them down."""
    for option in options():
        assert msgspec.convert(msgspec.to_builtins(option.default), option.type) == option.default


def test_defaults_alone_make_a_valid_set():
    """Nothing has to be configured."""
    assert load("run", {}, {}, None).settings == Settings()


def test_settings_travel_to_a_child_process_as_json():
    """A child gets the same settings as the supervisor has."""
    settings = Settings(url=("ws://x/socket", "ws://y/socket"), param={"a": "1"}, header=(("A", "1"),), workers=2)

    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
